"""Which part of a model carries the answer from one text to the end of another?

Two texts of equal length: a clean one that the model answers, and a corrupted one in which what
matters is changed. Run the model on the corrupted text, put one part's value from the clean text in
its place, and see how much of the clean answer comes back: 0 is corrupted, 1 is clean. Done for the
residual stream, attention and MLP outputs over layer and position, and for every head.

    python -m experiments.patching                        induction, in about a minute, no download
    python -m experiments.patching --clean "(1, 2" --corrupted "[1, 2" --answer ")" --wrong "]"
    python -m experiments.patching --model smollm2 --clean "The capital of France is" \\
        --corrupted "The capital of Germany is" --answer " Paris" --wrong " Berlin"
    python -m experiments.patching --pairs pairs.csv      columns clean, corrupted, answer, wrong

Without a pair the task is induction: a random string is repeated up to its last letter, which the
model has to complete. Corrupted, the first occurrence has the letter before the answer somewhere
else, so that another letter follows it (or, with --corrupt answer, another answer). A two-layer
model that does it is trained in seconds, or is the --model. The metric is the logit of the
answer minus that of the wrong answer at the last position; left out, they are what the model
predicts after the clean and after the corrupted text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from experiments.support.cli import (
    Examples,
    announce,
    console,
    launch,
    refuse_options,
    run_name,
)
from experiments.support.devices import device_named
from experiments.support.named.checkpoints import opened
from experiments.support.named.coding import TextTokens
from experiments.support.named.found import Size
from experiments.support.named.kinds import Kind, kind_of
from experiments.support.pages.carrying import (
    carriers,
    heads_reading,
    held_where,
    most_of,
    strongest_head,
)
from experiments.support.pages.presenting import present
from experiments.support.pages.views import with_computing
from experiments.support.pairs import (
    Pair,
    PairTask,
    check_pairs,
    check_texts,
    read_pairs,
    task_of_pairs,
)
from experiments.support.record import Experiment, Quoted
from experiments.support.trained import SweepOptions, comes_trained, find_subject, workers_of
from experiments.support.trainings.induction import InductionRecipe, induction_model, swapped_cues
from gpt.errors import UsageError
from interp import figures
from interp.heads import attention_patterns, head_scores
from interp.metrics import logit_difference
from interp.patching import activation_patching, induction_pairs
from interp.report import Figure, Part, Section
from interp.report.attention import AttentionView
from interp.runs import Run, SavedRun

INDUCTION = "induction"
STRINGS = 64
COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "z")
INSIDE_HEADS = ("q", "k", "v")
OF_INDUCTION = ("examples", "length", "corrupt")
OF_A_SUBJECT = ("preset", "text", "weights", "set", "tokenizer", "context", "trust_remote_code")
"""Options that have no effect on the other."""


@dataclass(frozen=True)
class Config(SweepOptions):
    """Activation patching, clean into corrupted."""

    examples: Examples | None = None
    """Random strings of the built-in task; by default 64."""
    length: int = 16
    """Letters of a random string."""
    corrupt: Literal["cue", "answer"] = "cue"
    """What is changed in the first occurrence of the string: the letter before the answer, by which
    it is found, or the answer."""
    clean: str = ""
    """A text that the model answers."""
    corrupted: str = ""
    """The same text with what matters changed, of as many tokens."""
    answer: str = ""
    """The token that should follow the clean text, as " Paris" with its space; of a model of
    characters a character."""
    wrong: str = ""
    """The token that should follow the corrupted one."""
    head_parts: Literal["auto", "output", "all"] = "auto"
    """What of each head is patched: its output, or all, also its query, key and value; auto takes
    the output of a large model, else all."""
    pairs: Path | None = None
    """A CSV file of pairs with columns clean and corrupted, and, if wanted, answer and wrong."""


def main(config: Config) -> Path:
    workers, built_in = workers_of(config), asks_for_induction(config)
    if not built_in and comes_trained(config.model, config.weights):
        refuse_options(config, ["seed"], "is for what is trained here or drawn at random")
    task = induction(config) if built_in else pairs_given(config)
    with Run.open(config.runs, "patching", config.name or task.label, task.config) as run:
        metric = logit_difference(task.answer, task.wrong)
        components = task.config["components"]
        table = activation_patching(
            task.model,
            task.clean,
            task.corrupted,
            metric,
            components,
            run=run,
            elsewhere=workers,
        )
        table = with_computing(table, task.model)
        run.save_table(table.assign(metric="logit_difference", seed=config.seed))
        run.save_table(tokens_of_pair(task), "positions")
        names = task.tokenizer.names(task.clean[0])
        run.save_table(attention_patterns(task.model, task.clean[0], names), "patterns")
        if task.config["task"] == INDUCTION:
            run.save_table(head_scores(task.model, task.clean, "with_target"), "scores")
        page = present(run, draw)
    console.print(*readings(run), sep="\n", soft_wrap=True, markup=False)
    announce(run.folder)
    return page


def asks_for_induction(config: Config) -> bool:
    """Whether the built-in task is meant; raises where half a pair is given, or two kinds."""
    if config.pairs is not None and (config.clean or config.corrupted or config.answer):
        raise UsageError("give --pairs, or one pair as --clean and --corrupted, not both")
    if bool(config.clean) != bool(config.corrupted):
        given, missing = ("--clean", "--corrupted")[:: 1 if config.clean else -1]
        raise UsageError(f"{given} is given and {missing} is not: patching compares two texts")
    if not config.clean and config.pairs is None:
        if config.answer or config.wrong:
            raise UsageError("--answer and --wrong are about a pair: give --clean and --corrupted")
        if kind_of(config.model) not in (Kind.PRESET, Kind.CHECKPOINT):
            raise UsageError(
                "the built-in task is for models of characters: give this one a pair, as in "
                '--clean "The capital of France is" --corrupted "The capital of Germany is"'
            )
        return True
    return False


def induction(config: Config) -> PairTask:
    """Random strings repeated, and a model that was trained on such, or the checkpoint."""
    device, recipe = device_named(config.device), InductionRecipe()
    block, letters, label = recipe.block_size, len(recipe.letters), INDUCTION
    refuse_options(config, OF_A_SUBJECT, "has no effect on the built-in task, of random strings")
    if config.model:
        model, tokenizer, about = opened(Path(config.model))
        block, letters = model.config.block_size, tokenizer.vocab_size
        label = run_name(INDUCTION, Path(config.model).stem)
    if 2 * config.length - 1 > block:
        raise UsageError(
            f"--length is {config.length}: a string and its repeat take "
            f"{2 * config.length - 1} letters, and this model's block holds {block}"
        )
    count = config.examples or STRINGS
    sizes = (letters, config.length, count, config.seed)
    answer_at = wrong_at = config.length - 1
    if config.corrupt == "cue":
        clean, corrupted, answer_at, wrong_at = swapped_cues(*sizes)
    else:
        clean, corrupted = induction_pairs(*sizes)
    if not config.model:
        model, tokenizer, about = induction_model(recipe, config.seed, config.runs, device)
    clean, corrupted = clean.to(device), corrupted.to(device)
    if config.dtype != "auto":
        model = model.to(getattr(torch, config.dtype))
    settings = {
        "task": INDUCTION,
        "dtype": config.dtype,
        "components": patched_components(config, is_large=False),
        "corrupt": config.corrupt,
        "model": about,
        "length": config.length,
        "examples": count,
        "seed": config.seed,
    }
    return PairTask(
        model.to(device),
        tokenizer,
        clean,
        corrupted,
        answer=clean[:, answer_at],
        wrong=corrupted[:, wrong_at],
        config=settings,
        label=label,
    )


def pairs_given(config: Config) -> PairTask:
    """The pair of the command line, or those of the file, for a model of text."""
    if config.pairs is not None:
        pairs = read_pairs(config.pairs)
    else:
        pairs = [Pair(config.clean, config.corrupted, config.answer, config.wrong)]
    check_texts(pairs)
    refuse_options(config, OF_INDUCTION, "is for the built-in task, not for pairs")
    subject = find_subject(config, partial(check_within, config, pairs))
    made_of = config.pairs.stem if config.pairs else ""
    task = task_of_pairs(subject, pairs, made_of)
    components = patched_components(config, subject.is_large)
    return replace(task, config=task.config | {"components": components})


def check_within(config: Config, pairs: Sequence[Pair], size: Size, tokenizer: TextTokens) -> None:
    """Raises ``UsageError`` where the model, or what it is given at once, does not hold a pair."""
    check_pairs(
        pairs, replace(size, context=min(size.context, config.context or size.context)), tokenizer
    )


def patched_components(config: Config, is_large: bool) -> list[str]:
    """What is patched: the fewer of a large model, of which each cell costs a while."""
    all_parts = config.head_parts == "all" or (config.head_parts == "auto" and not is_large)
    return [*COMPONENTS, *(INSIDE_HEADS if all_parts else ())]


def tokens_of_pair(task: PairTask) -> pd.DataFrame:
    """The token at each position of the first pair."""
    clean, corrupted = (task.tokenizer.names(side[0]) for side in (task.clean, task.corrupted))
    return pd.DataFrame({"pos": range(len(clean)), "clean": clean, "corrupted": corrupted})


def draw(run: Run) -> None:
    """Figures, from the saved tables alone."""
    table, characters, patterns = run.table(), run.table("positions"), run.table("patterns")
    run.save_figure(figures.positions(table, characters), "positions")
    run.save_figure(figures.heads(table), "heads")
    for layer, head in carriers(table):
        figure = figures.attention(patterns, layer, head)
        run.save_figure(figure, f"pattern_{layer}_{head}")
    if run.description["config"]["task"] == INDUCTION:
        scores = run.table("scores").assign(text="random strings, repeated")
        run.save_figure(figures.head_scores(scores, by="text"), "scores")


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    table, sentences = run.table(), readings(run)
    heads = carriers(table)
    sections: list[Part] = [
        Section(
            "Where the answer is",
            text="\n\n".join(sentences[:3]),
            figures=[
                Figure.saved(
                    "Share of the clean answer restored, layer by position.",
                    run.figure("positions"),
                )
            ],
        ),
        Section(
            "Which heads carry it",
            text="\n\n".join(sentences[3:]),
            figures=[
                Figure.saved(
                    "Share restored by each head: its output (z), and, where those were patched, "
                    "its query, key and value.",
                    run.figure("heads"),
                ),
                *(
                    Figure.saved(
                        f"Where head {layer}.{head} looks in the first clean text.",
                        run.figure(f"pattern_{layer}_{head}"),
                    )
                    for layer, head in heads
                ),
            ],
        ),
    ]
    if run.description["config"]["task"] == INDUCTION:
        sections.append(
            Section(
                "What kind of heads they are",
                text="A score is the share of a head's attention that goes where such a head "
                "looks, of the queries that have such a place. The previous-token head is needed "
                "in the first occurrence of the string alone, so its score stays near a half.",
                figures=[
                    Figure.saved("Scores of every head on the clean texts.", run.figure("scores"))
                ],
                table=run.table("scores")[["site", "metric", "value", "ci_low", "ci_high", "n"]],
            )
        )
    shown = ["component", "site", "recovered", "recovered_low", "recovered_high", "p_adjusted"]
    strongest = table.sort_values("recovered", ascending=False)[[*shown, "n", "line", "code"]]
    sections.append(Section("The largest of all cells", table=strongest.head(40), saved=strongest))
    title = "Attention in the first clean text"
    sections.append(AttentionView.of(run.table("patterns"), strongest_head(table), title))
    return sections


def readings(run: SavedRun) -> list[str]:
    """One plain sentence on each main finding: three on positions, the others on heads."""
    table, positions = run.table(), run.table("positions")
    first = table.iloc[0]
    said = [
        f"The logit of the answer is {first['clean']:+.2f} nats above that of the wrong answer "
        f"after the clean texts, {first['baseline']:+.2f} after the corrupted ones "
        f"({first['n']} pair{'s' if first['n'] > 1 else ''})."
    ]
    stream = table[table["component"] == "resid_pre"]
    said.append(f"The residual stream holds most of it entering {held_where(stream, positions)}.")
    outputs = table[table["component"].isin(["attn_out", "mlp_out"])]
    said += [most_of("the layers' outputs", outputs), *heads_reading(table)]
    if run.description["config"]["task"] == INDUCTION:
        scores = run.table("scores")
        for metric, layer in (("previous_token", 0), ("induction", scores["layer"].max())):
            rows = scores[(scores["metric"] == metric) & (scores["layer"] == layer)]
            top = rows.nlargest(1, "value").iloc[0]
            said.append(
                f"The highest {metric.replace('_', '-')} score of layer {layer} is "
                f"{top['value']:.2f}, of head {layer}.{top['head']:.0f}."
            )
    return said


EXPERIMENT = Experiment(
    name="patching",
    title="Activation patching",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("results", ("component", "site")),
    readings=readings,
    rank=7,
    shows_attention=False,
)

if __name__ == "__main__":
    launch(main, Config)
