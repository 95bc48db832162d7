"""How much worse is the loss if a line of the model is cut before training?

The course's exercise: cut the residual connections, the layer norms of the blocks, the position
embedding, or all heads but one, each as an edit of the source of gpt/model.py; train every variant
anew on the same batches from the same initial weights; and name the line behind each curve.

    python -m experiments.course                                    about a minute, no download
    python -m experiments.course --preset laptop --text shakespeare    nanoGPT's laptop recipe
    python -m experiments.course --only no_residual --seeds 5
    python -m experiments.course --cut 'x = x + attn_out => x = attn_out'    a cut of your own
    python -m experiments.course --list-cuts

Interrupted and started again, it goes on where it stopped.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import gpt.model
from experiments.support.cli import Options, Seeds, Workers, announce, console, launch, run_name
from experiments.support.own_cuts import (
    Cuts,
    identities,
    list_cuts,
    names_of_cuts,
    of_damage,
    own_cuts,
    say_before_training,
)
from experiments.support.pages.presenting import present
from experiments.support.pages.summary import (
    on_unigram_line,
    print_summary,
    reading,
    shown,
    stopped,
    summarise,
    trainings_of,
)
from experiments.support.pages.telling import (
    limits_of_trainings,
    of_damage_of_variants,
    of_trainings,
)
from experiments.support.pages.views import save_views, source_sha256
from experiments.support.record import Experiment, Quoted
from experiments.support.retraining import hash_file, run_all, samples_of
from experiments.support.sampling import known_text, save_samples, say_samples
from experiments.support.trainings.executors import Processes, at_once
from experiments.support.trainings.finished import are_made, identity_of_tables, note_made
from experiments.support.trainings.line_trainings import trained_study, untrained_study
from experiments.support.trainings.tasks import tasks_of
from experiments.support.variants import BASELINE, CUTS, course_variants
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.text import CharTokenizer, Data, load_corpus, ngram_entropy, split
from gpt.train import PRESETS, Preset, TrainConfig
from interp import figures
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun
from interp.surgery import Surgery, read_source
from interp.verdicts import correct

# olinml2024/nanoGPT, ablation/shakespeare_char: one seed of each variant, at the course's full size
REFERENCE = Path(__file__).parent / "reference" / "course_curves.csv"
TEXTS = 24  # blocks on which the trained model is judged with a cut of one's own


@dataclass(frozen=True)
class Config(Options):
    """The course's ablations."""

    preset: Literal["demo", "laptop", "course"] = "demo"
    """Size of model and training. demo: a minute; laptop: 20 minutes on 2 cores; course: a GPU."""
    seeds: Seeds = 3
    """Trainings of each variant; from three on, differences have intervals."""
    only: tuple[str, ...] = ()
    """Variants to train beside the unablated model, of no_residual no_layer_norm
    no_position_embedding single_head. All by default; with --cut, none."""
    cut: Cuts = ()
    """A cut of your own: 'model.py:189: x = attn_out' (what is to stand on a line), 'x = x +
    attn_out => x = attn_out' (the text that goes and the text that comes), my_idea.diff, or
    edited_model.py (a copy of gpt/model.py that you edited). With a name, if you like:
    'my_cut=...'. Several times for several."""
    list_cuts: bool = False
    """List what can be cut, line by line, and end."""
    stop_at: int | None = None
    """The evaluation after which every training stops, on the way of the whole schedule; the
    command without it goes on from there."""
    workers: Workers = field(default_factory=at_once)
    """Trainings at a time, one thread each."""
    published: bool = False
    """Draw the course's published curves too (always with preset course)."""


