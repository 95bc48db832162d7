"""How does an interrupted training go on as if nothing had happened?

Between two steps all that the next one depends on is written to one file: weights, the optimizer's
moments, the generators of random numbers, and how far the training is. What is read back is
believed only where it is what this very training can have written: torch's fused optimizer reads
moments of another shape from beyond their memory, and a wrong number trains on like a right one.

    save_state("run.state", model, optimizer, curve, identity, step=500)
    step, curve = load_state("run.state", model, optimizer, identity)
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpt import checkpoint
from gpt.errors import UsageError

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's, by its own names
Losses = dict[str, Any]  # of one evaluation: step, train_loss, val_loss


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C into a question to ask between steps: a step half done cannot be resumed."""
    asked: list[int] = []  # no Event: a second Ctrl-C within its set() would wait for ever
    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(asked)
        return
    previous = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, previous)


def exists(path: str | Path) -> bool:
    """Whether a state was left here. Raises ``UsageError`` where that cannot be known."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    return True


def save_state(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    curve: Sequence[Losses],
    identity: Mapping[str, Any],
    step: int,
) -> None:
    """Write all that the next step depends on. Raises ``UsageError`` where the disk refuses."""
    tensors, device = {"rng.cpu": torch.get_rng_state()}, device_of_weights(model)
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    tensors |= {f"model.{name}": value for name, value in checkpoint.values_of(model).items()}
    updates = {}
    for name, parameter in model.named_parameters():
        if moments := optimizer.state.get(parameter):
            tensors |= {f"optimizer.{key}.{name}": moments[key] for key in MOMENTS}
            updates[name] = int(moments["step"])
    about = {"identity": identity, "step": step, "curve": list(curve), "updates": updates}
    checkpoint.write_tensors(path, tensors, about)


def load_state(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    identity: Mapping[str, Any],
) -> tuple[int, list[Losses]]:
    """Put a saved state back.

    Args:
        path: of the state.
        model: takes its weights.
        optimizer: takes its moments; none of them may be there yet.
        identity: what decides the training; ``train`` holds the recipe.

    Returns:
        The step to go on from, and the evaluations so far.

    Raises:
        UsageError: the file is damaged, is no state, or is another training's; nothing is changed.
    """
    tensors, metadata = checkpoint.read(path)
    if not {"identity", "step", "curve", "updates"} <= metadata.keys():
        raise UsageError(f"{path} is not the state of a training: give the state another path")
    if metadata["identity"] != identity:
        other = metadata["identity"] if isinstance(metadata["identity"], dict) else {}
        differing = ", ".join(key for key in identity if identity[key] != other.get(key))
        raise UsageError(
            f"{path} is the state of another training (it differs in: {differing}): "
            f"delete it, or give the state another path"
        )
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("model.")
    }
    checkpoint.check_fit(model, weights, path)
    wrong = (
        wrong_position(metadata, identity["train"])
        or wrong_moments(tensors, metadata, model)
        or wrong_generators(tensors, device_of_weights(model))
    )
    if wrong:
        raise UsageError(
            f"{path} is no state that this training can have left ({wrong}): delete it to train "
            f"from the start"
        )
    checkpoint.put(model, weights, path)
    for name, parameter in model.named_parameters():
        if name in metadata["updates"]:
            moments = {key: tensors[f"optimizer.{key}.{name}"] for key in MOMENTS}
            optimizer.state[parameter] = {
                key: value.to(parameter.device) for key, value in moments.items()
            }
    torch.set_rng_state(tensors["rng.cpu"])
    if device_of_weights(model).type == "cuda":
        torch.cuda.set_rng_state(tensors["rng.cuda"], device_of_weights(model))
    return metadata["step"], metadata["curve"]


def wrong_position(metadata: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """What is wrong with how far a state says that its training is; empty where nothing is."""
    step, curve, updates = metadata["step"], metadata["curve"], metadata["updates"]
    if type(step) is not int or not 0 <= step < recipe["steps"]:
        return f"it is at step {step} of {recipe['steps']}"
    expected = list(range(0, step + 1, recipe["eval_interval"]))
    try:
        evaluated = [losses["step"] for losses in curve]
        finite = torch.tensor([[losses["train_loss"], losses["val_loss"]] for losses in curve])
        known = all(
            losses.keys() == {"step", "train_loss", "val_loss", "sample"}
            and isinstance(losses["sample"], str)
            for losses in curve
        )
        made = max(updates.values(), default=0)
        counted = all(type(count) is int and count > 0 for count in updates.values())
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        return "its losses or its counts are no numbers"
    if evaluated != expected or not known or not finite.isfinite().all():
        return f"at step {step} it was evaluated at steps {evaluated}"
    if not counted or made != step:
        return f"it is at step {step}, and its optimizer made {made} updates"
    return ""


def wrong_moments(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], model: nn.Module
) -> str:
    """What is wrong with a state's tensors; empty where nothing is."""
    parameters, updates = dict(model.named_parameters()), metadata["updates"]
    names = {"rng.cpu", "rng.cuda", *(name for name in tensors if name.startswith("model."))}
    for name, count in updates.items():
        if name not in parameters:
            return f"it has moments of {name}, which the model does not have"
        for key in MOMENTS:
            full = f"optimizer.{key}.{name}"
            names.add(full)
            if full not in tensors:
                return f"{full} is missing"
            tensor, like = tensors[full], parameters[name]
            shape, dtype = ((), torch.float32) if key == "step" else (like.shape, like.dtype)
            if tensor.shape != shape or tensor.dtype != dtype:
                had = f"{checkpoint.dtype_of(tensor)} {checkpoint.shape_of_tensor(tensor)}"
                return f"{full} is {had}, and {name} is {tuple(like.shape)}"
            if not tensor.isfinite().all() or (key == "exp_avg_sq" and (tensor < 0).any()):
                return f"{full} holds a number that no update makes"
            if key == "step" and tensor != count:
                return f"{full} is {tensor.item():g}, after {count} updates"
    if extra := set(tensors) - names:
        return f"it holds {min(extra)}, which no training writes"
    return ""


def wrong_generators(tensors: Mapping[str, Tensor], device: torch.device) -> str:
    """What is wrong with a state's generators of random numbers; empty where nothing is."""
    for kind in dict.fromkeys(("cpu", device.type)):
        try:
            torch.Generator(kind).set_state(tensors[f"rng.{kind}"])
        except KeyError:
            return f"rng.{kind} is missing"
        except (RuntimeError, TypeError) as error:
            return f"rng.{kind} is no state of a generator: {str(error).splitlines()[0]}"
    return ""


def device_of_weights(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
