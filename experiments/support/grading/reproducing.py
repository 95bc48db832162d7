"""Do a run's numbers follow from what it says it did?

A training's identity is the hash of all that decides it: the edited source, the recipe, the text,
the seed. It is computed anew from the source and the diffs that the run keeps, and must be the one
under which the run recorded that training; what it recorded must be what its tables say. Nothing of
the run is executed, but by ``repeat_training``.

    faults_of_trainings(run)                 # sentences; none where all fits
    repeat_training(smallest_training([run]), corpus)
"""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import gpt.model
from experiments.support.pages.summary import summarise
from experiments.support.pages.views import hash_source
from experiments.support.retraining import WRITTEN, train_task
from experiments.support.trainings.executors import Processes
from experiments.support.trainings.tasks import Task, identity_of_training
from experiments.support.variants import BASELINE
from gpt.errors import UsageError
from gpt.model import GPTConfig
from gpt.text import CharTokenizer, Corpus, split
from gpt.train import TrainConfig
from interp.runs import SavedRun
from interp.runs.identity import to_json_value
from interp.runs.store import all_recorded, recorded_in
from interp.surgery import Source, Surgery, read_source
from interp.surgery.source.edits import identity_of_edit
from interp.surgery.source.own import edits_between, to_text
from interp.surgery.source.patches import patch_text

Rows = list[dict[str, Any]]
FIRST, LAST = 1e-3, 0.05
"""Nats by which a repetition may differ on another processor: before the first step, where only the
order of sums differs; and after the last, where many steps have carried that on."""


class RecordedCut(NamedTuple):
    """A cut as a run keeps it.

    Attributes:
        id: what it was called; nothing where it is the model as it is.
        text: the source with the cut made.
        lines: its lines.
        label: its lines, before and after.
    """

    id: str
    text: str
    lines: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class RecordedTraining:
    """One training as a run keeps it.

    Attributes:
        recipe: the fields of ``TrainConfig``, the precision settled.
        rows: what the run recorded, None where it recorded nothing under this identity.
        told: the same in the run's table.
    """

    variant: str
    seed: int
    cut: RecordedCut
    model: dict[str, Any]
    recipe: dict[str, Any]
    text: str
    stop_at: int | None
    rows: Rows | None
    told: pd.DataFrame

    @property
    def name(self) -> str:
        return f"{self.variant} seed {self.seed}"

    @property
    def size(self) -> float:
        """How much there is to compute, in no unit."""
        model, recipe = self.model, self.recipe
        steps = self.stop_at or recipe["steps"]
        width = model["n_layer"] * model["n_embd"] ** 2 + model["vocab_size"] * model["n_embd"]
        return float(steps * recipe["batch_size"] * model["block_size"] * width)


def faults_of_trainings(run: SavedRun) -> list[str]:
    """What does not fit of a run that trained with cuts, a sentence each.

    Raises:
        UsageError: it keeps no source, or another than it was made from; a diff is none of it.
    """
    table, config = run.table(), run.description["config"]
    cuts = recorded_cuts(run)
    found = [*faults_of_cuts(cuts, config)]
    trainings = list(trainings_recorded(run, cuts))
    made = {(training.variant, training.seed) for training in trainings}
    absent = [
        f"{variant} seed {seed}"
        for variant in dict.fromkeys([*cuts, *config.get("variants", ())])
        for seed in config["seeds"]
        if (variant, seed) not in made
    ]
    if absent:
        found.append(f"its table lacks trainings that its config names: {', '.join(absent)}")
    unknown = [training.name for training in trainings if training.rows is None]
    if unknown:
        found.append(
            f"no training was recorded of this source, diff, recipe, text and seed: "
            f"{', '.join(unknown)}; one of them was changed, or another version made the run"
        )
    samples = run.table("samples") if run.holds("samples") else None
    changed = [one.name for one in trainings if one.rows and not fits(one, samples)]
    if changed:
        found.append(f"its tables say something else than was recorded: {', '.join(changed)}")
    again = summarise(table, config["train"]["steps"])
    if differing := differing_columns(again, run.table("summary")):
        found.append(f"its summary does not follow from its trainings: {', '.join(differing)}")
    return found