def main(config: Config) -> Path:
    preset = PRESETS[config.preset]
    if config.stop_at is not None:
        require_evaluation(config.stop_at, preset.train)
    corpus = load_corpus(config.text)
    tokenizer = CharTokenizer.from_text(corpus.text)
    data = split(corpus, tokenizer, preset.model.block_size)
    model = replace(preset.model, vocab_size=tokenizer.vocab_size)
    sized = Preset(model, preset.train)
    own = own_cuts(config.cut, [read_source(gpt.model)], [BASELINE, *CUTS])
    if config.list_cuts:
        return list_cuts(untrained_study(sized, data))
    name = config.name or run_name(config.preset, corpus.name, *names_of_cuts(own))
    examined = say_before_training(
        lambda: untrained_study(sized, data),
        own,
        config.runs / "course" / name,
        model=asdict(model),
        text=corpus.sha256,
    )
    own = examined.cuts
    variants = course_variants(config.only or ((BASELINE,) if own else ())) | own
    settings: dict[str, Any] = {
        "preset": config.preset,
        "model": asdict(model),
        "train": asdict(preset.train),
        "text": {"name": corpus.name, "sha256": corpus.sha256},
        "seeds": list(range(config.seed, config.seed + config.seeds)),
        "variants": {name: cut.id if cut else "" for name, cut in variants.items()},
    } | ({"cuts": identities(own)} if own else {})
    hashes = {"text_sha256": corpus.sha256, "source_sha256": source_sha256()}
    with Run.open(config.runs, "course", name, settings, hashes) as run:
        examined.keep(run)
        tasks = tasks_of(
            run,
            variants,
            settings["seeds"],
            sized,
            corpus.sha256,
            keep=lambda *_: True,
            stop_at=config.stop_at,
        )
        rows = run_all(run, tasks, {corpus.sha256: (data, tokenizer)}, Processes(config.workers))
        samples = samples_of(run, tasks)
        whole = run.folder / "models" / f"{BASELINE}-{config.seed}.safetensors"
        made_of = identity_of_tables(
            weights=hash_file(whole),
            rows=rows,
            samples=samples.to_dict("records"),
            settings=settings,
        )
        if not are_made(run, made_of):
            run.save_table(describe_variants(pd.DataFrame(rows), variants))
            run.save_table(summarise(run.table(), preset.train.steps), "summary")
            run.save_table(ngram_entropies(data), "entropies")
            save_samples(run, samples, known_text(data, tokenizer), BASELINE)
            if whole.exists():
                save_views(run, checkpoint.load(whole).model, tokenizer, data.val)
            if own:
                study = trained_study(whole, sized, data, TEXTS)
                damage = correct(study.posthoc(own.values())).assign(variant=list(own))
                run.save_table(damage, "damage")
            note_made(run, made_of)
        published = config.published or config.preset == "course"
        page = present(run, draw, published)
    print_summary(run.table("summary"), trainings_of(run.table()))
    for variant, said in damage_said(run).items():
        console.print(f"{variant}: {said}", soft_wrap=True, markup=False)
    say_samples(run)
    announce(run.folder)
    return page


def damage_said(run: SavedRun) -> dict[str, str]:
    """What each cut of one's own does to the trained model, in a sentence."""
    if not run.holds("damage"):
        return {}
    return {row["variant"]: of_damage(row) for row in run.table("damage").to_dict("records")}


def require_evaluation(step: int, recipe: TrainConfig) -> None:
    """Raises ``UsageError`` where no training evaluates at a step on its way."""
    if step % recipe.eval_interval or not 0 < step < recipe.steps:
        raise UsageError(
            f"--stop-at is {step}; it must be one of the evaluations, every {recipe.eval_interval} "
            f"steps, before step {recipe.steps}"
        )


