"""Which lines does the architecture need: cut before training, what does the loss not recover from?

Each surgery is trained anew with several seeds, beside at least five trainings of the model as it
is: their spread is the noise, and says beforehand which differences can be found. A cut that lowers
the loss is checked for leaks of later tokens and repeated at twice the steps. Every result is kept
at once, and taken from any other run that has it; killed at any instant, the same command goes on.

    python -m experiments.retrain                                      the course's cuts, minutes
    python -m experiments.retrain --surgeries top:12 --seeds 5 --preset laptop --text shakespeare
    python -m experiments.retrain --surgeries model.py:197:cut-skip --ray local
    python -m experiments.retrain --cut 'x = x + attn_out => x = attn_out'
    python -m experiments.retrain --surgeries top:12 --status          from another terminal
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd

import gpt.model
from experiments.course import REFERENCE, curves_caption, describe_variants, ngram_entropies
from experiments.support.cli import (
    Between,
    Options,
    Seeds,
    Steps,
    Texts,
    announce,
    console,
    launch,
    refuse_options,
    run_name,
)
from experiments.support.own_cuts import (
    Cuts,
    identities,
    names_of_cuts,
    own_cuts,
    say_before_training,
)
from experiments.support.pages.presenting import present
from experiments.support.pages.summary import (
    KINDS,
    improvements,
    noise_said,
    print_summary,
    reading,
    shown,
    summarise,
    trainings_of,
)
from experiments.support.pages.telling import limits_of_trainings, of_trainings
from experiments.support.pages.views import save_views, source_sha256
from experiments.support.record import Experiment, Quoted
from experiments.support.retraining import hash_file, run_all, samples_of
from experiments.support.sampling import known_text, save_samples, say_samples
from experiments.support.trainings.board import say_how_far
from experiments.support.trainings.choosing import choose_surgeries, top_asked
from experiments.support.trainings.executors import Executor, at_once, executor_of
from experiments.support.trainings.finished import are_made, identity_of_tables, note_made
from experiments.support.trainings.line_trainings import (
    most_harmful,
    trained_study,
    untrained_study,
)
from experiments.support.trainings.tasks import Task, resize_preset, tasks_of
from experiments.support.variants import BASELINE, CUTS
from gpt import checkpoint
from gpt.text import CharTokenizer, Corpus, Data, load_corpus, split
from gpt.train import PRESETS, Preset
from interp import figures, surgery
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun, identity_of
from interp.surgery import Study, Surgery
from interp.verdicts import correct, interval_words, verdict_words

BASELINE_SEEDS = 5
"""The fewest trainings of the model as it is: with less, its spread is a guess."""


@dataclass(frozen=True)
class Config(Options):
    """Retraining sweeps."""

    surgeries: tuple[str, ...] = ()
    """What to cut: course (its four; without --cut the default), top:N (the N lines whose cut does
    the trained model most harm), names of the course's variants, or ids as experiments.lines prints
    them."""
    cut: Cuts = ()
    """A cut of your own, as in experiments.course. Repeat it for several."""
    seeds: Seeds = 3
    """Trainings of each surgery, from three on with intervals; the model as it is gets at least
    five."""
    preset: Literal["demo", "laptop", "course"] = "demo"
    """Size of model and training."""
    steps: Steps | None = None
    """Steps of each training, if not the preset's."""
    workers: Annotated[int, Between(0, 4096)] = at_once()
    """Trainings at a time on this machine, one process and one thread each; 0 trains in this one
    process."""
    ray: str = ""
    """Train on a Ray cluster instead: its address, or local to start one here."""
    gpus: Annotated[float, Between(0, 1024)] = 0.0
    """The share of a GPU that Ray gives each training: 0.25 runs four on one."""
    texts: Texts = 24
    """Blocks of the validation text on which the trained model's damage is measured."""
    published: bool = False
    """Draw the course's published curves too (always with preset course)."""
    status: bool = False
    """Say how far the run is, from another terminal, and end."""