def faults_of_numbers(run: SavedRun) -> list[str]:
    """What does not fit of a run that cut a trained model: numbers of its tables that it did not
    record when it measured them."""
    rows = list(all_recorded(run.folder / "tasks.sqlite"))
    recorded = {
        row[name]
        for row in rows
        for name in ("value", "delta", "loss")
        if row.get(name) is not None
    }
    found = []
    for table, columns in (("results", ("value", "delta")), ("trainings", ("value",))):
        if not run.holds(table):
            continue
        of = run.table(table)
        numbers = {float(n) for name in columns if name in of for n in of[name].dropna()}
        if strange := numbers - recorded:
            shown = ", ".join(f"{number:.4f}" for number in sorted(strange)[:4])
            found.append(f"its {table} hold {len(strange)} numbers that were not recorded: {shown}")
    return found


def source_of_run(run: SavedRun) -> Source:
    """The source that a run was made from, as it keeps it.

    Raises:
        UsageError: it keeps none, or not the one whose hash it has noted.
    """
    if not run.holds("source"):
        raise UsageError("it keeps no source, so that nothing can be computed anew")
    table, noted = run.table("source"), run.description["provenance"].get("source_sha256")
    text, name = "\n".join(table["code"]), Path(str(table["file"].iloc[0])).name
    for ending in ("\n", ""):
        source = Source(Path(name), text + ending, Path(name).stem)
        if hash_source(source) == noted:
            return source
    raise UsageError("the source that it keeps is not the one it was made from")


def recorded_cuts(run: SavedRun) -> dict[str, RecordedCut]:
    """Each variant's cut, from its diff. Raises ``UsageError`` where that is none of the source."""
    source, found = source_of_run(run), {}
    for variant, rows in run.table().groupby("variant", sort=False):
        diffs, ids = set(rows["diff"]), set(rows["surgery"])
        if len(diffs) != 1 or len(ids) != 1:
            raise UsageError(f"{variant} has several diffs")
        (diff,), (id,) = diffs, ids
        if not diff:
            found[str(variant)] = RecordedCut("", source.text, (), "")
            continue
        if "\n" not in diff:  # else it would be taken for a path
            raise UsageError(f"{variant} has no diff")
        text = patch_text(source, diff)
        edits = edits_between(source, text)
        found[str(variant)] = RecordedCut(
            str(id),
            text,
            tuple(edit.line for edit in edits),
            "; ".join(f"{source.file}:{e.line}  {e.before} → {e.after}" for e in edits),
        )
    return found


def faults_of_cuts(cuts: Mapping[str, RecordedCut], config: Mapping[str, Any]) -> Iterator[str]:
    """Where the cuts are not those that the config names."""
    whole = cuts.get(BASELINE)
    if whole is None or whole.id:
        yield f"the model as it is, {BASELINE}, was not trained"
        return
    for name, identity in config.get("cuts", {}).items():
        if name not in cuts or identity_of_edit(whole.text, cuts[name].text, None) != identity:
            yield f"the cut {name} is not the one that its config names"
    for name, id in config.get("variants", {}).items():
        if name in cuts and cuts[name].id != id:
            yield f"the cut {name} is not the one that its config names"


def trainings_recorded(
    run: SavedRun, cuts: Mapping[str, RecordedCut]
) -> Iterator[RecordedTraining]:
    """Every training of a run's table, with what was recorded under the identity that it must have
    had."""
    config, store = run.description["config"], run.folder / "tasks.sqlite"
    for key, told in run.table().groupby(["variant", "seed"], sort=False):
        variant, seed = str(key[0]), int(told["seed"].iloc[0])
        precisions = [one for one in told["precision"] if isinstance(one, str) and one]
        recipe = config["train"] | ({"precision": precisions[0]} if precisions else {})
        last, cut = int(told["step"].max()), cuts[variant]
        rows, stop_at = None, None
        for stop in (None, *([last] if last < recipe["steps"] else [])):
            known = config["model"], recipe, config["text"]["sha256"], seed
            rows, stop_at = recorded_in(store, identity_of_training(cut.text, *known, stop)), stop
            if rows is not None:
                break
        yield RecordedTraining(
            variant,
            seed,
            cut,
            config["model"],
            recipe,
            config["text"]["sha256"],
            stop_at,
            rows,
            told,
        )


