"""What does each idea of a GPT buy, from a table of letter pairs to a transformer?

The lecture "Let's build GPT" as a staircase: position, one head of attention, several heads, a
feed-forward layer, blocks, residual connections, layer norm, dropout and size. Every step is a diff
of gpt/ladder beside the loss that it gains. With the lecture's seed, text and recipe the rungs
arrive at the lecture's published losses.

    python -m experiments.ladder                                    under a minute, no download
    python -m experiments.ladder --preset lecture --text shakespeare    the lecture's steps: minutes
    python -m experiments.ladder --preset lecture --text shakespeare --rung scaled    wants a GPU

Interrupted and started again, it goes on with the rung it was at.

How to read it: one seed of each rung has no interval, so a small step is not known to be more than
another seed would give. In the lecture the first two rungs learn ten times as fast as the others
and stop sooner, so that the step to one head is not of the code alone; in the demo all learn alike.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from rich.progress import Progress, TaskID

import gpt.ladder.climbing
import gpt.ladder.parts
import gpt.ladder.rungs
import gpt.model
from experiments.course import ngram_entropies
from experiments.support.cli import Options, Seed, announce, console, launch, run_name
from experiments.support.devices import Device, device_named
from experiments.support.pages.presenting import present
from experiments.support.pages.views import hash_source
from experiments.support.record import Experiment, Quoted
from experiments.support.sampling import (
    DECIDED_BY,
    SAMPLE,
    attempt_samples,
    known_text,
    prompts_of,
    save_samples,
    say_samples,
)
from experiments.support.trainings.rungs import plan_rung, threads_for
from gpt.corpora import SHAKESPEARE_SHA256
from gpt.errors import UsageError, nearest
from gpt.ladder import LECTURE, RUNGS, Recipe, climb, step
from gpt.model import GPTConfig
from gpt.text import CharTokenizer, Data, load_corpus, split
from interp import figures
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun, identity_of
from interp.surgery import read_source

# Val losses at the last evaluation in public logs of the lecture's code, from lowest to highest.
PUBLISHED = {
    "bigram": (2.4911, 2.4911),
    "position": (2.5114, 2.5114),
    "one head": (2.4084, 2.4084),
    "heads": (2.2858, 2.2858),
    "feed-forward": (2.2409, 2.2414),
    "blocks": (2.33, 2.34),
    "residual": (2.08, 2.10),
    "layer norm": (2.06, 2.09),
    "scaled": (1.48, 1.48),
}
# what decides how a rung ends
CODE = (gpt.ladder.rungs, gpt.ladder.parts, gpt.ladder.climbing, gpt.model)


@dataclass(frozen=True)
class Config(Options):
    """The ladder from bigram to GPT."""

    preset: Literal["demo", "lecture"] = "demo"
    """How long to train. demo: a tenth of the lecture's steps; lecture: all, on tiny shakespeare
    some minutes."""
    rung: tuple[str, ...] = ()
    """Rungs to climb, of bigram, position, "one head", heads, feed-forward, blocks, residual,
    "layer norm", scaled. All by default; but scaled, at the lecture's size, only if asked for."""
    seed: Seed = 1337
    """Of weights and batches; the lecture's by default."""
    device: Device = "cpu"
    """Where to compute. The lecture's losses are reproduced on cpu; scaled wants cuda."""


def main(config: Config) -> Path:
    device = device_named(config.device)
    names = choose_rungs(config)
    corpus = load_corpus(config.text)
    tokenizer = CharTokenizer.from_text(corpus.text)
    plans = {name: plan_rung(name, config.preset, tokenizer.vocab_size) for name in names}
    data = split(corpus, tokenizer, max(size.block_size for size, _ in plans.values()))
    settings: dict[str, Any] = {
        "preset": config.preset,
        "rungs": {name: {"size": asdict(s), "recipe": asdict(r)} for name, (s, r) in plans.items()},
        "text": {"name": corpus.name, "sha256": corpus.sha256},
        "seed": config.seed,
        "device": device.type,
    }
    name = config.name or run_name(config.preset, corpus.name, *map(slug, config.rung))
    with Run.open(config.runs, "ladder", name, settings, {"text_sha256": corpus.sha256}) as run:
        records = climb_all(run, plans, data, tokenizer, config.seed, device)
        lectures = (config.preset, corpus.sha256, config.seed)
        of_lecture = lectures == ("lecture", SHAKESPEARE_SHA256, Config.seed)
        run.save_table(curves(records, config.seed))
        run.save_table(summarise_rungs(records, of_lecture), "summary")
        run.save_table(ngram_entropies(data), "entropies")
        run.save_table(scaling(), "scaling")
        samples = texts_of_rungs(records, config.seed)
        save_samples(run, samples, known_text(data, tokenizer), names[0])
        page = present(run, draw)
        summary = run.table("summary")
    console.print(*map(rung_sentence, summary.to_dict("records")), sep="\n", soft_wrap=True)
    say_samples(run)
    announce(run.folder)
    return page