def main(config: Config) -> Path:
    if not config.ray:
        refuse_options(config, ["gpus"], "is for --ray, which gives a training its share of a GPU")
    elif config.ray != "local":
        refuse_options(config, ["workers"], f"has no effect on the cluster at {config.ray}")
    corpus = load_corpus(config.text)
    asked = config.surgeries or (() if config.cut else ("course",))
    own = own_cuts(config.cut, [surgery.read_source(gpt.model)], [BASELINE, *CUTS])
    named = "+".join([*asked, *names_of_cuts(own)])
    made = [config.preset, corpus.name, named, config.seeds, *filter(None, [config.steps])]
    name = config.name or run_name(*made)
    if config.status:
        return say_how_far(config.runs / "retrain" / name)
    tokenizer = CharTokenizer.from_text(corpus.text)
    preset = resize_preset(PRESETS[config.preset], tokenizer.vocab_size, config.steps)
    data = split(corpus, tokenizer, preset.model.block_size)
    cuts = choose_surgeries(asked, preset, data) if asked else {}  # wrong names are said at once
    examined = say_before_training(
        lambda: untrained_study(preset, data),
        own,
        config.runs / "retrain" / name,
        model=asdict(preset.model),
        text=corpus.sha256,
    )
    own = examined.cuts
    settings: dict[str, Any] = {
        "preset": config.preset,
        "surgeries": list(asked),
        "cuts": identities(own),
        "model": asdict(preset.model),
        "train": asdict(preset.train),
        "text": {"name": corpus.name, "sha256": corpus.sha256},
        "seeds": list(range(config.seed, config.seed + config.seeds)),
        "texts": config.texts,
    }
    executor = executor_of(config.workers, config.ray, config.gpus)
    hashes = {"text_sha256": corpus.sha256, "source_sha256": source_sha256()}
    with Run.open(config.runs, "retrain", name, settings, hashes) as run:
        examined.keep(run)
        device = "cuda" if config.ray and config.gpus else None
        sweep = Sweep(
            run, settings["seeds"], preset, data, tokenizer, executor, device, config.texts
        )
        page = sweep.swept(cuts | own, asked, config, corpus)
    announce(run.folder)
    return page


