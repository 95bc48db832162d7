"""Which values does a run of a model make, line by line, and what are they called?

found = find_values(model, tokens)
found["model.layers.3.self_attn.query_states"].source     # modeling_llama.py:242: query_states = …
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, no_type_check

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.errors import SurgeryError, UsageError
from interp.hooking import evaluating
from interp.line_hooks.following import Following, following_modules
from interp.line_hooks.passing import passing_outputs, passing_values, tensors_in
from interp.line_hooks.values import INPUT, OUTPUT, RETURNED, Made, Origin, made_values
from interp.surgery.source.syntax import Source, parse, read_source
from interp.tracing import SourceFile, SourceLine


@dataclass
class FoundValue:
    """A value that a run made: where, by which line, and under which names; its shapes in runs of
    other sizes; and whether its first axis holds texts with something else."""

    origin: Origin
    source: SourceLine
    shape: tuple[int, ...]
    names: list[str]
    axes: tuple[str, ...] = ()
    others: Sequence[tuple[int, ...]] = ()
    holds_texts: bool = False


def find_values(
    model: nn.Module, inputs: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, FoundValue]:
    """Every float tensor that a line of the model's own code makes in a run, by its name.

    The own code is the files in which the ``forward`` of the model's modules stands, but torch's.
    A value is named by the module in whose forward the line runs, and by its variable; from the
    second time that a name is bound in one call of the module with a number (``hidden_states.2``).
    What a module returns is its ``output`` (``output_1`` is a tuple's second), and has the
    variable's name too where a line binds it; what a module is handed is its ``input`` where it
    has no name, what a function returns without a name is ``returned``. A variable that is called
    ``output`` or ``input`` is numbered from 2.

    Args:
        model: the model; left as it was.
        inputs, options: what to call it with.

    Raises:
        UsageError: no module of it has source of its own; it fails on the inputs.
    """
    made = values_of_files(model)
    sources: dict[str, SourceFile] = {}
    found = run_of(model, made, sources, inputs, options)
    others = []
    for call, what in zip(in_other_sizes(inputs, options), OTHER_SIZES, strict=False):
        others.append(run_of(model, made, sources, *call, what))
    for origin, value in found.items():
        value.others = [each[origin].shape if origin in each else () for each in others]
        value.axes = axes_seen(value.shape, value.others)
    return {name: value for value in found.values() for name in value.names}


def values_of_files(model: nn.Module) -> list[Made]:
    """Every value that a line of the model's own files may make.

    Raises:
        UsageError: no module of it has source of its own.
    """
    return [each for source in own_sources(model) for each in made_values(parse(source))]


def run_of(
    model: nn.Module,
    made: Sequence[Made],
    sources: dict[str, SourceFile],
    inputs: Sequence[Any],
    options: Mapping[str, Any],
    what: str = "what it is called with",
) -> "dict[Origin, FoundValue]":
    """What one run makes; ``sources`` are the files that were read, and gets those that are.

    Raises:
        UsageError: the model fails on the inputs, which are ``what``.
    """
    notes = Notes(model, made, sources)
    with evaluating(model), torch.no_grad(), following_modules(model, notes.entered) as run:
        notes.run = run
        with notes.outputs(), passing_values(made, notes.handed):
            try:
                model(*inputs, **options)
            except Exception as error:
                raise UsageError(why_it_fails(model, what, error)) from error
    return notes.found


def why_it_fails(model: nn.Module, what: str, error: Exception) -> str:
    """A sentence on a model that cannot be run."""
    said = " ".join(str(error).split()) or type(error).__name__
    told = f"{type(model).__name__} does not run on {what}: {said}"
    if any(weight.dtype == torch.float64 for weight in model.parameters()):
        return f"{told}; its weights are float64, which not all of its code may take: model.float()"
    return f"{told}; hook_lines needs inputs on which model(...) runs"


OTHER_SIZES = ("these inputs with a text more", "these inputs without their last position")
Call = tuple[Sequence[Any], Mapping[str, Any]]


def in_other_sizes(inputs: Sequence[Any], options: Mapping[str, Any]) -> list[Call]:
    """The inputs with a text more, and with a position less; nothing where they are no tokens."""
    if (tokens := tokens_among(inputs, options)) is None:
        return []
    shorter = slice(None, -1) if tokens.shape[1] > 1 else [0, 0]
    return [
        changed_alike(inputs, options, lambda x: torch.cat([x, x[:1]])),
        changed_alike(inputs, options, lambda x: x[:, shorter].contiguous()),
    ]


def tokens_among(inputs: Sequence[Any], options: Mapping[str, Any]) -> Tensor | None:
    """The first tensor [batch pos] that a model is called with."""
    given = [*inputs, *options.values()]
    return next((x for x in given if isinstance(x, Tensor) and x.ndim == 2), None)


def changed_alike(
    inputs: Sequence[Any], options: Mapping[str, Any], change: Callable[[Tensor], Tensor]
) -> Call:
    """What a model is called with, with all that has the axes of its tokens changed alike."""
    if (tokens := tokens_among(inputs, options)) is None:
        return inputs, options
    names, values = list(options), [*inputs, *options.values()]
    changed = [
        change(x) if isinstance(x, Tensor) and x.shape[:2] == tokens.shape else x for x in values
    ]
    count = len(inputs)
    return changed[:count], dict(zip(names, changed[count:], strict=True))


def axes_seen(shape: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """What each axis is: ``batch`` grows with the texts, ``pos`` and then ``key`` shrink with the
    positions, the last of the others is ``neuron``."""
    if len(others) != 2 or any(len(other) != len(shape) for other in others):
        return ()
    axes = [f"axis{number}" for number in range(len(shape))]
    places = iter(["pos", "key"])
    for axis, sizes in enumerate(zip(shape, *others, strict=True)):
        if sizes[0] != sizes[1]:
            axes[axis] = "batch"
        elif sizes[0] != sizes[2]:
            axes[axis] = next(places, axes[axis])
    if axes and axes[-1].startswith("axis"):
        axes[-1] = "neuron"
    return tuple(axes)


def own_sources(model: nn.Module) -> list[Source]:
    """The files in which the ``forward`` of the model's modules stands, but torch's own."""
    torch_folder = str(Path(torch.__file__).parent)
    paths: dict[str, None] = {}
    kinds = dict.fromkeys(type(module) for module in model.modules())
    for kind in (kind for kind in kinds if not issubclass(kind, HookPoint)):
        code = inspect.unwrap(kind.forward).__code__
        if Path(code.co_filename).is_file() and not code.co_filename.startswith(torch_folder):
            paths[code.co_filename] = None
    if not paths:
        raise UsageError(
            f"no module of {type(model).__name__} has source of its own: define the model's class "
            "in a file and import it"
        )
    try:
        return [read_source(path) for path in paths]
    except SurgeryError as error:
        raise UsageError(str(error)) from error


class Notes:
    """What a run makes, noted while it runs."""

    def __init__(
        self, model: nn.Module, made: Sequence[Made], sources: dict[str, SourceFile]
    ) -> None:
        self.model = model
        self.own = {str(each.syntax.source.path) for each in made}
        self.found: dict[Origin, FoundValue] = {}
        self.names: dict[str, Origin] = {}
        self.run = Following()
        self.sources = sources
        self.argument: tuple[Origin, Any] | None = None  # handed to the next module, perhaps

    @no_type_check  # runs for every value: checks would take seconds
    def handed(self, made: Made, value: Any) -> Any:
        """Notes a value that a line made, and hands it on as it is."""
        frame = self.run.frame
        if frame is None:
            return value
        turn = frame.counts[made]
        frame.counts[made] += 1
        if made.is_argument:
            self.argument = Origin(frame.path, made, turn), value
            return value
        (path, output), frame.left = frame.left, ("", None)
        returned = made.is_call and value is output and value is not None
        for part, tensor in tensors_in(value):
            name = made.name_of(part)
            if not name or not tensor.is_floating_point():
                continue
            origin = Origin(path, part=part) if returned else Origin(frame.path, made, turn, part)
            if returned and made.names == (RETURNED,):
                continue
            self.note(origin, tensor, self.line_of(made), self.numbered(frame.path, name))
        return value

    @no_type_check  # runs for every value: checks would take seconds
    def numbered(self, path: str, name: str) -> str:
        """A variable's name, with its number from the second time in a call of a module."""
        frame = self.run.frame
        assert frame is not None
        frame.counts[name] += 1
        count = frame.counts[name] + (name in (INPUT, OUTPUT))  # what the module takes and returns
        whole = f"{path}.{name}" if path else name
        return whole if count == 1 else f"{whole}.{count}"

    @no_type_check  # runs for every value: checks would take seconds
    def note(self, origin: Origin, value: Tensor, source: SourceLine, name: str) -> None:
        found = self.found.setdefault(origin, FoundValue(origin, source, tuple(value.shape), []))
        free, number = name, 2
        while self.names.setdefault(free, origin) != origin:  # of another value
            free, number = f"{name}.{number}", number + 1
        if free not in found.names:
            found.names.append(free)

    def entered(self, path: str, args: tuple[Any, ...]) -> None:
        """A module is called: what it was handed has its name."""
        if self.argument is None:
            return
        (origin, value), self.argument = self.argument, None
        if args and args[0] is value and isinstance(value, Tensor) and value.is_floating_point():
            assert origin.made is not None
            self.note(origin, value, self.line_of(origin.made), f"{path}.{INPUT}")

    def outputs(self) -> AbstractContextManager[None]:
        """Notes what each module returns, with the line that calls it."""
        named = self.model.named_modules()
        paths = [path for path, module in named if path and not isinstance(module, HookPoint)]
        return passing_outputs(self.model, paths, self.returned)

    def returned(self, path: str, output: Any) -> None:
        """Notes what a module returned."""
        line = self.calling_line(sys._getframe(1))
        for part, tensor in tensors_in(output):
            if line is not None and tensor.is_floating_point():
                name = f"{path}.{OUTPUT}" if not part else f"{path}.{OUTPUT}_{part}"
                self.note(Origin(path, part=part), tensor, line, name)

    def line_of(self, made: Made) -> SourceLine:
        file = self.file(str(made.syntax.source.path), made.syntax.source.module)
        return file.line(made.line, made.statement)

    def file(self, path: str, module: str) -> SourceFile:
        if path not in self.sources:
            self.sources[path] = SourceFile(path, module)
        return self.sources[path]

    def calling_line(self, frame: FrameType | None) -> SourceLine | None:
        """The statement of the model's own files in the middle of which the run is."""
        while frame is not None and frame.f_code.co_filename not in self.own:
            frame = frame.f_back
        if frame is None:
            return None
        file = self.file(frame.f_code.co_filename, frame.f_globals.get("__name__", ""))
        statement = file.statements.get(frame.f_lineno)
        return file.line(frame.f_lineno if statement is None else statement.lineno, statement)
