"""Which boxes does a model consist of, and which line calls each?

Found by running the model, never kept by hand: every module that is called, every hook point, and
every addition that joins a branch to the residual stream, each with its line and its shapes.

    table = architecture(model)
    table[table["kind"] == "add"][["block", "line", "code"]]    # 0  189  x = x + attn_out
"""

import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformer_lens.hook_points import HookPoint

from interp.errors import UsageError
from interp.hooking import bare, evaluating
from interp.site import Model, axes_of, device_of, names_by_point, observe
from interp.tracing import SourceFile, SourceLine, is_model_code

COLUMNS = (
    *("kind", "name", "block", "part", "depth", "class", "file", "line", "code"),
    *("class_line", "site", "takes", "shape", "source"),
)
WRAPPED = "_original_component"  # what a wrapper of TransformerLens' bridge calls
ADDITIONS = ("add", "add_", "__add__", "__iadd__", "__radd__")


def architecture(model: Model, tokens: Tensor | None = None) -> pd.DataFrame:
    """What a run of the model reaches, in its order; the hook points at the end.

    Blocks are the items of the outermost ``ModuleList`` that are called one after another.

    Args:
        model: a module whose hook points have names, as every ``HookedRootModule`` has.
        tokens: what to run the model on; two tokens will do.

    Returns:
        One row for each module (``kind`` module), residual addition (add) and hook point (hook).
        ``block`` is the block's number, empty outside; ``part`` the box it belongs to, ``depth``
        how deep in that box (1: the box itself); ``file line code`` where it is called or computed;
        ``class_line`` where its class begins, in the same file; ``takes`` and ``shape`` what goes
        in and comes out; ``source`` whether it takes tokens or positions, not activations.

    Raises:
        UsageError: the model is no module, or calls none.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"{type(model).__name__} is no torch module: there are no boxes to find")
    if tokens is None:
        tokens = torch.zeros((1, 2), dtype=torch.long, device=device_of(model))
    trace = Trace(model, tokens.shape[-1])
    with bare(model.hook_dict.values()), evaluating(model), trace.following(), Additions(trace):
        model(tokens)
    called = [event for event in trace.events if event.kind == "module" and event.name]
    if not called:
        raise UsageError(f"{type(model).__name__} calls no module: there are no boxes to find")
    blocks = blocks_of(called, trace.modules)
    rows = [row for event in trace.events if (row := row_of_event(event, blocks))]
    parts = {(row["block"], row["part"]) for row in rows}
    rows += hooks_of(model, tokens, blocks, parts)
    return pd.DataFrame(rows, columns=list(COLUMNS))


@dataclass
class Event:
    """A module that was called, or an addition that was made."""

    kind: str
    name: str
    within: tuple[str, ...]  # the modules in whose forward this is, from the root
    line: SourceLine | None
    module: type[nn.Module] | None = None
    taken: Any = None
    takes: str = ""
    shape: str = ""


@dataclass
class Trace:
    """What happens while the model runs."""

    model: nn.Module
    positions: int
    events: list[Event] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    sources: dict[str, SourceFile] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return dict(self.model.named_modules())

    @contextmanager
    def following(self) -> Iterator[None]:
        """Notes every call of a module that is no hook point, but calls of the same one once."""
        handles = []
        try:
            for path, module in self.model.named_modules():
                if not isinstance(module, HookPoint) and not path.endswith(WRAPPED):
                    name = path.replace(f".{WRAPPED}", "")
                    handles.append(module.register_forward_pre_hook(self._enter(name)))
                    handles.append(
                        module.register_forward_hook(self._leave(name), always_call=True)
                    )
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
            line = self.line_of(sys._getframe(1))
            taken = args[0] if args else None
            takes = shape_of(taken, self.positions)
            self.events.append(
                Event("module", name, tuple(self.stack), line, bare_type(module), taken, takes)
            )
            self.stack.append(name)

        return enter

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.stack.pop()
            event = next(e for e in reversed(self.events) if (e.kind, e.name) == ("module", name))
            event.shape = shape_of(output, self.positions)

        return leave

    def line_of(self, frame: FrameType | None) -> SourceLine | None:
        """The statement of the model's own file in which a frame is, if it is in one."""
        while frame is not None and not is_model_code(frame):
            frame = frame.f_back
        if frame is None or frame.f_code.co_filename == __file__:
            return None
        path = frame.f_code.co_filename
        if path not in self.sources:
            self.sources[path] = SourceFile(path, frame.f_globals.get("__name__", ""))
        source = self.sources[path]
        statement = source.statements.get(frame.f_lineno)
        number = frame.f_lineno if statement is None else statement.lineno
        return source.line(number, statement)


class Additions(TorchFunctionMode):
    """Notes every sum of two activations of one shape."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        summands = [part for part in args[:2] if isinstance(part, Tensor)]
        if (
            getattr(func, "__name__", "") in ADDITIONS
            and len(summands) == 2
            and summands[0].shape == summands[1].shape
            and summands[0].ndim == 3
            and summands[0].is_floating_point()
        ):
            line = self.trace.line_of(sys._getframe(1))
            shape = shape_of(result, self.trace.positions)
            self.trace.events.append(Event("add", "", tuple(self.trace.stack), line, shape=shape))
        return result


@dataclass(frozen=True)
class BlockModules:
    """The blocks among a model's modules."""

    list: str  # the ModuleList's name; empty where there is none
    names: tuple[str, ...]

    @property
    def trunk(self) -> set[str]:
        """The modules in whose forward the blocks are called: the root, and what lies between."""
        parts = self.list.split(".")
        return {".".join(parts[:count]) for count in range(len(parts))} | {""}


