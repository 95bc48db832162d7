"""Where does each attention head look, and what kind of head is it?

The pattern of every head on one text, with the characters on both axes, and of one head large; how
far back each head looks on average over many texts; and how much of its attention goes to the
previous token, to earlier copies of the token, and to what followed those copies (an induction
head), on the validation text and on random strings repeated.

    python -m experiments.attention                                 under a minute, no download
    python -m experiments.attention --show "def f(self): return self"
    python -m experiments.attention --layer 1 --head 2 --model laptop.safetensors

How to read it: a row of a pattern is a query and adds up to 1; dark cells are the characters it
looks at. A high score says where a head looks, not that the model needs it: ask experiments.heads
for that.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from matplotlib.figure import Figure as MplFigure
from torch import Tensor

from experiments.support.cli import announce, console, launch
from experiments.support.named.coding import TextTokens, special_before
from experiments.support.named.found import Size
from experiments.support.pages.presenting import present
from experiments.support.record import Experiment, Quoted
from experiments.support.trained import StudyOptions, TrainedSubject, find_subject
from gpt.errors import UsageError
from gpt.text import CharTokenizer
from interp import figures
from interp.figures import head_name
from interp.heads import attention_by_distance, attention_patterns, head_scores
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun

REAL, REPEATED = "validation text", "random strings, repeated"
NEAR = 4  # tokens back
ENDS = 16  # of many heads, how many of the most local and of the least are drawn
SHOWN = 32  # characters of the text that is shown, where none is given


@dataclass(frozen=True)
class Config(StudyOptions):
    """Patterns, distances and scores of every head."""

    show: str = ""
    """The text whose patterns are drawn; by default the beginning of the validation text."""
    layer: int | None = None
    """Layer of the head that is drawn large; by default that of the head with the highest score."""
    head: int | None = None
    """Its number in the layer."""
    large_model: ClassVar[tuple[int, int]] = (16, 64)


def main(config: Config) -> Path:
    if (config.layer is None) != (config.head is None):
        raise UsageError("--layer and --head name one head together: give both or neither")
    subject = find_subject(config, partial(check_shown, config))
    model, tokens = subject.model, subject.examples(config.examples)
    shown = text_shown(subject, config.show)
    settings = {
        "subject": subject.config,
        "examples": len(tokens),
        "seed": config.seed,
        "show": subject.tokenizer.decode(shown),
        "large": [config.layer, config.head],
    }
    with Run.open(
        config.runs, "attention", config.name or subject.label, settings, subject.config["text"]
    ) as run:
        scores = [
            head_scores(model, tokens, "with_target").assign(text=REAL),
            head_scores(model, repeats(subject, tokens, config.seed), "with_target").assign(
                text=REPEATED
            ),
        ]
        run.save_table(pd.concat(scores, ignore_index=True).assign(seed=config.seed))
        run.save_table(attention_by_distance(model, tokens), "distances")
        names = subject.tokenizer.names(shown)
        run.save_table(attention_patterns(model, shown, names), "patterns")
        page = present(run, draw)
    console.print(*readings(run), sep="\n", soft_wrap=True, markup=False)
    announce(run.folder)
    return page


def check_shown(config: Config, size: Size, tokenizer: TextTokens) -> None:
    """Raises ``UsageError`` where the model has no such head, or cannot read the text."""
    for name, number, count in (
        ("layer", config.layer, size.layers),
        ("head", config.head, size.heads),
    ):
        if number is not None and count is not None and not 0 <= number < count:
            raise UsageError(f"--{name} is {number}; this model has {name}s 0 to {count - 1}")
    count = len(tokenizer.encode(config.show)) + len(special_before(tokenizer))
    if config.show and not 2 <= count <= size.context:
        unit = "characters" if isinstance(tokenizer, CharTokenizer) else "tokens"
        raise UsageError(
            f"--show has {count} {unit}; this model takes 2 to {size.context} at a time"
        )


def text_shown(subject: TrainedSubject, text: str) -> Int[Tensor, "pos"]:
    """The tokens of the text whose patterns are drawn."""
    if text:
        tokens = subject.tokenizer.encode(text).to(subject.data.val)
    else:
        length = min(SHOWN, subject.context) - len(special_before(subject.tokenizer))
        tokens = subject.data.val[:length]
    return subject.with_special(tokens[None])[0]


def repeats(
    subject: TrainedSubject, tokens: Int[Tensor, "batch pos"], seed: int
) -> Int[Tensor, "batch longer"]:
    """Random strings of the model's tokens, each followed by itself, as long as its texts."""
    half = subject.room // 2
    generator = torch.Generator().manual_seed(seed)
    vocabulary = subject.tokenizer.vocab_size
    strings = torch.randint(vocabulary, (len(tokens), half), generator=generator)
    return subject.with_special(torch.cat([strings, strings], dim=1).to(tokens))


