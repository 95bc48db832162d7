"""What does every line of a model file do for the loss?

A profiler for causal importance. Every line that runs is cut in every way that tells a story, on
the trained model, in all layers together and in each alone; the lines that matter most are also cut
before training, but for a model that comes with weights. What comes out is the source, with the
effects beside the lines.

    python -m experiments.lines                                     about a minute, no download
    python -m experiments.lines --preset laptop --checkpoint laptop.safetensors
    python -m experiments.lines --model my_model.py:GPT             any file, any class
    python -m experiments.lines --model smollm2                     a pretrained model, on any text
    python -m experiments.lines --model hf:gpt2 --layers 0 5 11     in some layers alone

Interrupted or killed and started again, it goes on where it stopped. Trainings of our own model are
those of experiments.course and experiments.retrain: what one of them has trained is not trained
again.
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd

from experiments.support.cli import (
    Between,
    Workers,
    announce,
    console,
    launch,
    run_name,
)
from experiments.support.line_models import (
    before_training,
    losses_of,
    studied_model,
    trainings_by_seed,
)
from experiments.support.line_options import LineOptions
from experiments.support.line_samples import save_line_samples
from experiments.support.line_studies import make_study, note_layers
from experiments.support.measured import measured_on, measured_reading
from experiments.support.own_cuts import (
    Cuts,
    identities,
    names_of_cuts,
    of_own_cuts,
    own_cuts,
    say_before_training,
)
from experiments.support.pages.joining import HANDED_ON, command_without
from experiments.support.pages.presenting import present
from experiments.support.pages.telling import AFTER, BEFORE, COLUMNS, of_failures, of_surgeries
from experiments.support.pages.views import hash_source, save_views
from experiments.support.record import Experiment, Quoted
from experiments.support.sampling import say_samples
from experiments.support.trainings.executors import at_once, one_thread
from experiments.support.trainings.finished import are_made, identity_of_tables, note_made
from experiments.support.trainings.line_trainings import posthoc, trained_without
from gpt.protocol import LanguageModel
from gpt.text import CharTokenizer
from interp import figures, surgery
from interp.errors import SurgeryWarning
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun
from interp.status import Status
from interp.surgery import annotate
from interp.surgery.by_line import lines_of_hook_points
from interp.surgery.judging import weights_hash
from interp.surgery.source.imports import hash_of_imports
from interp.surgery.source.syntax import tell_apart
from interp.surgery.terminal import terminal
from interp.verdicts import correct, verdicts_of

SHOWN = 25  # rows of the table on the page; the file has all
COMES_TRAINED = (
    "No line was cut before training: the model comes trained, on more text than is to be had "
    "here, and what training would make of a line's absence is not known."
)
DECIDE = (
    "class",
    "model",
    "train",
    "text",
    "texts",
    "taken",
    "subject",
)  # settings that a result depends on


@dataclass(frozen=True)
class Config(LineOptions):
    """Code surgery on every line of a model file."""

    cut: Cuts = ()
    """A cut of your own beside all others, as in experiments.course. Repeat it for several."""
    workers: Workers = field(default_factory=at_once)
    """Mutants or trainings at a time, each in a process of its own."""
    limit_s: Annotated[float, Between(0.1, 10**6)] = 20.0
    """Wall-clock seconds after which the run of a cut model is stopped."""


def main(config: Config) -> Path:
    studied = studied_model(config)
    subject, trains = studied.subject, studied.subject is None
    sources = tell_apart([surgery.read_source(module) for module in studied.modules])
    source = sources[0]
    own = own_cuts(config.cut, sources)
    settings = studied.settings
    foreign = not trains or studied.train is not None
    name = config.name or run_name(studied.label, *names_of_cuts(own))
    read = {"sources": [s.text for s in sources], "imports": hash_of_imports(sources)}
    read |= studied.beside
    examined = say_before_training(
        lambda: before_training(studied), own, config.runs / "lines" / name, **read, **settings
    )
    own = examined.cuts
    if own:
        settings["cuts"] = identities(own)
    hashes = {"text_sha256": studied.corpus.sha256, "source_sha256": hash_source(source)}
    for number, more in enumerate(sources[1:], 2):
        hashes[f"source_{number}_sha256"] = hash_source(more)
    with Run.open(config.runs, "lines", name, settings, hashes) as run, one_thread():
        examined.keep(run)
        if foreign:
            console.print(f"{studied.name} of {', '.join(str(s.path) for s in sources)}")
            for note in studied.notes:
                console.print(f"note    {note}", soft_wrap=True, markup=False)
        ours = trainings_by_seed(studied, run, config.workers)
        model = studied.model(ours)
        top = 0 if ours is None else retrained_by_default(config, foreign)
        decided = {**read, "weights": weights_hash(model), "top": top, **settings}
        about = {key: settings[key] for key in DECIDE if key in settings} | studied.beside
        made_of = identity_of_tables(limit_s=config.limit_s, **decided)
        if not are_made(run, made_of):
            study = make_study(
                run,
                told=studied.notes,
                build=studied.build,
                judge=studied.judge,
                files=studied.modules,
                model=model,
                train=studied.train,
                reference=studied.reference,
                own=own.values(),
                trains=trains,
                limit_s=config.limit_s,
                workers=config.workers,
                about=about,
            )
            each: Literal["each", "headlines"] = "each"
            if subject is not None and subject.is_large:
                each = "headlines"
            with warnings.catch_warnings(action="ignore", category=SurgeryWarning):  # said by now
                run.save_table(posthoc(study, each, config.layers))
            note_layers(run, study)
            again = None
            if top and ours:
                trainings = trained_without(study, run.table(), top, settings["seeds"], ours)
                run.save_table(trainings, "trainings")
                again = correct(surgery.over_seeds(trainings))
                run.save_table(again, "retrained")
            save_line_samples(run, study, studied, config.seed)
            where = lines_of_hook_points(model, source.path)
            shown = [
                annotate.annotated(s, run.table(), again, where if s is source else None)
                for s in sources
            ]
            run.save_table(pd.concat(shown, ignore_index=True), "lines")
            run.save_table(annotate.by_layer(run.table()), "layers")
            run.save_table(annotate.by_site(run.table(), where), "sites")
            if subject is not None:
                call = study.baseline.calls[0]
                losses = pd.Series(losses_of(call.logits, call.tokens).flatten().cpu())
                run.save_table(measured_on(subject, call.tokens, losses), "measured")
            elif isinstance(model, LanguageModel) and isinstance(studied.tokenizer, CharTokenizer):
                save_views(run, model, studied.tokenizer, studied.data.val)
            note_made(run, made_of)
        page = present(run, draw)
    lines = run.table("lines")
    console.print(terminal(lines, run.table("layers"), console.width), soft_wrap=True)
    console.print(summary(run.table()))
    for said in of_own_cuts(run.table(), own):
        console.print(said, soft_wrap=True, markup=False)
    if not foreign:
        said = command_without(run).format(surgery=worst_cut(lines))
        console.print(f"train without one, by its id: {said}", soft_wrap=True, markup=False)
    say_samples(run)
    announce(run.folder)
    return page


def retrained_by_default(config: Config, foreign: bool) -> int:
    """How many lines are also cut before training."""
    if config.retrain_top is not None:
        return config.retrain_top
    return 3 if foreign and config.preset == "demo" else 8


def worst_cut(lines: pd.DataFrame) -> str:
    """The id of the cut that costs the trained model most."""
    return str(lines["surgery"].iloc[int(lines["delta"].abs().fillna(-1.0).argmax())])


def draw(run: Run) -> None:
    """Figures, from the saved tables alone."""
    lines = run.table("lines")
    trainings = run.table("trainings") if run.holds("trainings") else None
    run.save_figure(figures.lines(lines, trainings), "annotated_source")
    if has_layers(run):
        run.save_figure(figures.lines_by_layer(lines, run.table("layers")), "line_by_layer")
    if lines["retrained_delta"].notna().any():
        figure = figures.damage_and_lasting_cost(lines, trainings)
        run.save_figure(figure, "damage_and_lasting_cost")


def has_layers(run: SavedRun) -> bool:
    return not run.table("layers").empty


def parts(run: SavedRun) -> list[Part]:
    """What the page shows beside the source, from saved tables and figures alone."""
    table, lines = run.table(), run.table("lines")
    shown = []
    if has_layers(run):
        shown.append(Figure.saved("Which layers need which lines.", run.figure("line_by_layer")))
    if lines["retrained_delta"].notna().any():
        shown.append(
            Figure.saved(
                "Damage to the trained model against lasting cost, that of training without it.",
                run.figure("damage_and_lasting_cost"),
            )
        )
    columns = ["line", "operator", "after", "status", "delta", "ci_low", "ci_high", "verdict"]
    largest = ranked(table)
    largest = largest.assign(line=largest["where"], verdict=verdicts_of(largest).astype(str))
    numbers = largest[[*columns, "reading"]].head(SHOWN)
    text = summary(table)
    if run.holds("measured"):
        text = f"{measured_reading(run.table('measured'))}\n\n{text}"
    return [Section("Every line", text, shown, numbers, saved=table)]


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The headline surgeries by the size of their effect, each function once; hook points are
    instruments, not lines that do something."""
    cuts = surgery.headlines(table).dropna(subset=["delta"])
    cuts = surgery.one_per_function(cuts[~cuts["code"].str.contains(HANDED_ON)])
    return cuts.loc[cuts["delta"].abs().sort_values(ascending=False, kind="stable").index]


