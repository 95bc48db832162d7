"""How are a model's blocks called, alone, as the model calls them?"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.blocks.caches import (
    CACHES,
    beginning_of,
    fresh_cache,
    is_cache,
    layered_cache,
    length_in,
    rows_of_cache,
)
from interp.logits import found_in

Returned = Any  # what a block returns: the residual stream, or a tuple that begins with it


class NotInTurnError(Exception):
    """A model whose blocks cannot be called alone; the message says why."""


@dataclass(frozen=True)
class BlockCall:
    """How the model calls one block.

    Args:
        args, kwargs: with ``STREAM`` where the residual stream is.
        by_example: which tensors in them have rows for each example, by their place, and how many.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    by_example: dict[tuple[Any, ...], int]


class StreamMark:
    """Stands where a block is handed the residual stream."""


STREAM = StreamMark()


@dataclass(frozen=True)
class BlockRun:
    """One run of a model, block by block.

    Args:
        entering: the residual stream before each block, [batch pos d_model]: the very tensors that
            the model handed on.
        last: the one after the last block.
        logits: as the model returned them.
        cache: the model's key/value cache after the run; None where it has none.
    """

    entering: Sequence[Tensor]
    last: Float[Tensor, "batch pos d_model"]
    logits: Tensor
    cache: Any

    @property
    def nbytes(self) -> int:
        """Memory of the residual streams, and of the cache."""
        layers = [] if self.cache is None else self.cache.layers
        kept = [
            *self.entering,
            self.last,
            *(x for each in layers for x in (each.keys, each.values)),
        ]
        return sum(x.nbytes for x in kept)


