"""Which modules of a model are its blocks, and what is each of them handed?

The blocks are a list of modules that are called in turn, once each, and each of which is handed a
residual stream [batch pos d_model] and returns one.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from interp.line_hooks.bench import Bench, Region
from interp.line_hooks.passing import tensors_in
from interp.line_hooks.values import Origin

Key = int | str


@dataclass
class ModuleCall:
    """One call of a module, as a run makes it.

    Args:
        path: the module's.
        args, kwargs: what it is handed.
        handed: the float tensors [batch pos d_model] among these, by place or name, as they were.
        makers: where those were made, as far as a line of the model made them.
        returned: what it returned, by part; None is the whole.
    """

    path: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    handed: dict[Key, Tensor]
    makers: dict[Key, Origin]
    returned: dict[int | None, Tensor] = field(default_factory=dict)


@dataclass
class StreamBlock:
    """A block of a model, and how a run calls it.

    Args:
        module: the block.
        call: of it.
        key: which of the arguments is the residual stream.
        part: which part of what it returns is.
    """

    module: nn.Module
    call: ModuleCall
    key: Key
    part: int | None

    @property
    def path(self) -> str:
        return self.call.path

    @property
    def stream(self) -> Tensor:
        """What it was handed."""
        return self.call.handed[self.key]

    @property
    def returned(self) -> Tensor:
        """The stream that it returned."""
        return self.call.returned[self.part]

    @property
    def input(self) -> Origin | None:
        """Where the stream was made that it is handed; None where no line of the model made it."""
        return self.call.makers.get(self.key)

    @property
    def output(self) -> Origin:
        """Where the stream is that it returns."""
        return Origin(self.path, part=self.part)

    def region(self, bench: Bench, stream: Tensor) -> Region:
        """The block alone, called as in the run but for the stream."""

        def call(handed: Tensor) -> Tensor:
            args, kwargs = with_own_caches(self.call.args, self.call.kwargs)
            if isinstance(self.key, int):
                args[self.key] = handed
            else:
                kwargs[self.key] = handed
            return dict(tensors_in(self.module(*args, **kwargs)))[self.part]

        return Region(bench, call, stream)


@contextmanager
def noting_calls(bench: Bench) -> Iterator[list[ModuleCall]]:
    """Inside the block, each call of a module that stands in a list is noted."""
    calls: list[ModuleCall] = []
    handles = []

    def entering(path: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            given: list[tuple[Key, Any]] = [*enumerate(args), *kwargs.items()]
            streams = {key: value for key, value in given if is_stream(value)}
            made = {key: bench.maker_of(value) for key, value in streams.items()}
            makers = {key: origin for key, origin in made.items() if origin is not None}
            handed = {key: value.clone() for key, value in streams.items()}
            calls.append(ModuleCall(path, *with_own_caches(args, kwargs), handed, makers))

        return enter

    def leaving(path: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, output: Any) -> None:
            call = next(call for call in reversed(calls) if call.path == path)
            parts = tensors_in(output)
            call.returned = {part: each.clone() for part, each in parts if is_stream(each)}

        return leave

    for path, module in bench.model.named_modules():
        if path.rpartition(".")[2].isdigit():
            handles.append(module.register_forward_pre_hook(entering(path), with_kwargs=True))
            handles.append(module.register_forward_hook(leaving(path)))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def with_own_caches(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """What a block is handed, with a copy of its own of each cache of keys and values: else a block
    that is called again finds those of its last call."""
    return list(map(own_cache, args)), {name: own_cache(each) for name, each in kwargs.items()}


def own_cache(given: Any) -> Any:
    return copy.deepcopy(given) if hasattr(given, "get_seq_length") else given


def is_stream(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 3 and value.is_floating_point()


def find_blocks(model: nn.Module, calls: Sequence[ModuleCall]) -> list[StreamBlock] | str:
    """A model's blocks, in order; a sentence where it has none that can be named by number."""
    lists: dict[str, list[ModuleCall]] = {}
    for call in calls:
        lists.setdefault(call.path.rpartition(".")[0], []).append(call)
    found: list[list[StreamBlock]] = []
    why = "no list of modules is called in turn, each with what the one before returned"
    for path, called in lists.items():
        if any(part.isdigit() for part in path.split(".")):
            continue  # within a block
        blocks = [block for call in called if (block := block_of(model, call)) is not None]
        numbers = [int(block.path.rpartition(".")[2]) for block in blocks]
        if not blocks or len(blocks) < len(called):
            continue
        if numbers != list(range(len(blocks))):
            why = f"the modules of {path} are not called in turn, once each"
        elif len({block.stream.shape for block in blocks}) == 1:
            found.append(blocks)
    longest = max(map(len, found), default=0)
    found = [blocks for blocks in found if len(blocks) == longest]
    if len(found) > 1:
        paths = " and ".join(blocks[0].path.rpartition(".")[0] for blocks in found)
        return f"{paths} are lists of blocks of equal length"
    return found[0] if found else why


def block_of(model: nn.Module, call: ModuleCall) -> StreamBlock | None:
    """A call as that of a block: a stream goes in, and one of its shape comes out."""
    for part, returned in call.returned.items():
        for key, stream in call.handed.items():
            if stream.shape == returned.shape:
                return StreamBlock(model.get_submodule(call.path), call, key, part)
    return None