def describe_variants(curves: pd.DataFrame, variants: dict[str, Surgery | None]) -> pd.DataFrame:
    """The curves, and on every row which lines were cut, and their code before and after."""
    rows = {
        name: {
            "label": cut.label if cut else BASELINE,
            "diff": cut.diff if cut else "",
            "file": cut.file if cut else "",
            "line": cut.line if cut else 0,
            "lines": cut.lines if cut else (),
            "before": tuple(before for before, _ in cut.rewritten.values()) if cut else (),
            "after": tuple(after for _, after in cut.rewritten.values()) if cut else (),
            "surgery": cut.id if cut else "",
        }
        for name, cut in variants.items()
    }
    return curves.join(pd.DataFrame.from_dict(rows, orient="index"), on="variant")


def ngram_entropies(data: Data) -> pd.DataFrame:
    """What a model loses in nats per character that only ever counted n-grams."""
    return pd.DataFrame(
        {"n": n, "name": name, "split": part, "nats": ngram_entropy(data.train, tokens, n)}
        for n, name in ((1, "unigram"), (2, "bigram"), (3, "trigram"))
        for part, tokens in (("train", data.train), ("val", data.val))
    )


def draw(run: Run, published: bool) -> None:
    """Figures, from the saved tables alone."""
    table, lines, summary = run.table(), run.table("entropies"), run.table("summary")
    overlay = pd.read_csv(REFERENCE) if published else None
    until = stopped(summary.iloc[0].to_dict())
    curves = figures.learning_curves(table, lines, overlay, stopped=until)
    run.save_figure(curves, "learning_curves")
    run.save_figure(figures.loss_bars(table, stopped=until), "loss_bars")
    for variant in summary["variant"][1:]:
        run.save_figure(figures.variant_curves(table, variant, lines), f"curve_{variant}")


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    table, lines, summary = run.table(), run.table("entropies"), run.table("summary")
    trainings = trainings_of(table)
    sections: list[Part] = [
        Section(
            "All variants",
            text=reading(summary.iloc[0].to_dict(), lines, trainings),  # the others' have their own
            figures=[
                Figure.saved(curves_caption(summary, lines), run.figure("learning_curves")),
                Figure.saved(
                    "Best and last validation loss in nats per character, over seeds.",
                    run.figure("loss_bars"),
                ),
            ],
            table=shown(summary, trainings),
            saved=summary,
        )
    ]
    damage = damage_said(run)
    for row in summary.to_dict("records")[1:]:
        variant = row["variant"]
        curve = run.figure(f"curve_{variant}")
        diff = table.loc[table["variant"] == variant, "diff"].iloc[0]
        sections.append(
            Section(
                variant.replace("_", " "),
                text="\n\n".join(
                    filter(None, [reading(row, lines, trainings), damage.get(variant)])
                ),
                figures=[Figure.saved(f"Train and validation loss of {variant}.", curve)],
                code=diff,
                half=True,
            )
        )
    return sections


def effects(run: SavedRun) -> pd.DataFrame:
    """What the summary ranks: what training without each cut costs and, of cuts of one's own, what
    the trained model loses."""
    summary = run.table("summary")
    found = of_trainings(summary, trainings_of(run.table()))
    if not run.holds("damage"):
        return found
    damage = of_damage_of_variants(run.table("damage"), summary)
    return pd.concat([damage, found], ignore_index=True) if len(damage) else found


def limits(run: SavedRun) -> list[str]:
    return limits_of_trainings(run.table("summary"))


def curves_caption(summary: pd.DataFrame, lines: pd.DataFrame) -> str:
    """What to see in the figure of all curves."""
    flat = [r["variant"] for r in summary.to_dict("records") if on_unigram_line(r, lines)]
    caption = "Validation loss while training; one curve per cut, one mark per evaluation."
    if flat:
        caption += (
            f" On the unigram line, having learned letter frequencies only: {', '.join(flat)}."
        )
    return caption


EXPERIMENT = Experiment(
    name="course",
    title="The course's ablations",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("summary", ("variant",)),
    effects=effects,
    limits=limits,
    rank=0,
    trains_cuts=True,
    cuts_lines=True,
    writing="Text of each variant",
)

if __name__ == "__main__":
    launch(main, Config)