class ModelBlocks:
    """A model's blocks.

    Attributes:
        path: of the list that holds them.
    """

    def __init__(
        self,
        model: Any,
        modules: Sequence[nn.Module],
        path: str,
        returned: Sequence[Returned],
        text: Int[Tensor, "1 pos"],
    ) -> None:
        """Args as the attributes; ``text`` is one that the model has run on."""
        self.modules = list(modules)
        self.path = path
        self._returned = [without_stream(each) for each in returned]
        self._run = called_model(model)
        self._text = with_other_tokens(text)

    def __len__(self) -> int:
        return len(self.modules)

    @property
    def cache_argument(self) -> str | None:
        """By which argument the model takes a key/value cache; None where it takes none."""
        try:
            names = inspect.signature(self._run.forward).parameters
        except (AttributeError, TypeError, ValueError):
            return None
        return next((name for name in CACHES if name in names), None)

    def run(self, tokens: Int[Tensor, "batch pos"]) -> BlockRun:
        """The whole model."""
        entering: list[Tensor] = []
        last: list[Tensor] = []

        def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
            entering.append(self.stream_given(args, kwargs))

        def end(module: nn.Module, args: Any, output: Any) -> None:
            x = stream_of(output)
            assert x is not None
            last.append(x)

        with torch.no_grad(), ExitStack() as stack:
            for module in self.modules:
                enter = module.register_forward_pre_hook(begin, with_kwargs=True)
                stack.callback(enter.remove)
            stack.callback(self.modules[-1].register_forward_hook(end).remove)
            output = self._run(tokens)
        return BlockRun(entering, last[0], found_in(output), layered_cache(output))

    def cache_of(self, tokens: Int[Tensor, "batch pos"], length: int, whole: Any) -> Any:
        """The key/value cache after the first positions.

        Args:
            whole: the cache after all of them, where a run has filled it.

        Raises:
            NotInTurnError: there is none that we know.
        """
        if self.cache_argument is None:
            raise NotInTurnError("it takes no key/value cache")
        found = None if whole is None else beginning_of(whole, length)
        if found is None:
            found = layered_cache(self._run(tokens[:, :length], use_cache=True))
        if found is None or int(found.get_seq_length()) != length:
            raise NotInTurnError("its key/value cache does not count positions")
        return found

    def calls(self, tokens: Int[Tensor, "batch pos"], cache: Any = None) -> list[BlockCall]:
        """How the model calls its blocks on these tokens, without running any.

        Args:
            cache: a key/value cache that holds what comes before the tokens.

        Raises:
            NotInTurnError: they are called otherwise than they were.
        """
        batch = len(tokens)
        more = torch.cat([torch.arange(batch), torch.zeros(1, dtype=torch.long)])
        noted = self._noted(tokens, cache, torch.arange(batch))
        wider = self._noted(tokens[more.to(tokens.device)], cache, more)
        return [
            BlockCall(*shown, by_example=rows_of_example(shown, other, batch))
            for shown, other in zip(noted, wider, strict=True)
        ]

    def call(
        self,
        layer: int,
        x: Float[Tensor, "row pos d_model"],
        calls: Sequence[BlockCall],
        examples: Int[Tensor, "row"],
        cache: Any = None,
    ) -> Float[Tensor, "row pos d_model"]:
        """One block on a residual stream.

        Args:
            calls: of ``calls``.
            examples: which example each row is of.
            cache: that ``calls`` was given.

        Raises:
            NotInTurnError: the block does not use the cache as we know it.
        """
        if len(x) == 1:  # what the model keeps of one text must not fit
            return self.call(layer, x.repeat(2, 1, 1), calls, examples.repeat(2), cache)[:1]
        call = calls[layer]
        filled: list[Any] = []

        def put(value: Any, place: tuple[Any, ...]) -> Any:
            if value is STREAM:
                return x
            if isinstance(value, Tensor) and place in call.by_example:
                return value.unflatten(0, (-1, call.by_example[place]))[examples].flatten(0, 1)
            if is_cache(value):
                held = value if cache is None else cache
                filled.append((held, fresh_cache(held, examples, layer)))
                return filled[-1][1]
            return value

        args = walk(call.args, put, ("args",))
        kwargs = walk(call.kwargs, put, ("kwargs",))
        after = stream_of(self.modules[layer](*args, **kwargs))
        if after is None or after.shape != x.shape:
            raise NotInTurnError(f"{self.path}.{layer} returns something else when it runs alone")
        for before, new in filled if cache is not None else ():
            grown = [length_in(each, layer) for each in (before, new)]
            if grown[1] != grown[0] + x.shape[1]:
                raise NotInTurnError(f"{self.path}.{layer} does not add to its layer of the cache")
        return after

    def unembed(self, x: Float[Tensor, "row read d_model"]) -> Float[Tensor, "row read vocab"]:
        """The logits that the model makes of the residual stream behind its last block."""
        with self.ending_with(x):
            return found_in(self._run(self._text[:, : x.shape[1]].expand(len(x), -1)))

    @contextmanager
    def ending_with(self, x: Float[Tensor, "batch pos d_model"]) -> Iterator[None]:
        """Inside the block, whoever runs the model gets what it makes of this residual stream
        behind its last block, whatever the tokens."""
        with self._stubbed(lambda layer, args, kwargs: x):
            yield

    def embed(self, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        """What enters the first block."""
        found: list[Tensor] = []

        def note(layer: int, args: Any, kwargs: Any) -> Tensor:
            x = self.stream_given(args, kwargs)
            if layer == 0:
                found.append(x)
            return x

        with self._stubbed(note):
            self._run(tokens)
        return found[0]

    def forget(self) -> None:
        """Lets the model see one other text, so that what it may keep of a run is of no use to a
        block that runs alone: one that needs it is then seen to."""
        self._noted(self._text, None, torch.zeros(1, dtype=torch.long))

    def _noted(
        self, tokens: Tensor, cache: Any, examples: Tensor
    ) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """What each block is handed, in a run in which each returns what it was handed."""
        found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def note(layer: int, args: Any, kwargs: Any) -> Tensor:
            x = self.stream_given(args, kwargs)

            def mark(value: Any, place: Any) -> Any:
                return STREAM if value is x else value

            found.append((walk(args, mark), walk(kwargs, mark)))
            return x

        options: dict[str, Any] = {}
        if cache is not None:
            assert self.cache_argument is not None
            options = {self.cache_argument: rows_of_cache(cache, examples), "use_cache": True}
        with self._stubbed(note):
            self._run(tokens, **options)
        if len(found) != len(self):
            raise NotInTurnError("a run calls other blocks than the one before")
        return found

    @contextmanager
    def _stubbed(self, act: Callable[[int, Any, Any], Tensor]) -> Iterator[None]:
        """Inside the block, ``act`` says what each block returns."""

        def stub(layer: int) -> Callable[..., Any]:
            returned = self._returned[layer]

            def forward(*args: Any, **kwargs: Any) -> Any:
                x = act(layer, args, kwargs)
                return x if returned is STREAM else (x, *returned[1:])

            return forward

        with ExitStack() as stack:
            for layer, module in enumerate(self.modules):
                stack.callback(restore_forward, module, vars(module).get("forward"))
                vars(module)["forward"] = stub(layer)  # some modules hand on what they are given
            yield

    def stream_given(self, args: Any, kwargs: Any) -> Tensor:
        """The residual stream in a block's arguments: the first activation [batch pos d_model]."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.ndim == 3 and value.is_floating_point():
                return value
        raise NotInTurnError(f"a block of its {self.path} is handed no [batch pos d_model]")


def with_other_tokens(tokens: Int[Tensor, "row pos"]) -> Int[Tensor, "row pos"]:
    """Tokens of the same vocabulary, of which none is as it was."""
    return torch.where(tokens > 0, tokens - 1, tokens + 1)


def called_model(model: Any) -> Any:
    """What to call: of a view of a model's lines the model itself, which has all of its options."""
    return model.inner if hasattr(type(model), "watching") else model


def restore_forward(module: nn.Module, before: Any) -> None:
    vars(module).pop("forward")
    if before is not None:
        vars(module)["forward"] = before


def stream_of(returned: Returned) -> Tensor | None:
    """The residual stream in what a block returns."""
    first = returned[0] if isinstance(returned, tuple) and returned else returned
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def without_stream(returned: Returned) -> Returned:
    """What a block returns, with ``STREAM`` in its place; other tensors are not kept."""
    if not isinstance(returned, tuple):
        return STREAM
    return (STREAM, *(None if isinstance(each, Tensor) else each for each in returned[1:]))


def walk(
    value: Any, change: Callable[[Any, tuple[Any, ...]], Any], place: tuple[Any, ...] = ()
) -> Any:
    """A nest of tuples, lists and dicts with everything in it changed."""
    if type(value) in (tuple, list):
        return type(value)(
            walk(each, change, (*place, number)) for number, each in enumerate(value)
        )
    if type(value) is dict:
        return {name: walk(each, change, (*place, name)) for name, each in value.items()}
    return change(value, place)


def rows_of_example(shown: Any, wider: Any, batch: int) -> dict[tuple[Any, ...], int]:
    """The places of the tensors that have more rows where there is an example more, with how many
    rows each example has: one, or one for each head."""
    sizes: dict[tuple[Any, ...], int] = {}
    found: dict[tuple[Any, ...], int] = {}

    def note(value: Any, place: tuple[Any, ...]) -> None:
        if isinstance(value, Tensor) and value.ndim:
            sizes[place] = len(value)

    def compare(value: Any, place: tuple[Any, ...]) -> None:
        size = sizes.get(place, 0) if isinstance(value, Tensor) and value.ndim else 0
        if size and size % batch == 0 and len(value) == size + size // batch:
            found[place] = size // batch

    for number, name in enumerate(("args", "kwargs")):
        walk(shown[number], note, (name,))
        walk(wider[number], compare, (name,))
    return found


def same_call(first: BlockCall, other: BlockCall) -> bool:
    """Whether a block is handed the same beside the residual stream."""
    shown: list[list[Any]] = [[], []]
    for call, into in zip((first, other), shown, strict=True):

        def note(value: Any, place: Any, into: list[Any] = into) -> None:
            into.append(value)

        walk([call.args, call.kwargs], note)
    return all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else type(a) is type(b)
        for a, b in zip(*shown, strict=True)
    )
