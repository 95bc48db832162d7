"""Do two files train alike?

    training_fingerprint(build, call, targets) == that of the uncut file

Every bit counts: what a cut does to the weights, to the logits, or to a loss of the model's own.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from interp.surgery.judging import Call, bytes_of, check_width, logits_in
from interp.surgery.judging.traces import digest_of

TARGETS = ("targets", "labels", "target", "label", "y")
"""What models call the tokens that they are to predict."""


class TrainingHashes(NamedTuple):
    """Hashes of two steps of training from scratch: what trains alike shares them.

    Attributes:
        logits: of what the model computes before the first step.
        beside: of what it hands out beside its logits, such as a loss of its own.
        steps: of every loss, and of the weights and the statistics in the end.
    """

    logits: str
    beside: str
    steps: str


def training_fingerprint(
    build: Callable[[int], nn.Module], call: Call, targets: str
) -> TrainingHashes:
    """Train a model for two steps on a call's tokens, by their loss and by the model's own.

    Plain gradient descent: what moves the weights shows, however little.

    Args:
        build: makes a model from a seed.
        call: how the model is called.
        targets: the parameter that takes the next tokens, see ``targets_of``; may be empty.
    """
    torch.manual_seed(0)
    model = build(0).to(call.tokens.device)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = with_targets(call, targets)
    built = statistics_of(model)
    logits_first, beside, steps = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for step in range(2):
        output = model(*given.args, **given.kwargs)
        logits = logits_in(output)
        own = [x for x in (*floats_in(output), *floats_left_on(model)) if x is not logits]
        check_width(logits, call.tokens)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), call.tokens[:, 1:].flatten().long())
        if step == 0:
            logits_first.update(bytes_of(logits))
            for tensor in own:
                beside.update(bytes_of(tensor))
        loss = loss + sum(x.float() for x in own if x.ndim == 0 and x.requires_grad)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.update(np.float64(loss.item()).tobytes())
    for parameter in model.parameters():
        steps.update(bytes_of(parameter))
    for place, digest in statistics_of(model).items():
        if digest != built.get(place, digest):  # one that training moves
            steps.update(digest.encode())
    return TrainingHashes(logits_first.hexdigest(), beside.hexdigest(), steps.hexdigest())


def statistics_of(model: nn.Module) -> dict[tuple[str, str], str]:
    """A digest of every tensor on a model that no gradient moves, such as a running mean, by the
    module's name and its own."""
    return {
        (name, attribute): digest_of(tensor)
        for name, module in model.named_modules()
        for attribute, tensor in {**vars(module), **module._buffers}.items()
        if isinstance(tensor, Tensor) and not tensor.requires_grad
    }


def targets_of(model: nn.Module, call: Call) -> str:
    """The parameter by which a model takes targets for a loss of its own, where the call leaves it
    out; empty where there is none, or a call that gives it fails."""
    known = inspect.signature(model.forward).parameters
    for name in [name for name in TARGETS if name in known][:1]:
        given = with_targets(call, name)
        if given is call:
            return ""
        try:
            with torch.no_grad():
                logits_in(model(*given.args, **given.kwargs))
        except Exception:
            return ""
        return name
    return ""


def with_targets(call: Call, name: str) -> Call:
    """The call with the next tokens as its targets, unless it has some."""
    if not name or name in call.kwargs or len(call.args) > 1:
        return call
    following = call.tokens.roll(-1, dims=1)
    return replace(call, kwargs={**call.kwargs, name: following})


def floats_in(output: Any) -> list[Tensor]:
    """Every float tensor in what a model returns."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    items = output.values() if isinstance(output, Mapping) else output
    if not isinstance(output, (Mapping, tuple, list)):
        items = vars(output).values() if hasattr(output, "logits") else ()
    return [tensor for item in items for tensor in floats_in(item)]


def floats_left_on(model: nn.Module) -> list[Tensor]:
    """What a run left on the modules that training could still move: terms of a loss."""
    return [
        tensor
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, (Tensor, tuple, list))
        for tensor in floats_in(value)
        if tensor.grad_fn is not None
    ]
