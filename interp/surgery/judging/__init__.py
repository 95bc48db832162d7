"""What does a model do, and what has become of it?

The user's ``judge`` says how good a model is. While it runs, the calls of the model are looked at
too: the hash of their logits tells two functions apart, later tokens are changed to see whether
earlier logits look at them, and the first NaN is followed to its line.
"""

import hashlib
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from interp.errors import SurgeryError
from interp.surgery.guarding.preserving import preserve

FEW_TEXTS = 2

Judge = Callable[[nn.Module], Any]


@dataclass
class Call:
    """One call of a model: what it was given and the logits that it gave."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    logits: Float[Tensor, "batch pos vocab"]

    @property
    def tokens(self) -> Int[Tensor, "batch pos"]:
        given = [self.kwargs.get("input_ids"), *self.args, *self.kwargs.values()]
        for item in given:
            if isinstance(item, Tensor) and item.ndim == 2 and not item.is_floating_point():
                return item
        raise SurgeryError(
            "the judge must give the model its tokens as an integer tensor [batch pos]"
        )

    def repeated(
        self, model: nn.Module, tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos vocab"]:
        """The logits of the same call with other tokens."""
        ours = self.tokens
        args = tuple(tokens if item is ours else item for item in self.args)
        kwargs = {name: tokens if x is ours else x for name, x in self.kwargs.items()}
        return logits_in(model(*args, **kwargs))


@dataclass
class Judgement:
    """A model's value per example, and the calls by which it was found."""

    values: Float[np.ndarray, "example"]
    fingerprint: str
    calls: list[Call]

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.values).all()) and not any(
            bool(torch.isnan(call.logits).any()) for call in self.calls
        )


def logits_in(output: Any) -> Float[Tensor, "batch pos vocab"]:
    """The logits in whatever a model returns.

    Raises:
        SurgeryError: there is no float tensor [batch pos vocab] in it.
    """
    items = [output]
    if hasattr(output, "logits"):
        items = [output.logits]
    elif isinstance(output, Mapping):
        items = list(output.values())
    elif isinstance(output, (tuple, list)):
        items = list(output)
    for item in items:
        if isinstance(item, Tensor) and item.ndim == 3 and item.is_floating_point():
            return item
    raise SurgeryError(
        "the judge must call the model so that it returns logits [batch pos vocab], alone, in a "
        "tuple or as .logits: by them surgeries are told apart and leaks are found"
    )


@contextmanager
def calls_of(model: nn.Module) -> Iterator[list[Call]]:
    """Inside the block, every call of the model is kept."""
    calls: list[Call] = []

    def keep(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        call = Call(args, kwargs, logits_in(output).detach())
        check_width(call.logits, call.tokens)
        calls.append(call)

    handle = model.register_forward_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def check_width(logits: Tensor, tokens: Tensor) -> None:
    """Raise ``IndexError`` before a loss asks a GPU for logits that are not there: it would compute
    nothing for this process any more."""
    if logits.is_cuda and int(tokens.max()) >= logits.shape[-1]:
        raise IndexError(f"there are only {logits.shape[-1]} logits for each token")


def judge_model(model: nn.Module, judge: Judge, seed: int = 0) -> Judgement:
    """What the judge says of a model; what is drawn at random is drawn from ``seed``.

    Raises:
        SurgeryError: the judge's value is no number, nor one per example; or it never called the
            model.
    """
    with calls_of(model) as calls, same_draws(model, seed):
        value = judge(model)
    values = np.atleast_1d(np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value))
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.number):
        shape = tuple(getattr(value, "shape", ()))
        raise SurgeryError(
            "the judge must return a number, or one per example [batch], not "
            f"{type(value).__name__} of shape {shape}"
        )
    if not calls:
        raise SurgeryError("the judge must call the model that it is given; it did not")
    digest = hashlib.sha256()
    for call in calls:
        digest.update(bytes_of(call.logits))
    return Judgement(values.astype(np.float64), digest.hexdigest(), calls)


