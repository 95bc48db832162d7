"""What does each attention head do for the loss, and which tokens suffer without it?

On a trained model every head's output is set to zero, to its mean over a reference text, or to what
it says in another text (resample), one head at a time; the change in loss is measured on texts the
model was not trained on. Then the head whose ablation costs most is looked at token by token (of a
model of characters, character by character).

    python -m experiments.heads                                     under a minute, no download
    python -m experiments.heads --model laptop.safetensors --text shakespeare
    python -m experiments.heads --examples 256                      narrower intervals
    python -m experiments.heads --model smollm2 --text notes.txt    a pretrained model, on any text
    python -m experiments.heads --model hf:gpt2 --ways zero mean --context 32

How to read it: zero takes away everything, also what a head says everywhere alike, to which the
model is used; mean leaves that and takes only what depends on the text; resample puts something
plausible but wrong in its place.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from experiments.support.cli import announce, console, launch
from experiments.support.measured import measured_on, measured_reading
from experiments.support.pages.presenting import present
from experiments.support.pages.telling import of_trained_model
from experiments.support.pages.views import save_subject_views, with_computing
from experiments.support.record import Experiment, Quoted
from experiments.support.sampling import known_text, save_samples, say_samples, write_variants
from experiments.support.trained import SweepOptions, TrainedSubject, find_subject, workers_of
from experiments.support.variants import BASELINE
from interp import figures
from interp.caching import cache
from interp.figures import head_name, loss_change_by_token, loss_change_in_text
from interp.figures.tokens import noun_of
from interp.interventions import Mean, Resample, Zero, intervene
from interp.metrics import loss, token_losses
from interp.places import Intervention
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun
from interp.site import Site, sites
from interp.stats import bootstrap_interval, sign_flip_p
from interp.sweep import sweep
from interp.verdicts import (
    Verdict,
    correct,
    costliest,
    interval_words,
    power_words,
    verdict_of,
    verdict_words,
    verdicts_of,
)

Way = Literal["zero", "mean", "resample"]
WAYS: tuple[Way, ...] = get_args(Way)
HEADS = "blocks.*.attn.hook_z"
FEWEST = 20  # occurrences of a character, below which its mean says little
FEWEST_OF_TOKENS = 3  # occurrences of a token of several characters: there are many, and rare
RESAMPLES = 2000  # of a token's occurrences
SHOWN = 18  # characters in the figure
EXCERPTS = 5  # texts in the figure
WRITTEN = 4  # heads without which the model writes
ROWS_SHOWN = 60  # of all numbers on the page; the file has all
SAID = {"zero": "is zero", "mean": "says its mean", "resample": "is from another text"}


@dataclass(frozen=True)
class Config(SweepOptions):
    """Zero, mean and resample ablation of every head."""

    ways: tuple[Way, ...] = ()
    """How heads are ablated: zero, mean, resample; by default all, and mean for a large model."""
    large_model: ClassVar[tuple[int, int]] = (
        16,
        8,
    )  # fewer texts could show no effect of 270 heads


def main(config: Config) -> Path:
    subject = find_subject(config)
    workers = workers_of(config)
    model, tokens = subject.model, subject.examples(config.examples)
    asked_ways = config.ways or (("mean",) if subject.is_large else WAYS)
    settings = {
        "subject": subject.config,
        "examples": len(tokens),
        "seed": config.seed,
        "ways": asked_ways,
    }
    with Run.open(
        config.runs, "heads", config.name or subject.label, settings, subject.config["text"]
    ) as run:
        reference = cache(model, subject.reference(config.examples), HEADS)
        known: dict[Way, Intervention] = {
            "zero": Zero(),
            "mean": Mean(reference),
            "resample": Resample(reference, seed=config.seed),
        }
        ways = {way: known[way] for way in dict.fromkeys(asked_ways)}
        heads = sites(model, HEADS, each="head")
        asked = [(head, way) for way in ways for head in heads]
        questions = [(head, ways[way]) for head, way in asked]
        table = sweep(model, tokens, questions, loss, run=run, elsewhere=workers)
        table = table.assign(intervention=[way for _, way in asked], seed=config.seed)
        table = with_computing(table, model)
        run.save_table(table)
        worst = worst_head(table)
        losses = per_token(subject, tokens, worst, ways[worst["intervention"]])
        run.save_table(at_line_of(worst, losses), "tokens")
        run.save_table(at_line_of(worst, by_token(losses)), "by_token")
        run.save_table(measured_on(subject, tokens, losses["baseline"]), "measured")
        samples = without_heads(subject, table, ways[worst["intervention"]], config.seed, run)
        save_samples(run, samples, known_text(subject.data, subject.tokenizer), BASELINE)
        save_subject_views(run, subject)
        page = present(run, draw)
    console.print(*readings(run), sep="\n", soft_wrap=True, markup=False)
    say_samples(run)
    announce(run.folder)
    return page


def rows_of_choice(table: pd.DataFrame) -> pd.DataFrame:
    """The rows by which heads are chosen to be looked at: those of the mean, else the first way."""
    means = table[table["intervention"] == "mean"]
    return means if len(means) else table[table["intervention"] == table["intervention"].iloc[0]]


def worst_head(table: pd.DataFrame) -> pd.Series:
    """The row of the head whose ablation costs most, of those that are shown to cost anything."""
    return costliest(rows_of_choice(table))


def at_line_of(head: pd.Series, table: pd.DataFrame) -> pd.DataFrame:
    """A table whose every row names the lines that compute a head."""
    table = table.assign(**{name: head[name] for name in ("file", "line", "code")})
    computing = [head["computing"]] * len(table)
    return table.assign(computing=pd.Series(computing, index=table.index, dtype=object))


def without_heads(
    subject: TrainedSubject, table: pd.DataFrame, way: Intervention, seed: int, run: Run
) -> pd.DataFrame:
    """What the model writes without each of the heads whose ablation costs most."""
    rows = rows_of_choice(table).sort_values("delta", ascending=False)
    costly = rows.iloc[np.argsort(verdicts_of(rows) != Verdict.RAISES, kind="stable")][:WRITTEN]
    said = SAID[costly["intervention"].iloc[0]]
    variants = {
        f"head {head_name(row)} {said}": (
            f"{row['file']}:{row['line']}  {row['code']}",
            {row["site"]: way},
        )
        for _, row in costly.iterrows()
    }
    return write_variants(subject, seed, variants, run)


@torch.no_grad()
def per_token(
    subject: TrainedSubject,
    tokens: Int[Tensor, "batch pos"],
    head: pd.Series,
    intervention: Intervention,
) -> pd.DataFrame:
    """The loss of every token to be predicted, with the head and without it."""
    model = subject.model
    baseline = token_losses(model(tokens), tokens)
    with intervene(model, {Site.parse(head["site"]): intervention}):
        value = token_losses(model(tokens), tokens)
    batch, length = baseline.shape
    return pd.DataFrame(
        {
            "site": head["site"],
            "intervention": head["intervention"],
            "example": np.repeat(np.arange(batch), length),
            "pos": np.tile(np.arange(1, length + 1), batch),
            "token": subject.tokenizer.names(tokens[:, 1:].flatten()),
            "baseline": baseline.flatten().cpu().numpy(),
            "value": value.flatten().cpu().numpy(),
            "delta": (value - baseline).flatten().cpu().numpy(),
        }
    )


def by_token(losses: pd.DataFrame) -> pd.DataFrame:
    """The mean change for each token that occurs often enough, largest first, with its interval
    over occurrences, and sign flips corrected for all these tokens."""
    fewest, rows = fewest_of(losses), []
    often = [(t, part) for t, part in losses.groupby("token")["delta"] if len(part) >= fewest]
    flips = max(RESAMPLES, 40 * len(often))  # else Holm's factor alone passes 0.05
    for token, part in often:
        deltas = part.to_numpy()
        mean, low, high = bootstrap_interval(deltas, resamples=RESAMPLES)
        tested = {"ci_low": low, "ci_high": high, "p": sign_flip_p(deltas, flips)}
        rows.append({"token": token, "delta": mean, **tested, "n": len(deltas)})
    columns = ["token", "delta", "ci_low", "ci_high", "p", "n"]
    table = correct(pd.DataFrame(rows, columns=columns)).drop(columns="p")
    return table.sort_values("delta", ascending=False, ignore_index=True)


def fewest_of(losses: pd.DataFrame) -> int:
    """How often a token must occur for its mean to be told."""
    return FEWEST if noun_of(losses["token"]) == "character" else FEWEST_OF_TOKENS


def draw(run: Run) -> None:
    """Figures, from the saved tables alone."""
    table, losses, tokens = run.table(), run.table("tokens"), run.table("by_token")
    run.save_figure(figures.heads(table), "head_effects")
    worst = worst_head(table)
    title = f"What suffers when head {head_name(worst)} {SAID[worst['intervention']]}"
    if len(tokens):
        bars = loss_change_by_token(tokens.head(SHOWN), f"{title}: {noun_of(losses['token'])}s")
        run.save_figure(bars, "by_token")
    hardest = losses.groupby("example")["delta"].mean().nlargest(EXCERPTS).index
    text = loss_change_in_text(losses[losses["example"].isin(hardest)], f"{title}: in the text")
    run.save_figure(text, "text")


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    table, sentences = run.table(), readings(run)
    name, noun = head_name(worst_head(table)), noun_of(run.table("tokens")["token"])
    fewest = fewest_of(run.table("tokens"))
    figures = []
    if len(run.table("by_token")):
        caption = (
            f"The {noun}s that suffer most, of those that occur at least {fewest} times, with "
            "95 % intervals over their occurrences."
        )
        figures.append(Figure.saved(caption, run.figure("by_token")))
    figures.append(Figure.saved("The texts that suffer most.", run.figure("text")))
    shown = ["site", "intervention", "baseline", "value", "delta", "ci_low", "ci_high"]
    numbers = table[[*shown, "p_adjusted", "n", "file", "line"]]
    if len(numbers) > ROWS_SHOWN:
        numbers = numbers.sort_values("delta", key=abs, ascending=False)
    return [
        Section(
            "Every head",
            text="\n\n".join(sentences[:-1]),
            figures=[
                Figure.saved(
                    "Change in loss without each head, in nats.", run.figure("head_effects")
                )
            ],
        ),
        Section(f"Head {name}, {noun} by {noun}", text=sentences[-1], figures=figures),
        Section("Every head: all numbers", table=numbers.head(ROWS_SHOWN), saved=numbers),
    ]


def effects(run: SavedRun) -> pd.DataFrame:
    """What the summary ranks."""
    table = run.table()
    ways = {"zero": "set to zero", "mean": "set to its mean", "resample": "taken from another text"}
    names = "head " + table["layer"].astype(str) + "." + table["head"].astype(str)
    return of_trained_model(table, names, table["intervention"].map(ways))


def readings(run: SavedRun) -> list[str]:
    """One plain sentence on each main finding; the last is on tokens."""
    table, tokens = run.table(), run.table("by_token")
    noun = noun_of(run.table("tokens")["token"])
    said = [measured_reading(run.table("measured"))]
    for way, rows in table.groupby("intervention", sort=False):
        worst = costliest(rows)
        row, name = worst.to_dict(), head_name(worst)
        unsure = int((verdicts_of(rows) == Verdict.NOT_SHOWN).sum())
        effect = f"{row['delta']:+.3f} nats ({interval_words(row)}"
        said.append(
            f"Under {way} ablation head {name} matters most: {effect}); {unsure} of "
            f"{len(rows)} heads show no effect."
            if verdict_of(row) is Verdict.RAISES
            else f"Under {way} ablation no head is shown to matter: the largest change is that of "
            f"head {name}, {effect}; {verdict_words(row)}); {unsure} of {len(rows)} "
            "heads show no effect."
        )
    said += power_words(table)
    name = head_name(worst_head(table))
    if tokens.empty:
        fewest = fewest_of(run.table("tokens"))
        said.append(f"No {noun} occurs {fewest} times: more --examples would tell which suffer.")
    else:
        said.append(token_reading(name, noun, tokens))
    return said


def token_reading(head: str, noun: str, tokens: pd.DataFrame) -> str:
    """Which token suffers most without a head, of those that are shown to, and which gains."""
    top, verdicts = costliest(tokens).to_dict(), verdicts_of(tokens)
    effect = f"{top['delta']:+.3f} nats over {top['n']} occurrences, {interval_words(top)}"
    said = (
        f"Without head {head} the {noun} {top['token']!r} suffers most ({effect})"
        if verdict_of(top) is Verdict.RAISES
        else f"Without head {head} no {noun} is shown to suffer: the largest change is that of "
        f"{top['token']!r} ({effect}; {verdict_words(top)})"
    )
    gains = tokens[verdicts == Verdict.LOWERS]
    if len(gains):
        most = gains.nsmallest(1, "delta").iloc[0]
        said += f", and {most['token']!r} gains most ({most['delta']:+.3f})"
    unsure = int((verdicts == Verdict.NOT_SHOWN).sum())
    return f"{said}; {unsure} of {len(tokens)} {noun}s show no effect."


EXPERIMENT = Experiment(
    name="heads",
    title="Heads",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("results", ("site", "intervention")),
    effects=effects,
    rank=4,
    writing="Text without each head",
)

if __name__ == "__main__":
    launch(main, Config)