def choose_rungs(config: Config) -> list[str]:
    """The rungs asked for, from the lowest up."""
    if wrong := [name for name in config.rung if name not in RUNGS]:
        raise UsageError(
            f"there is no rung {wrong[0]!r}; nearest: {nearest(wrong[0], RUNGS)} "
            "(a name of two words in quotes)"
        )
    wanted = config.rung or [name for name in RUNGS if config.preset == "demo" or name != "scaled"]
    return [name for name in RUNGS if name in wanted]


def climb_all(
    run: Run,
    plans: dict[str, tuple[GPTConfig, Recipe]],
    data: Data,
    tokenizer: CharTokenizer,
    seed: int,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Each rung's losses, size and what it wrote; those recorded before are not climbed again."""
    records = {}
    asked = prompts_of(data, LECTURE.block_size)  # no longer than any rung can read
    with Progress(console=console, transient=True) as progress:
        for name, (size, recipe) in plans.items():
            bar = progress.add_task(name, total=recipe.steps)
            identity = identity_of(
                source=[hash_source(read_source(module)) for module in CODE],
                rung=name,
                size=asdict(size),
                recipe=asdict(recipe),
                text=data.sha256,
                seed=seed,
                device=device.type,
                sampling=DECIDED_BY | {"prompt": LECTURE.block_size},
            )
            rows = run.task(identity)
            if rows is None:

                def told(done: int, bar: TaskID = bar) -> None:
                    progress.update(bar, completed=done)

                with threads_for(size):
                    model, curve = climb(
                        RUNGS[name],
                        data,
                        vocab_size=tokenizer.vocab_size,
                        size=size,
                        recipe=recipe,
                        seed=seed,
                        device=device,
                        report=told,
                    )
                    record = {
                        "curve": [asdict(evaluation) for evaluation in curve],
                        "parameters": sum(weights.numel() for weights in model.parameters()),
                        "wrote": attempt_samples(
                            model, asked, SAMPLE, size.block_size, tokenizer, seed
                        ),
                    }
                rows = run.record(identity, [record])
            progress.update(bar, completed=recipe.steps)
            records[name] = rows[0]
    return records


def texts_of_rungs(records: dict[str, dict[str, Any]], seed: int) -> pd.DataFrame:
    """What each rung wrote: ``variant label seed prompt text detail``, a row for each prompt."""
    return pd.DataFrame(
        {"variant": name, "label": RUNGS[name].idea, "seed": seed, **row}
        for name, record in records.items()
        for row in record["wrote"]
    )


def curves(records: dict[str, dict[str, Any]], seed: int) -> pd.DataFrame:
    """Learning curves in long form, each with the idea and the diff of its rung."""
    diffs = {name: step(name) for name in records}
    return pd.DataFrame(
        {
            "variant": name,
            "label": f"ladder.py:{RUNGS[name].__name__}  {RUNGS[name].idea}",
            "diff": diffs[name],
            "seed": seed,
            "step": evaluation["step"],
            "split": part,
            "loss": evaluation[f"{part}_loss"],
        }
        for name, record in records.items()
        for evaluation in record["curve"]
        for part in ("train", "val")
    )


def summarise_rungs(records: dict[str, dict[str, Any]], of_lecture: bool) -> pd.DataFrame:
    """One row per rung: losses at the last evaluation, and the gain over the rung below it."""
    order = list(RUNGS)
    rows: list[dict[str, Any]] = []
    for name, record in records.items():
        last = record["curve"][-1]
        below = order[order.index(name) - 1] if name != order[0] else ""
        gain = (
            records[below]["curve"][-1]["val_loss"] - last["val_loss"]
            if below in records
            else math.nan
        )
        low, high = PUBLISHED[name] if of_lecture else (math.nan, math.nan)
        rows.append(
            {
                "rung": name,
                "idea": RUNGS[name].idea,
                "class": RUNGS[name].__name__,
                "parameters": record["parameters"],
                "step": last["step"],
                "train": last["train_loss"],
                "val": last["val_loss"],
                "below": below,
                "gain": gain,
                "published_low": low,
                "published_high": high,
                "diff": step(name),
            }
        )
    return pd.DataFrame(rows)


def scaling(seed: int = 0, keys: int = 64, draws: int = 200) -> pd.DataFrame:
    """Scores of random queries on random keys, all of variance 1, by the width of the head.

    Variance and entropy (nats) are means over queries; ``_sd`` is over ``draws`` sets of keys.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for d_head in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        q = torch.randn(draws, keys, d_head, generator=generator)
        k = torch.randn(draws, keys, d_head, generator=generator)
        for scaled in (False, True):
            scores = q @ k.transpose(1, 2) * (d_head**-0.5 if scaled else 1.0)
            variance = scores.flatten(1).var(dim=1)
            entropy = torch.special.entr(scores.softmax(dim=-1)).sum(dim=-1).mean(dim=1)
            rows.append(
                {
                    "d_head": d_head,
                    "scaled": scaled,
                    "variance": variance.mean().item(),
                    "variance_sd": variance.std().item(),
                    "entropy": entropy.mean().item(),
                    "entropy_sd": entropy.std().item(),
                    "uniform": math.log(keys),
                    "n": draws,
                    "seed": seed,
                }
            )
    return pd.DataFrame(rows)


def draw(run: Run) -> None:
    """Figures, from the saved tables alone."""
    summary, lines, scores = run.table("summary"), run.table("entropies"), run.table("scaling")
    near = lines[lines["n"] > 1]  # letter frequencies alone lie far above every rung
    run.save_figure(figures.staircase(summary, near), "staircase")
    title = "Validation loss, one curve per rung"
    run.save_figure(figures.learning_curves(run.table(), lines, title=title), "learning_curves")
    run.save_figure(figures.scaled_scores(scores), "scaled_scores")
    if (summary["diff"] != "").any():
        run.save_figure(figures.steps(summary), "steps")


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    summary, scores = run.table("summary"), run.table("scaling")
    rows = summary.to_dict("records")
    shown = ["rung", "idea", "parameters", "step", "train", "val", "gain"]
    published = ["published_low", "published_high"]
    known = summary["published_low"].notna().any()
    overview = [
        Figure.saved(
            "Validation loss of each rung at its last evaluation.", run.figure("staircase")
        ),
        Figure.saved("Validation loss while training.", run.figure("learning_curves")),
    ]
    if (summary["diff"] != "").any():
        caption = "Each step's gain beside the lines it changes."
        overview.append(Figure.saved(caption, run.figure("steps")))
    return [
        Section(
            "The staircase",
            text="\n\n".join(readings(run)),
            figures=overview,
            table=summary[[*shown, *(published if known else [])]],
        ),
        *(
            Section(f"{row['rung']}: {row['idea']}", text=rung_sentence(row), code=row["diff"])
            for row in rows
            if row["diff"]
        ),
        Section(
            "Why scores are scaled",
            text=on_scaling(scores),
            figures=[
                Figure.saved(
                    "Variance of scores, entropy of attention.", run.figure("scaled_scores")
                )
            ],
            table=scores,
        ),
    ]


CAVEATS: Sequence[str] = (
    "Losses are means over drawn batches at the last evaluation before the training ends, as the "
    "lecture prints them, of one seed: steps have no interval, and small ones are not known to be "
    "more than another seed would give. "
    "In the lecture the first two rungs train at a higher rate and for fewer steps than others.",
    "As in the lecture's code, rungs below the last divide attention scores by the square root of "
    "the model's width. Its text, nanoGPT and the last rung divide by that of the head's width.",
)


def readings(run: SavedRun) -> list[str]:
    """One plain sentence on each rung."""
    return [rung_sentence(row) for row in run.table("summary").to_dict("records")]


def limits(run: SavedRun) -> list[str]:
    """What the numbers leave open."""
    return list(CAVEATS)


def rung_sentence(row: dict[Any, Any]) -> str:
    """One plain sentence on a rung."""
    said = f"{row['rung']} ({row['idea']}): {row['val']:.4f} nats on val at step {row['step']}"
    if not math.isnan(row["gain"]):
        verb = "gains" if row["gain"] >= 0 else "loses"
        said += f"; {verb} {abs(row['gain']):.4f} against {row['below']}"
    low, high = row["published_low"], row["published_high"]
    if not math.isnan(low):
        span = f"{low:.4f}" if low == high else f"{low:.4f} to {high:.4f}"
        beyond = max(low - row["val"], row["val"] - high)
        within = "as published" if round(beyond, 4) <= 0 else f"{beyond:.4f} off what is published"
        said += f"; {within} ({span})"
    return said + "."


def on_scaling(scores: pd.DataFrame) -> str:
    """What the figure of scaled scores shows, in words."""
    widest = scores[scores["d_head"] == scores["d_head"].max()].set_index("scaled")
    plain, divided = widest.loc[False], widest.loc[True]
    return (
        f"The scores of a head {plain['d_head']:.0f} wide have a variance of "
        f"{plain['variance']:.0f}, and its attention an entropy of {plain['entropy']:.2f} nats: "
        f"nearly all of it falls on one token before anything is learned, and little gradient "
        f"reaches the others. Divided by the square root of the width the variance is "
        f"{divided['variance']:.2f} and the entropy {divided['entropy']:.2f}, of "
        f"{divided['uniform']:.2f} possible, at any width."
    )


def slug(name: str) -> str:
    return name.replace(" ", "_")


EXPERIMENT = Experiment(
    name="ladder",
    title="The ladder",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("summary", ("rung",)),
    readings=readings,
    limits=limits,
    rank=9,
    writing="Text of each rung",
    original="the lowest rung",
)

if __name__ == "__main__":
    launch(main, Config)