def weights_hash(model: nn.Module) -> str:
    """sha256 of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def sees_the_future(model: nn.Module, call: Call, tolerance: float = 1e-4) -> bool:
    """Whether logits depend on tokens that come later.

    The tokens of the second half are replaced; the logits of the first half must stay as they are,
    up to ``tolerance`` times their spread. The call must be one of this model as it is now. A model
    that draws random numbers, as dropout does, or changes while it runs, as running statistics do,
    is asked with the same numbers and from the same state both times.

    A model that gives logits of some positions only cannot be asked: no.
    """
    half = call.tokens.shape[1] // 2
    if half == 0 or not gives_every_position(call):
        return False
    call = with_few_texts(call)
    tokens = call.tokens.clone()
    tokens[:, half:] = other_tokens(call)[:, half:]

    def differ(before: Tensor, after: Tensor) -> bool:
        before, after = before[:, :half], after[:, :half]
        return bool((after - before).abs().max() > tolerance * (before.std() + 1e-12))

    with same_draws(model):
        seems = differ(call.logits, call.repeated(model, tokens))
    return seems and differ(answer_call(model, call, call.tokens), answer_call(model, call, tokens))


def with_few_texts(call: Call) -> Call:
    """The call with its first two texts, where tokens are all that the model is given: whether it
    looks ahead shows in them, between texts too, in less time than in many."""
    if len(call.args) != 1 or call.kwargs:
        return call
    return Call((call.tokens[:FEW_TEXTS],), {}, call.logits[:FEW_TEXTS])


def gives_every_position(call: Call) -> bool:
    """Whether a model gives logits for each token, and not for the last one only."""
    return call.logits.shape[:2] == call.tokens.shape


@torch.no_grad()
def takes_positions_first(model: nn.Module, call: Call) -> bool:
    """Whether a model reads along the first axis of its tokens and not along the second: it takes
    [pos batch]."""
    if not gives_every_position(call) or call.tokens.shape[0] < 2:
        return False
    tokens = call.tokens.clone()
    tokens[0, 0] = other_tokens(call)[0, 0]
    before, after = answer_call(model, call, call.tokens), answer_call(model, call, tokens)
    moved = (after - before).abs().amax(-1) > 1e-6 * before.std()
    return bool(moved[1:].any()) and not bool(moved[0, 1:].any())


def other_tokens(call: Call) -> Int[Tensor, "batch pos"]:
    """Another token in place of each, out of those of the call: there may be more logits than
    tokens that the model can read."""
    known, places = call.tokens.unique(return_inverse=True)
    if len(known) < 2:
        return (call.tokens + 1) % call.logits.shape[-1]
    generator = torch.Generator().manual_seed(0)
    shift = torch.randint(1, len(known), places.shape, generator=generator).to(places)
    return known[(places + shift) % len(known)]


def answer_call(model: nn.Module, call: Call, tokens: Tensor) -> Tensor:
    """The logits of a call with other tokens; the model is as before after it."""
    with preserve(model), same_draws(model):
        return call.repeated(model, tokens)


@contextmanager
def same_draws(model: nn.Module | None = None, seed: int = 0) -> Iterator[None]:
    """Inside the block whatever is drawn at random, by torch, numpy or Python, is drawn from
    ``seed``; after it, what would have been drawn without it."""
    parameters = () if model is None else model.parameters()
    devices = {p.get_device() for p in parameters if p.is_cuda}
    pythons, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002  # the one a model may use
    with torch.random.fork_rng(devices=sorted(devices)):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)  # noqa: NPY002


class FirstNaN(TorchDispatchMode):
    """Notes the first operation that makes a NaN of numbers, and the line from which it came."""

    def __init__(self, filenames: Collection[str]) -> None:
        super().__init__()
        self.filenames = filenames
        self.operation: str | None = None
        self.line: int | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if self.operation is None and has_nan(output) and not has_nan(args):
            self.operation = func.overloadpacket.__name__.strip("_")
            frame = sys._getframe(1)
            while frame is not None and frame.f_code.co_filename not in self.filenames:
                frame = frame.f_back  # type: ignore[assignment]
            self.line = None if frame is None else frame.f_lineno
        return output


def has_nan(items: Any) -> bool:
    if isinstance(items, Tensor):
        return items.is_floating_point() and bool(torch.isnan(items).any())
    return isinstance(items, (tuple, list)) and any(has_nan(item) for item in items)


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().float().cpu().contiguous().numpy().tobytes()