def draw(run: Run) -> None:
    """Figures, from the saved tables alone."""
    scores, distances, patterns = run.table(), run.table("distances"), run.table("patterns")
    layer, head = chosen_head(run)
    drawn = {
        "grid": figures.attention(patterns),
        "head": figures.attention(patterns, layer, head),
        "distances": distance_figure(distances),
        "scores": figures.head_scores(scores, by="text"),
    }
    for name, figure in drawn.items():
        run.save_figure(figure, name)


def distance_figure(distances: pd.DataFrame) -> MplFigure:
    """How far back heads look; of many heads, the most local and the least."""
    near = near_sums(distances)
    if len(near) <= 2 * ENDS:
        return figures.by_distance(distances)
    chosen = pd.concat([near.nlargest(ENDS, "value"), near.nsmallest(ENDS, "value")])
    shown = distances.merge(chosen[["layer", "head"]])
    title = f"How far back heads look: the {ENDS} most local and the {ENDS} least, of {len(near)}"
    return figures.by_distance(shown, title)


def near_sums(distances: pd.DataFrame) -> pd.DataFrame:
    """Of each head, which share of all its attention goes to the tokens nearby: layer, head, value.

    A text of n tokens has n - d queries with a token d back, and each query's attention is 1.
    """
    length = distances["distance"].max() + 1
    queries = (length - distances["distance"]) / length
    near = distances.assign(value=distances["value"] * queries)
    near = near[near["distance"] <= NEAR]
    return near.groupby(["layer", "head"], as_index=False)[["value"]].sum()


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    scores, sentences, (layer, head) = run.table(), readings(run), chosen_head(run)
    return [
        Section(
            "What kind of head each one is",
            text="\n\n".join(sentences[:-1]),
            figures=[
                Figure.saved(
                    "Share of attention that goes where such a head looks.", run.figure("scores")
                )
            ],
        ),
        Section(
            "How far back they look",
            text=sentences[-1],
            figures=[
                Figure.saved("Mean attention by distance, over texts.", run.figure("distances"))
            ],
        ),
        Section(
            "All heads on one text",
            figures=[
                Figure.saved(
                    "A row for each query, from the top, and a column for each key.",
                    run.figure("grid"),
                )
            ],
        ),
        Section(
            f"Head {layer}.{head}",
            figures=[Figure.saved("Weights of a tenth and more in tenths.", run.figure("head"))],
        ),
        Section(
            "All scores of heads",
            table=scores[["text", "site", "metric", "value", "ci_low", "ci_high", "n"]],
        ),
    ]


def chosen_head(run: SavedRun) -> tuple[int, int]:
    """The head asked for, else that with the highest score on the validation text."""
    layer, head = run.description["config"]["large"]
    if layer is not None:
        return layer, head
    scores = run.table()
    best = scores[scores["text"] == REAL].nlargest(1, "value").iloc[0]
    return int(best["layer"]), int(best["head"])


def readings(run: SavedRun) -> list[str]:
    """One plain sentence on each main finding; the last is on distances."""
    scores, distances = run.table(), run.table("distances")
    said = []
    for (text, metric), rows in scores.groupby(["text", "metric"], sort=False):
        if (text == REPEATED) == (metric == "induction"):  # each where it can be told best
            said.append(score_reading(str(text), str(metric), rows))
    sums = near_sums(distances)
    most, least = sums.nlargest(1, "value").iloc[0], sums.nsmallest(1, "value").iloc[0]
    said.append(
        f"Head {head_name(most)} is the most local: {most['value']:.0%} of its attention goes to "
        f"the token itself and the {NEAR} before it; of head {head_name(least)} it is "
        f"{least['value']:.0%}."
    )
    return said


def score_reading(text: str, metric: str, rows: pd.DataFrame) -> str:
    """Which head has the highest of some scores, with how many texts it is a mean of where they
    are too few for an interval: those in which a head could look there at all."""
    name = metric.replace("_", "-")
    if rows["value"].isna().all():
        article = "an" if name[0] in "aeiou" else "a"
        return f"No head has {article} {name} score on the {text}: it has no place to look at."
    top = rows.nlargest(1, "value").iloc[0].to_dict()
    interval = (
        f"95 % interval {top['ci_low']:.2f} to {top['ci_high']:.2f}"
        if np.isfinite(top["ci_low"])
        else f"of {top['n']:.0f} text{'s' * (top['n'] != 1)}, too few for an interval"
    )
    return (
        f"The highest {name} score is {top['value']:.2f} ({interval}), of head "
        f"{top['layer']:.0f}.{top['head']:.0f}, on the {text}."
    )


EXPERIMENT = Experiment(
    name="attention",
    title="Attention",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("results", ("site", "metric", "text")),
    readings=readings,
    rank=6,
    chosen_head=chosen_head,
)

if __name__ == "__main__":
    launch(main, Config)
