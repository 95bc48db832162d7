"""What does each attention head do for the loss, and which characters suffer without it?

On a trained model every head's output is set to zero, to its mean over a reference text, or to what
it says in another text (resample), one head at a time; the change in loss is measured on texts the
model was not trained on. Then the head whose mean ablation costs most is looked at character by
character.

    python -m experiments.heads                                     under a minute, no download
    python -m experiments.heads --model laptop.safetensors --text shakespeare
    python -m experiments.heads --examples 256                      narrower intervals

How to read it: zero takes away everything, also what a head says everywhere alike, to which the
model is used; mean leaves that and takes only what depends on the text; resample puts something
plausible but wrong in its place.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from experiments.support.cli import announce, console, launch
from experiments.support.pages.presenting import present
from experiments.support.pages.telling import of_trained_model
from experiments.support.pages.views import save_subject_views, with_computing
from experiments.support.record import Experiment, Quoted
from experiments.support.sampling import known_text, save_samples, say_samples, write_variants
from experiments.support.trained import StudyOptions, TrainedSubject, find_subject
from experiments.support.variants import BASELINE
from interp import figures
from interp.caching import cache
from interp.figures import head_name, loss_change_by_character, loss_change_in_text
from interp.interventions import Mean, Resample, Zero, intervene
from interp.metrics import loss, token_losses
from interp.places import Intervention
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun
from interp.site import Site, sites
from interp.stats import bootstrap_interval
from interp.sweep import sweep
from interp.verdicts import Verdict, interval_words, verdicts_of

HEADS = "blocks.*.attn.hook_z"
FEWEST = 20  # occurrences of a character, below which its mean says little
SHOWN = 18  # characters in the figure
EXCERPTS = 5  # texts in the figure
WRITTEN = 4  # heads without which the model writes


@dataclass(frozen=True)
class Config(StudyOptions):
    """Zero, mean and resample ablation of every head."""


def main(config: Config) -> Path:
    subject = find_subject(config)
    model, tokens = subject.model, subject.examples(config.examples)
    settings = {"subject": subject.config, "examples": len(tokens), "seed": config.seed}
    with Run.open(
        config.runs, "heads", config.name or subject.label, settings, subject.config["text"]
    ) as run:
        reference = cache(model, subject.reference(config.examples), HEADS)
        ways: dict[str, Intervention] = {
            "zero": Zero(),
            "mean": Mean(reference),
            "resample": Resample(reference, seed=config.seed),
        }
        heads = sites(model, HEADS, each="head")
        asked = [(head, way) for way in ways for head in heads]
        questions = [(head, ways[way]) for head, way in asked]
        table = sweep(model, tokens, questions, loss, run=run)
        table = table.assign(intervention=[way for _, way in asked], seed=config.seed)
        table = with_computing(table, model)
        run.save_table(table)
        worst = worst_head(table)
        losses = per_token(subject, tokens, Site.parse(worst["site"]), ways["mean"])
        run.save_table(at_line_of(worst, losses), "tokens")
        run.save_table(at_line_of(worst, per_character(losses)), "characters")
        samples = without_heads(subject, table, ways["mean"], config.seed)
        save_samples(run, samples, known_text(subject.data, subject.tokenizer), BASELINE)
        save_subject_views(run, subject)
        page = present(run, draw)
    console.print(*readings(run), sep="\n", soft_wrap=True, markup=False)
    say_samples(run)
    announce(run.folder)
    return page


def worst_head(table: pd.DataFrame) -> pd.Series:
    """The row of the head whose mean ablation costs most."""
    means = table[table["intervention"] == "mean"]
    return means.nlargest(1, "delta").iloc[0]


def at_line_of(head: pd.Series, table: pd.DataFrame) -> pd.DataFrame:
    """A table whose every row names the lines that compute a head."""
    table = table.assign(**{name: head[name] for name in ("file", "line", "code")})
    computing = [head["computing"]] * len(table)
    return table.assign(computing=pd.Series(computing, index=table.index, dtype=object))


def without_heads(
    subject: TrainedSubject, table: pd.DataFrame, mean: Intervention, seed: int
) -> pd.DataFrame:
    """What the model writes without each of the heads whose mean ablation costs most."""
    costly = table[table["intervention"] == "mean"].nlargest(WRITTEN, "delta")
    variants = {
        f"head {head_name(row)} says its mean": (
            f"{row['file']}:{row['line']}  {row['code']}",
            {row["site"]: mean},
        )
        for _, row in costly.iterrows()
    }
    return write_variants(subject, seed, variants)


@torch.no_grad()
def per_token(
    subject: TrainedSubject,
    tokens: Int[Tensor, "batch pos"],
    head: Site,
    intervention: Intervention,
) -> pd.DataFrame:
    """The loss of every character to be predicted, with the head and without it."""
    model = subject.model
    baseline = token_losses(model(tokens), tokens)
    with intervene(model, {head: intervention}):
        value = token_losses(model(tokens), tokens)
    batch, length = baseline.shape
    return pd.DataFrame(
        {
            "site": str(head),
            "intervention": "mean",
            "example": np.repeat(np.arange(batch), length),
            "pos": np.tile(np.arange(1, length + 1), batch),
            "character": list(subject.tokenizer.decode(tokens[:, 1:].flatten())),
            "baseline": baseline.flatten().cpu().numpy(),
            "value": value.flatten().cpu().numpy(),
            "delta": (value - baseline).flatten().cpu().numpy(),
        }
    )


def per_character(losses: pd.DataFrame) -> pd.DataFrame:
    """The mean change for each character that occurs often enough, largest first."""
    rows = []
    for character, deltas in losses.groupby("character")["delta"]:
        if len(deltas) >= FEWEST:
            mean, low, high = bootstrap_interval(deltas.to_numpy(), resamples=2000)
            ends = {"delta": mean, "ci_low": low, "ci_high": high}
            rows.append({"character": character, **ends, "n": len(deltas)})
    columns = ["character", "delta", "ci_low", "ci_high", "n"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("delta", ascending=False, ignore_index=True)


def draw(run: Run) -> None:
    """Figures, from the saved tables alone."""
    table, losses, characters = run.table(), run.table("tokens"), run.table("characters")
    run.save_figure(figures.heads(table), "head_effects")
    title = f"What suffers when head {head_name(worst_head(table))} says its mean"
    if len(characters):
        bars = loss_change_by_character(characters.head(SHOWN), f"{title}: characters")
        run.save_figure(bars, "characters")
    hardest = losses.groupby("example")["delta"].mean().nlargest(EXCERPTS).index
    text = loss_change_in_text(losses[losses["example"].isin(hardest)], f"{title}: in the text")
    run.save_figure(text, "text")


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    table, sentences = run.table(), readings(run)
    name = head_name(worst_head(table))
    figures = []
    if len(run.table("characters")):
        caption = (
            f"The characters that suffer most, of those that occur at least {FEWEST} times, with "
            "95 % intervals over their occurrences."
        )
        figures.append(Figure.saved(caption, run.figure("characters")))
    figures.append(Figure.saved("The texts that suffer most.", run.figure("text")))
    shown = ["site", "intervention", "baseline", "value", "delta", "ci_low", "ci_high"]
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
        Section(f"Head {name}, character by character", text=sentences[-1], figures=figures),
        Section(
            "Every head: all numbers", table=table[[*shown, "p_adjusted", "n", "file", "line"]]
        ),
    ]


def effects(run: SavedRun) -> pd.DataFrame:
    """What the summary ranks."""
    table = run.table()
    ways = {"zero": "set to zero", "mean": "set to its mean", "resample": "taken from another text"}
    names = "head " + table["layer"].astype(str) + "." + table["head"].astype(str)
    return of_trained_model(table, names, table["intervention"].map(ways))


def readings(run: SavedRun) -> list[str]:
    """One plain sentence on each main finding; the last is on characters."""
    table, characters = run.table(), run.table("characters")
    said = []
    for way, rows in table.groupby("intervention", sort=False):
        top = rows.nlargest(1, "delta").iloc[0]
        unsure = int((verdicts_of(rows) == Verdict.NOT_SHOWN).sum())
        said.append(
            f"Under {way} ablation head {head_name(top)} matters most: {top['delta']:+.3f} nats "
            f"({interval_words(top.to_dict())}); {unsure} of {len(rows)} heads show no effect."
        )
    name = head_name(worst_head(table))
    if characters.empty:
        said.append(f"No character occurs {FEWEST} times: more --examples would tell which suffer.")
    else:
        top, last = characters.iloc[0], characters.iloc[-1]
        said.append(
            f"Without head {name} the character {top['character']!r} suffers most "
            f"({top['delta']:+.3f} nats over {top['n']} occurrences) and {last['character']!r} "
            f"least ({last['delta']:+.3f})."
        )
    return said


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