@dataclass(frozen=True)
class Sweep:
    """What all stages of a sweep share."""

    run: Run
    seeds: list[int]
    preset: Preset
    data: Data
    tokenizer: CharTokenizer
    executor: Executor
    device: str | None
    texts: int

    @property
    def baseline_seeds(self) -> list[int]:
        count = max(BASELINE_SEEDS, len(self.seeds))
        return list(range(self.seeds[0], self.seeds[0] + count))

    def swept(
        self, cuts: dict[str, Surgery], asked: Sequence[str], config: Config, corpus: Corpus
    ) -> Path:
        run, text = self.run, corpus.sha256
        baseline = self.trained({BASELINE: None}, self.baseline_seeds, text)
        console.print(noise_said(baseline, len(self.seeds)))
        if wanted := top_asked(asked):
            cuts = cuts | self.top(wanted)
        curves = pd.concat([baseline, self.trained(cuts, self.seeds, text)], ignore_index=True)
        samples = samples_of(run, self.tasks({BASELINE: None, **cuts}, self.seeds, text))
        made_of = identity_of_tables(
            weights=hash_file(self.whole),
            rows=curves.to_dict("records"),
            samples=samples.to_dict("records"),
            settings=run.description["config"],
        )
        if not are_made(run, made_of):
            self.save_tables(cuts, curves, samples, text)
            note_made(run, made_of)
        published = config.published or config.preset == "course"
        page = present(run, draw, published and "course" in asked)
        print_summary(run.table("summary"), trainings_of(run.table()))
        say_samples(run)
        return page

    def save_tables(
        self, cuts: dict[str, Surgery], curves: pd.DataFrame, samples: pd.DataFrame, text: str
    ) -> None:
        """Save all that is made of the trainings; those of ``confirmed`` are trained here."""
        run = self.run
        run.save_table(describe_variants(curves, {BASELINE: None, **cuts}))
        run.save_table(summarise(run.table()), "summary")
        run.save_table(ngram_entropies(self.data), "entropies")
        save_samples(run, samples, known_text(self.data, self.tokenizer), BASELINE)
        save_views(run, checkpoint.load(self.whole).model, self.tokenizer, self.data.val)
        damage = self.study.posthoc(cuts.values())
        run.save_table(damage.assign(variant=list(cuts)), "damage")
        run.save_table(both(run.table("summary"), run.table("damage")), "lasting_cost")
        confirmed, again = self.confirmed(cuts, run.table("summary"), text)
        run.save_table(confirmed, "confirmed")
        run.save_table(again, "confirmed_trainings")

    def trained(
        self, cuts: Mapping[str, Surgery | None], seeds: Sequence[int], text: str, longer: int = 1
    ) -> pd.DataFrame:
        """The curves of some variants, each trained with every seed for ``longer`` times the
        preset's steps."""
        tasks = self.tasks(cuts, seeds, text, longer)
        texts = {text: (self.data, self.tokenizer)}
        return pd.DataFrame(run_all(self.run, tasks, texts, self.executor))

    def tasks(
        self, cuts: Mapping[str, Surgery | None], seeds: Sequence[int], text: str, longer: int = 1
    ) -> list[Task]:
        preset = resize_preset(self.preset, None, longer * self.preset.train.steps)
        return tasks_of(
            self.run,
            cuts,
            seeds,
            preset,
            text,
            keep=lambda *named: named == (BASELINE, self.seeds[0]) and longer == 1,
            device=self.device,
        )

    @property
    def whole(self) -> Path:
        """The checkpoint of the model as it is, trained with the first seed."""
        return self.run.folder / "models" / f"{BASELINE}-{self.seeds[0]}.safetensors"

    @cached_property
    def study(self) -> Study:
        """What cutting lines of the trained model does, judged on some validation texts."""
        return trained_study(self.whole, self.preset, self.data, self.texts)

    def top(self, count: int) -> dict[str, Surgery]:
        """The lines whose cut changes the trained model's loss most; found once, and kept."""
        config = self.run.description["config"]
        identity = identity_of(posthoc=self.study.sources[0].text, config=config, top=count)
        ids = self.run.task(identity)
        if ids is None:
            console.print("cutting every line of the trained model")
            table = self.study.posthoc()
            self.run.save_table(table, "posthoc")
            found = [{"id": id} for id in most_harmful(table, count)]
            ids = self.run.record(identity, found)
        return {row["id"]: self.study.find(row["id"]) for row in ids}

    def confirmed(
        self, cuts: Mapping[str, Surgery], summary: pd.DataFrame, text: str
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The cuts that lower the loss once more, with the model as it is, at twice the steps:
        their summary and their trainings."""
        better = improvements(summary)
        if not better:
            return summary.head(0), trainings_of(self.run.table()).head(0)
        console.print(f"better than the model as it is, so again at twice the steps: {better}")
        again = [
            self.trained({BASELINE: None}, self.baseline_seeds, text, longer=2),
            self.trained({name: cuts[name] for name in better}, self.seeds, text, longer=2),
        ]
        curves = describe_variants(pd.concat(again, ignore_index=True), {BASELINE: None, **cuts})
        return summarise(curves), trainings_of(curves)


def both(summary: pd.DataFrame, damage: pd.DataFrame) -> pd.DataFrame:
    """Damage and lasting cost of each surgery, in the columns that the figure takes."""
    again = summary[summary["variant"] != BASELINE].set_index("variant")
    columns = again[["delta", "ci_low", "ci_high", "p_adjusted", "n", "status"]]
    return correct(damage).join(columns.add_prefix("retrained_"), on="variant")


def draw(run: Run, published: bool) -> None:
    """Figures, from the saved tables alone."""
    table, lines, both_effects = run.table(), run.table("entropies"), run.table("lasting_cost")
    overlay = pd.read_csv(REFERENCE) if published else None
    run.save_figure(figures.learning_curves(table, lines, overlay), "learning_curves")
    run.save_figure(figures.loss_bars(table), "loss_bars")
    if has_costs(both_effects):
        figure = figures.damage_and_lasting_cost(both_effects, trainings_of(table))
        run.save_figure(figure, "damage_and_lasting_cost")


def has_costs(table: pd.DataFrame) -> bool:
    return bool(table["retrained_delta"].notna().any())


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    table, lines, summary = run.table(), run.table("entropies"), run.table("summary")
    confirmed, trainings = run.table("confirmed"), trainings_of(table)
    shown_figures = [
        Figure.saved(curves_caption(summary, lines), run.figure("learning_curves")),
        Figure.saved(
            "Best and last validation loss in nats per character, over seeds.",
            run.figure("loss_bars"),
        ),
    ]
    if has_costs(run.table("lasting_cost")):
        shown_figures.append(
            Figure.saved(
                "Damage to the trained model against lasting cost, that of training without it.",
                run.figure("damage_and_lasting_cost"),
            )
        )
    rows = summary.to_dict("records")
    sections: list[Part] = [
        Section(
            "All surgeries",
            text=reading(rows[0], lines, trainings),  # the others' have their own
            figures=shown_figures,
            table=shown(summary, trainings),
            saved=summary,
        )
    ]
    if len(confirmed):
        sections.append(
            Section(
                "Improvements, at twice the steps",
                text="\n\n".join(stands(row) for row in confirmed.to_dict("records")[1:]),
                table=shown(confirmed, run.table("confirmed_trainings")),
            )
        )
    diffs = table.drop_duplicates("variant").set_index("variant")["diff"]
    for row in rows[1:]:
        text, diff = reading(row, lines, trainings), diffs[row["variant"]]
        sections.append(Section(row["variant"].replace("_", " "), text, code=diff))
    return sections


def effects(run: SavedRun) -> pd.DataFrame:
    """What the summary ranks."""
    return of_trainings(run.table("summary"), trainings_of(run.table()))


def limits(run: SavedRun) -> list[str]:
    return limits_of_trainings(run.table("summary"))


def stands(row: Mapping[Any, Any]) -> str:
    """What became at twice the steps of a variant that was better."""
    by = [
        f"by its {loss} loss {row[f'{kind}delta']:+.3f} ({interval_words(row, kind)}): "
        f"{verdict_words(row, kind)}"
        for kind, loss in KINDS.items()
    ]
    return f"{row['variant']}: {'; '.join(by)}."


EXPERIMENT = Experiment(
    name="retrain",
    title="Retraining sweep",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("summary", ("variant",)),
    effects=effects,
    limits=limits,
    rank=1,
    trains_cuts=True,
    cuts_lines=True,
    writing="Text of each retrained model",
)

if __name__ == "__main__":
    launch(main, Config)