def blocks_of(called: Sequence[Event], modules: dict[str, nn.Module]) -> BlockModules:
    """The outermost list of modules that are called one after another.

    Items that are all handed the very same value, as heads side by side are, are no blocks.
    """
    lists: dict[str, list[Event]] = {}
    for event in called:
        parent = event.name.rpartition(".")[0]
        if parent and isinstance(modules.get(parent), nn.ModuleList):
            lists.setdefault(parent, []).append(event)
    for name in sorted(lists, key=lambda name: name.count(".")):
        items = lists[name]
        if len(items) == 1 or items[0].taken is not items[1].taken:
            return BlockModules(name, tuple(dict.fromkeys(item.name for item in items)))
    return BlockModules("", ())


def row_of_event(event: Event, blocks: BlockModules) -> dict[str, Any] | None:
    """An event's row; None for what is no box: the root, the blocks themselves, inner sums."""
    frame = next((name for name in reversed(event.within) if name in blocks.names), None)
    trunk = blocks.trunk
    if frame is not None:
        block, around = number_of(frame), [frame]
    else:
        block, around = "", [name for name in event.within if name in trunk]
    within = [name for name in event.within if name not in trunk and name not in blocks.names]
    row = dict.fromkeys(COLUMNS, "") | {
        "kind": event.kind,
        "block": block,
        "depth": len(within) + 1,
        "shape": event.shape,
        "class_line": None,
        "source": False,
        **line_columns(event.line),
    }
    if event.kind == "add":
        return None if within or not around else {**row, "name": "+", "part": "+"}
    if event.name in trunk or event.name in blocks.names:
        return None
    base = f"{frame}." if frame else ""
    box = (within or [event.name])[0]
    taken = event.taken
    return row | {
        "name": event.name,
        "part": box.removeprefix(base),
        "class": event.module.__name__ if event.module else "",
        "class_line": class_line(event),
        "takes": event.takes,
        "source": isinstance(taken, Tensor) and not taken.is_floating_point(),
    }


def bare_type(module: nn.Module) -> type[nn.Module]:
    """A module's class; of a wrapper, that of what it wraps."""
    return type(getattr(module, WRAPPED, None) or module)


def line_columns(line: SourceLine | None) -> dict[str, Any]:
    if line is None:
        return {"file": "", "line": None, "code": ""}
    return {"file": line.file, "line": line.line, "code": line.code}


def class_line(event: Event) -> int | None:
    """Where a module's class begins, if that is in the file that calls it."""
    if event.line is None or event.module is None:
        return None
    code = inspect.unwrap(event.module.forward).__code__
    if code.co_filename != event.line.path:
        return None
    head = re.compile(rf"\s*class {re.escape(event.module.__name__)}\b")
    lines = linecache.getlines(event.line.path)
    return next((number for number, text in enumerate(lines, 1) if head.match(text)), None)


def number_of(block: str) -> str:
    return block.rpartition(".")[2]


def hooks_of(
    model: Model, tokens: Tensor, blocks: BlockModules, parts: set[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """A row for every hook point, in the box that holds it."""
    names = names_by_point(model)
    points = model.hook_dict
    seen: set[HookPoint] = set()
    for site, (shape, line) in observe(model, tokens).items():
        if points[site] in seen:
            continue
        seen.add(points[site])
        frame = next((name for name in blocks.names if site.startswith(f"{name}.")), None)
        rest = site.removeprefix(f"{frame}.") if frame else site
        block = number_of(frame) if frame else ""
        holders = [part for of, part in parts if of == block and rest.startswith(f"{part}.")]
        axes = axes_of(names[points[site]], len(shape))
        yield dict.fromkeys(COLUMNS, "") | {
            "kind": "hook",
            "name": site,
            "site": site,
            "block": block,
            "part": max(holders, key=len, default=""),
            "depth": 1,
            "class_line": None,
            "source": False,
            "shape": named_shape(shape, axes),
            **line_columns(line),
        }


def named_shape(shape: Sequence[int], axes: Sequence[str]) -> str:
    """A shape with the axes whose size depends on the text by their names: ``batch pos 4 32``."""
    by_text = ("batch", "pos", "key")
    return " ".join(
        axis if axis in by_text else str(size) for axis, size in zip(axes, shape, strict=True)
    )


def shape_of(value: Any, positions: int) -> str:
    """The shape of what a module takes or gives; of several values, that of the first."""
    if isinstance(value, tuple | list) and value:
        value = value[0]
    if not isinstance(value, Tensor):
        return ""
    shape = tuple(value.shape)
    if value.ndim >= 3 or (value.ndim == 2 and not value.is_floating_point()):
        return named_shape(shape, ("batch", "pos", *("",) * (value.ndim - 2)))
    if value.ndim and shape[0] == positions:
        return named_shape(shape, ("pos", *("",) * (value.ndim - 1)))
    return named_shape(shape, ("",) * value.ndim)