def fits(training: RecordedTraining, samples: pd.DataFrame | None) -> bool:
    """Whether the tables say of a training what was recorded of it."""
    recorded = training.rows or []
    curve = [row for row in recorded if row["split"] != WRITTEN]
    if not fits_rows(curve, training.told):
        return False
    if samples is None:
        return True
    mine = (samples["variant"] == training.variant) & (samples["seed"] == training.seed)
    kept = ("prompt", "text", "detail")
    wrote = [{name: row[name] for name in kept} for row in recorded if row["split"] == WRITTEN]
    return not mine.any() or fits_rows(wrote, samples[mine])


def fits_rows(rows: Rows, table: pd.DataFrame) -> bool:
    """Whether a table's rows are those, as far as they say; to the last bit."""
    if len(rows) != len(table):
        return False
    told = to_json_value(table.to_dict("records"))
    return all(
        json.dumps(row) == json.dumps({name: one.get(name) for name in row})
        for row, one in zip(rows, told, strict=True)
    )


def differing_columns(again: pd.DataFrame, kept: pd.DataFrame) -> list[str]:
    """The columns in which a table is not what it was computed to."""
    if list(again) != list(kept) or len(again) != len(kept):
        return sorted({*again} ^ {*kept}) or ["its rows"]
    pairs = {
        str(name): (to_json_value(again[name].tolist()), to_json_value(kept[name].tolist()))
        for name in again
    }
    return [name for name, (one, other) in pairs.items() if not is_near(one, other)]


def is_near(one: Any, other: Any) -> bool:
    """Whether two values are the same, numbers up to rounding on another processor."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_near, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) or (
            one != one and other != other
        )
    return bool(one == other)


def smallest_training(runs: Sequence[SavedRun]) -> RecordedTraining | None:
    """The training of some runs that is soonest repeated, a cut one before the model as it is; None
    where none was recorded."""
    known = [
        training
        for run in runs
        for training in trainings_recorded(run, recorded_cuts(run))
        if training.rows and any(row["split"] == WRITTEN for row in training.rows)
    ]
    return min(known, key=lambda one: (one.size, not one.cut.id, one.seed), default=None)


class Repetition(NamedTuple):
    """What came of repeating a training."""

    is_same: bool
    said: str


def repeat_training(training: RecordedTraining, corpus: Corpus) -> Repetition:
    """Train once more what was recorded, in a process of its own: this runs the edited code.

    Args:
        corpus: the text, whose hash must be the training's.

    Raises:
        UsageError: another text; a source of which nothing can be made here.
    """
    if corpus.sha256 != training.text:
        raise UsageError(
            f"it was trained on another text than {corpus.name} (sha256 {training.text[:12]}, not "
            f"{corpus.sha256[:12]}): give its text, --text FILE"
        )
    model, recipe = GPTConfig(**training.model), TrainConfig(**training.recipe)
    surgery = surgery_of(training)
    tokenizer = CharTokenizer.from_text(corpus.text)
    data = split(corpus, tokenizer, model.block_size)
    made: list[Rows] = []
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            training.variant,
            surgery,
            training.seed,
            model,
            recipe,
            training.text,
            state=Path(folder) / "state.safetensors",
            weights=None,
            stop_at=training.stop_at,
        )
        Processes(1).run(
            train_task,
            {task.text: (data, tokenizer)},
            [task],
            told=lambda *_: None,
            done=lambda _, rows: made.append(to_json_value(rows)),
        )
    return compare_repetition(training, made[0])


def surgery_of(training: RecordedTraining) -> Surgery | None:
    """What makes the training's source of the one that is here."""
    here = read_source(gpt.model)
    return None if training.cut.text == here.text else to_text(here, training.cut.text)


def compare_repetition(training: RecordedTraining, made: Rows) -> Repetition:
    """Where a repetition differs from what was recorded, in validation loss."""
    losses = [
        [row["loss"] for row in rows if row["split"] == "val"]
        for rows in (training.rows or [], made)
    ]
    recorded, again = losses
    name = f"{training.name}, {training.stop_at or training.recipe['steps']} steps"
    if json.dumps(recorded) == json.dumps(again):
        return Repetition(True, f"{name}: {recorded[-1]:.4f} nats, to the last bit")
    if len(recorded) != len(again):
        return Repetition(False, f"{name}: {len(again)} evaluations, not {len(recorded)}")
    near = abs(recorded[0] - again[0]) <= FIRST and abs(recorded[-1] - again[-1]) <= LAST
    return Repetition(near, f"{name}: {again[-1]:.4f} nats, recorded are {recorded[-1]:.4f}")
