"""Which steps make a text out of documents, and in what order?

    pipeline = Pipeline.default().without("quality")
    pipeline = Pipeline.from_toml(Path("mine.toml"))

A pipeline's file names its steps in order, one's own beside those that are built in:

    [[step]]
    name = "lengths"
    at_least = 500

    [[step]]
    name = "mine.py:drop_poems"
"""

import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from interp.curation.documents import Document
from interp.curation.steps import STEPS
from interp.curation.steps.needs import reads_whole_pile
from interp.errors import UsageError, nearest

StepFunction = Callable[..., Iterator[Document]]


@dataclass(frozen=True)
class Step:
    """One step of a pipeline: a function on documents, with its options.

    Args:
        name: as it stands in a pipeline's file.
        function: yields every document that it is given, once and in order.
        options: its keyword arguments.
    """

    name: str
    function: StepFunction
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def whole_pile(self) -> bool:
        return reads_whole_pile(self.function)

    @property
    def file(self) -> str:
        """The file of its function."""
        return inspect.getsourcefile(inspect.unwrap(self.function)) or ""

    @property
    def line(self) -> int:
        """The line on which its function is defined."""
        lines, first = inspect.getsourcelines(self.function)
        return first + next(n for n, line in enumerate(lines) if line.startswith("def "))

    @property
    def code(self) -> str:
        """What it is called with, as a short definition."""
        options = [*options_of(self.function)]
        return f"def {self.function.__name__}({', '.join(['documents', *options])})"

    @property
    def identity(self) -> str:
        """A hash of what decides its result: its options, its file and the code of this package."""
        said = json.dumps([self.name, dict(self.options), hash_of_code()], default=list)
        return hashlib.sha256(Path(self.file).read_bytes() + said.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Pipeline:
    """Steps in order. The last that decides what is validated on is ``split``."""

    steps: tuple[Step, ...]

    @classmethod
    def default(cls) -> "Pipeline":
        return cls(tuple(Step(name, function) for name, function in STEPS.items()))

    @classmethod
    def from_toml(cls, path: Path) -> "Pipeline":
        """The pipeline of a file. Its own steps are looked for beside it.

        Raises:
            UsageError: no such file, no TOML, no steps, a step or an option that there is none of.
        """
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"the pipeline {str(path)!r} cannot be read: {reason}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"the pipeline {str(path)!r} is no TOML: {error}") from error
        if set(given) != {"step"} or not isinstance(given["step"], list):
            raise UsageError(
                f"the pipeline {str(path)!r} names {', '.join(sorted(given)) or 'nothing'}; it "
                "must hold [[step]] tables and nothing else, each with a name"
            )
        return cls(tuple(step_of(options, path) for options in given["step"]))

    def to_toml(self) -> str:
        """The pipeline as a file, with every option."""
        parts = []
        for step in self.steps:
            lines = ["[[step]]", f"name = {json.dumps(step.name)}"]
            values = {**options_of(step.function), **step.options}
            lines += [f"{name} = {toml_value(value)}" for name, value in values.items()]
            parts.append("\n".join(lines) + "\n")
        return "\n".join(parts)

    @property
    def names(self) -> list[str]:
        return [step.name for step in self.steps]

    def without(self, *names: str) -> "Pipeline":
        """The pipeline without some of its steps.

        Raises:
            UsageError: it has no such step.
        """
        for name in names:
            if name not in self.names:
                raise UsageError(
                    f"the pipeline has no step {name!r}; nearest: {nearest(name, self.names)}"
                )
        return Pipeline(tuple(step for step in self.steps if step.name not in names))

    def with_options(self, name: str, **options: Any) -> "Pipeline":
        """The pipeline with other options for one of its steps."""
        self.without(name)
        return Pipeline(
            tuple(
                make_step(step.name, step.function, {**step.options, **options})
                if step.name == name
                else step
                for step in self.steps
            )
        )


@cache
def hash_of_code() -> str:
    """What the built-in steps are made of, and the versions of the libraries that they call."""
    folder = Path(__file__).parents[1]
    files = sorted(path for room in ("curation", "texts") for path in (folder / room).rglob("*.py"))
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    code = b"".join(path.read_bytes() for path in files)
    return hashlib.sha256(code + json.dumps(versions).encode()).hexdigest()


LIBRARIES = ("datasketch", "detect-secrets", "phonenumbers", "py3langid", "trafilatura")


def step_of(options: Mapping[str, Any], path: Path) -> Step:
    """The step that a table of a pipeline's file asks for."""
    given = dict(options)
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(f"a [[step]] of {str(path)!r} has no name; it needs one, as in {EXAMPLE}")
    if ".py:" in name:
        return make_step(name, own_function(name, path.parent), given)
    if name not in STEPS:
        raise UsageError(
            f"{name!r} is no step; nearest: {nearest(name, STEPS)}; a step of your own is written "
            "FILE.py:FUNCTION"
        )
    return make_step(name, STEPS[name], given)


EXAMPLE = 'name = "lengths"'


def own_function(name: str, folder: Path) -> StepFunction:
    """A function of somebody's file, which is run."""
    file, _, function = name.rpartition(":")
    path = folder / file
    if not path.is_file():
        raise UsageError(f"the step {name!r} cannot be read: there is no file {str(path)!r}")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"own_step_{digest}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{str(path)!r} fails: {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not inspect.isfunction(found):
        functions = [n for n, value in vars(module).items() if inspect.isfunction(value)]
        raise UsageError(
            f"{str(path)!r} has no function {function!r}; nearest: {nearest(function, functions)}"
        )
    return found


def make_step(name: str, function: StepFunction, options: Mapping[str, Any]) -> Step:
    """A step whose options were checked.

    Raises:
        UsageError: an option that the function does not take, or a value of another kind.
    """
    known, types = options_of(function), get_type_hints(function)
    for option, value in options.items():
        if option not in known:
            raise UsageError(
                f"the step {name!r} has no option {option!r}; nearest: {nearest(option, known)}"
            )
        if not fits_type(value, types.get(option, Any)):
            raise UsageError(
                f"the option {option!r} of the step {name!r} is {value!r}; it must be like its "
                f"default, {known[option]!r}{choices(types.get(option, Any))}"
            )
    return Step(name, function, dict(options))


def options_of(function: StepFunction) -> dict[str, Any]:
    """A step's options, and what they are where nobody says."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def fits_type(value: Any, kind: Any) -> bool:
    """Whether a value from a file can be what a type says; types that a file cannot say pass."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inside
    if origin is not None and issubclass(origin, Sequence):
        return isinstance(value, (list, tuple)) and all(fits_type(one, inside[0]) for one in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in (str, bool) else True


def choices(kind: Any) -> str:
    if get_origin(kind) is not Literal:
        return ""
    return f" or {', '.join(map(repr, get_args(kind)))}"


def toml_value(value: Any) -> str:
    """A value as TOML writes it: text, numbers, truth and lists of them are as in JSON."""
    return json.dumps(list(value) if isinstance(value, (tuple, list)) else value)
