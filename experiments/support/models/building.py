"""How is somebody's model built, by class or by function, and is it the same each time?

make = builder(load_foreign("model.py"), "model.py:GPT", "", sizes_of(preset))
model = make(0)
"""

import ast
import contextlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from experiments.support.models.asking import Ask, find_way
from experiments.support.models.blaming import blame, silence
from experiments.support.models.configs import arguments
from experiments.support.models.loading import Loaded, load_foreign
from experiments.support.models.sizes import Sizes
from gpt.errors import UsageError, nearest
from gpt.text import Data
from gpt.train import Preset

LARGEST = 200_000_000  # parameters


def read_setting(given: str) -> tuple[str, Any]:
    """``NAME=VALUE`` as name and value: a number, a word, a list, None."""
    name, equals, value = given.partition("=")
    if not equals or not name.strip().isidentifier():
        raise UsageError(f"--set is {given!r}; write NAME=VALUE, as in --set n_kv_head=2")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()


def split_name(option: str, given: str) -> tuple[str, str]:
    """``FILE:NAME`` in two."""
    path, _, name = given.rpartition(":")
    if not path or not name:
        what = {
            "--model": "FILE:Class, as in model.py:GPT",
            "--build": "FILE:function, as in build.py:make",
            "--judge": "FILE:function, as in judge.py:ask",
        }[option]
        raise UsageError(f"{option} is {given!r}; write {what}")
    return path, name


def function_of(option: str, given: str, loaded: Loaded | None = None) -> Callable[..., Any]:
    """The function that an option names."""
    path, name = split_name(option, given)
    module = (loaded or load_foreign(path, {}, afresh=False)).module
    found: Any = vars(module).get(name)
    if not callable(found):
        known = [key for key, item in vars(module).items() if inspect.isfunction(item)]
        raise UsageError(f"{path} has no function {name!r}; nearest: {nearest(name, known)}")
    return found


def builder(loaded: Loaded, model: str, build: str, sizes: Sizes) -> Callable[[int], nn.Module]:
    """What makes an untrained model from a seed."""
    found: Callable[..., Any]
    module = loaded.module
    if build:
        found = function_of("--build", build, None if model else loaded)
    else:
        found = class_named(loaded, *split_name("--model", model))
    what = f"the config of {build or model} cannot be made"
    with blame(what, "; --set NAME=VALUE gives what it asks for"), silence():
        given = arguments(found, module, sizes)
    fill_left(loaded, sizes)
    bound = {name for left in loaded.left.values() for name in {*left.names, *left.replaced}}
    sizes.require_used({*vars(module)} | bound)

    if isinstance(found, type) and not is_built(found, given):
        filled = replace(sizes, fills=True, left={})
        with contextlib.suppress(Exception), silence():
            other = arguments(found, module, filled)
            if is_built(found, other):
                given = other

    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        with silence():
            built = found(**given)
            if not isinstance(built, nn.Module):
                raise UsageError(
                    f"{build or model} gives a {type(built).__name__}; it must give a model"
                )
            if isinstance(found, type) and waits_for_weights(found):
                built.init_weights()  # type: ignore[operator]
        return built

    return make


def is_built(found: type, given: dict[str, Any]) -> bool:
    """Whether a class can be built of some arguments; its numbers are not made."""
    try:
        with silence(), torch.device("meta"):
            found(**given)
    except Exception:
        return False
    return True


def fill_left(loaded: Loaded, sizes: Sizes) -> None:
    """Bind what ``--set`` gives to names that were left out of a file."""
    for path, left in loaded.left.items():
        for module in [loaded.module]:
            if str(path) == getattr(module, "__file__", ""):
                for name in [name for name in left.names if name in sizes.given]:
                    setattr(module, name, sizes.of(name, None))
                    del left.names[name]


def waits_for_weights(found: type) -> bool:
    """Whether a class has a method ``init_weights`` that its ``__init__`` does not call."""
    own: Any = vars(found).get("init_weights")
    if not inspect.isfunction(own) or len(inspect.signature(own).parameters) != 1:
        return False
    made: Any = found.__init__  # type: ignore[misc]
    return "init_weights" not in getattr(made, "__code__", own.__code__).co_names