def effects(run: SavedRun) -> pd.DataFrame:
    """What the summary ranks: each line's headline surgery, on the trained model and retrained."""
    found = ranked(run.table())
    found = found[found["status"] == Status.CHANGED]
    tables = [of_surgeries(found, AFTER, "text")] if len(found) else []
    if run.holds("retrained"):
        again = run.table("retrained")
        again = again[(again["status"] == Status.CHANGED) & again["delta"].notna()]
        if len(again):
            tables.append(of_surgeries(again, BEFORE, "seed", run.table("trainings")))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def limits(run: SavedRun) -> list[str]:
    """What was not tested, and what could not be."""
    table, lines = run.table(), run.table("lines")
    seeds = run.description["config"].get("seeds")
    return [
        *run.table("notes")["note"],
        f"Effects on the trained model are means over {int(table['n'].max())} texts, with 95 % "
        "intervals over these; p-values are corrected for all cuts that were made (Holm), "
        "intervals are not.",
        COMES_TRAINED
        if seeds is None
        else f"{int(lines['retrained_delta'].notna().sum())} of "
        f"{int((lines['status'] == 'changed').sum())} lines with an effect were also "
        f"cut before training, with {len(seeds)} seeds each; what "
        "training would make of the others is not known.",
        *(of_failures(run.table("retrained")) if run.holds("retrained") else []),
    ]


def summary(table: pd.DataFrame) -> str:
    """How many surgeries came to what."""
    together = table[(table["layer"] == "all") & (table["operator"] != "")]
    counts = together["status"].value_counts()
    dead = int((table["status"] == Status.DEAD).sum())
    parts = ", ".join(f"{count} {status}" for status, count in counts.items())
    single = int((table["layer"] != "all").sum())
    return (
        f"{len(together)} surgeries: {parts}; {dead} lines never ran. "
        f"{single} more in one layer at a time."
    )


EXPERIMENT = Experiment(
    name="lines",
    title="Every line",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("results", ("line",), surgery.headlines),
    effects=effects,
    limits=limits,
    rank=2,
    cuts_lines=True,
    writing="Text without each line",
)

if __name__ == "__main__":
    launch(main, Config)
