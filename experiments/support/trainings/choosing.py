"""Which cuts does a person name, to be made before training?

choose_surgeries(["course", "model.py:197:cut-skip"], preset, data)
"""

from collections.abc import Sequence

from experiments.support.trainings.line_trainings import untrained_study
from experiments.support.variants import CUTS, course_variants
from gpt.errors import UsageError, nearest
from gpt.text import Data
from gpt.train import Preset
from interp.surgery import Surgery


def choose_surgeries(asked: Sequence[str], preset: Preset, data: Data) -> dict[str, Surgery]:
    """The surgeries asked for by name or id; ``top:N`` is found later.

    Raises:
        UsageError: no such name or id; ``top:N`` without a number; nothing asked for.
    """
    if not asked:
        raise UsageError("--surgeries is empty: name course, top:N, or ids")
    top_asked(asked)
    names = list(CUTS) if "course" in asked else [name for name in asked if name in CUTS]
    found = course_variants(names) if names else {}
    ids = [name for name in asked if not (name in (*CUTS, "course") or name.startswith("top:"))]
    known = applicable(preset, data) if ids else {}
    for id in ids:
        if id not in known:
            near = nearest(id, [*CUTS, "course", *known])
            raise UsageError(f"no surgery is called {id!r}; nearest: {near}")
        found[id] = known[id]
    return {name: cut for name, cut in found.items() if cut is not None}


def applicable(preset: Preset, data: Data) -> dict[str, Surgery]:
    """Every surgery that a run of the model shows to apply, by id; but for those whose stand-in is
    a mean, for that is of a trained model."""
    return {cut.id: cut for cut in untrained_study(preset, data).surgeries}


def top_asked(asked: Sequence[str]) -> int:
    """The N of ``top:N``; 0 where it is not asked for."""
    tops = [name for name in asked if name.startswith("top:")]
    if not tops:
        return 0
    number = tops[0].removeprefix("top:")
    if len(tops) > 1 or not number.isdecimal() or int(number) < 1:
        raise UsageError(f"{' '.join(tops)!r} is not how many lines to cut; write top:12, once")
    return int(number)