def class_named(loaded: Loaded, path: str, name: str) -> type:
    """The module class of a file."""
    module = loaded.module
    found = vars(module).get(name)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    for left in loaded.left.values():
        if name in left.names:
            line, reason = left.names[name]
            raise UsageError(f"{name} of {path}, line {line}, cannot be had: it {reason}")
    known = [
        key
        for key, item in vars(module).items()
        if isinstance(item, type) and issubclass(item, nn.Module)
    ]
    raise UsageError(f"{path} has no module class {name!r}; nearest: {nearest(name, known)}")


def class_of(
    loaded: Loaded, model: str, make: Callable[[int], nn.Module]
) -> tuple[ModuleType, str]:
    """The module and the name of the class that is studied."""
    if model:
        return loaded.module, model.rpartition(":")[2]
    kind = type(make(0))
    module = inspect.getmodule(kind)
    assert module is not None
    return module, kind.__name__


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are shared once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def require_built(named: str, make: Callable[[int], nn.Module], sizes: Sizes) -> None:
    """Build a model twice.

    Raises:
        UsageError: it cannot be built, or is not the same with the same seed.
    """
    hint = settings_left(sizes)
    with blame(f"{named} cannot be built", hint):
        require_small(named, make, hint)
        one, two = state_of(make(0)), state_of(make(0))
    for name, tensor in one.items():
        if not is_lazy(tensor) and not torch.equal(tensor.nan_to_num(), two[name].nan_to_num()):
            raise UsageError(
                f"{named} is not the same when it is built twice with the same seed: {name} "
                "differs; build it by a function that sets its weights, as in --build build.py:make"
            )


def settings_left(sizes: Sizes) -> str:
    """What a model is built with that is as its file has it, and how to give it another."""
    left = ", ".join(f"{name}={value!r}" for name, value in list(sizes.left.items())[:12])
    return f"; left as the file has it: {left}; --set NAME=VALUE gives another" if left else ""


def require_small(named: str, make: Callable[[int], nn.Module], hint: str) -> None:
    """Raise ``UsageError`` where a model would be too large to be built, before it is; one that
    cannot be made without its numbers is not looked at."""
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in make(0).parameters())
    except Exception:
        return
    if count > LARGEST:
        raise UsageError(
            f"{named} would have {count / 1e6:.0f} million parameters: too many to be cut and "
            f"trained again and again{hint}"
        )


def find_asking(
    named: str,
    make: Callable[[int], nn.Module],
    ask: Callable[..., Any] | None,
    data: Data,
    preset: Preset,
    sizes: Sizes,
) -> Ask | None:
    """How the model is asked for logits; None where tokens alone are enough."""
    if ask is not None:
        return ask
    size = preset.model
    count = 3 if size.block_size != 3 else 2
    tokens = torch.stack([data.train[i : i + size.block_size] for i in range(count)])
    what = f"{named} cannot be built and run on tokens of shape {tuple(tokens.shape)}"
    with blame(what, settings_left(sizes)):
        model = make(0).eval()
        try:
            with silence():
                way = find_way(model, tokens, size.vocab_size)
        except UsageError as error:
            raise UsageError(f"{named}: {error}") from None
        except IndexError as error:
            rows = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
            if rows and min(rows) < max(size.vocab_size, size.block_size):
                raise UsageError(
                    f"{named} has an embedding of {min(rows)} rows, and the text has "
                    f"{size.vocab_size} characters, in blocks of {size.block_size}: let it take "
                    "vocab_size and block_size as parameters, or give --text of fewer characters"
                ) from error
            raise
    return None if way.is_plain else way


def sizes_told(loaded: Loaded, sizes: Sizes) -> list[str]:
    """A sentence on the numbers of files that gave way to those of the preset."""
    said = []
    for path, left in loaded.left.items():
        if left.replaced:
            parts = [
                f"{name} = {sizes.known[name]} (not {was})" for name, was in left.replaced.items()
            ]
            said.append(f"{path.name} is built small: {', '.join(parts)}; --set keeps another")
    return said
