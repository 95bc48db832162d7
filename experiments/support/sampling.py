"""What do models write here: which prompts, how long, and what is kept of it?

Every variant continues the same stretches of the validation text with the same random numbers
(``interp.samples``), so that texts can be read beside each other and counted in pairs.

    rows = write_samples(model, data, tokenizer, seed=0)     # a row for each prompt
    samples = save_samples(run, table, known_text(data, tokenizer), baseline="none")
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor, nn

from experiments.support.cli import console
from experiments.support.keeping import hash_code
from experiments.support.listing import record_of
from experiments.support.variants import BASELINE
from gpt.errors import UsageError
from gpt.text import CharTokenizer, Data, evaluation_blocks
from gpt.train import TrainConfig
from interp.characters import shorten_text, visible
from interp.report import WritingView
from interp.report.writing import VARIANTS, Continued
from interp.runs import Run, SavedRun
from interp.runs.description import packages
from interp.samples import COMPARED, KnownText, compare_samples, measure_texts, write
from interp.samples.prompts import Coder
from interp.surgery.guarding.outcomes import is_the_machines, one_sentence
from interp.sweeps.resuming.answers import Recorder, RowStore

if TYPE_CHECKING:
    from experiments.support.trained import TrainedSubject

PROMPTS = 8
PROMPT = 16  # characters
SAMPLE = 80  # characters that a finished model writes after each
SHORT = 30  # characters that it writes at some evaluations on the way
FEW_PROMPTS, FEW_TOKENS, FEW_VARIANTS = 2, 14, 1  # of a large model
LONG_ENOUGH = PROMPT + FEW_TOKENS + 8  # tokens that it then reads at once
BEFORE_TEXT = ("trigram_loss", "known_words")  # what a terminal says of all that was written

DECIDED_BY = {"method": 2, "prompts": PROMPTS, "prompt": PROMPT, "sample": SAMPLE, "short": SHORT}
"""What decides the samples, beside the model and the text; goes into identities."""


def prompts_of(data: Data, block_size: int) -> Int[Tensor, "prompt pos"]:
    """Stretches of the validation text, evenly spaced; each once, where it repeats itself."""
    stretches = evaluation_blocks(data.val.cpu(), min(PROMPT, block_size), PROMPTS)[0]
    return torch.tensor(list(dict.fromkeys(map(tuple, stretches.tolist()))))


def short_writer(
    data: Data, tokenizer: CharTokenizer, seed: int, block_size: int, recipe: TrainConfig
) -> Callable[[nn.Module, int], str]:
    """What a model under training is asked to write on its way: the first prompt goes on, and is
    not repeated. Empty where it is not asked, and where it cannot write, as a cut model may not."""

    def write_short(model: Any, step: int) -> str:
        if not is_written_at(step, recipe):
            return ""
        asked = prompts_of(data, block_size)[:1]
        rows = attempt_samples(model, asked, SHORT, block_size, tokenizer, seed)
        return str(rows[0]["text"])

    return write_short


def is_written_at(step: int, recipe: TrainConfig) -> bool:
    """Whether a model under training writes at an evaluation: at the first, and at those numbered
    2, 4, 8 and so on, for a model learns ever more slowly, and a step costs less than a letter. At
    the last it does not: what the finished model writes begins with the same text."""
    number = step // recipe.eval_interval
    return step < recipe.steps and number != 1 and number & (number - 1) == 0


def write_samples(
    model: Any, data: Data, tokenizer: CharTokenizer, seed: int, block_size: int, **cut: Any
) -> list[dict[str, Any]]:
    """What a finished model writes after each prompt: ``prompt text detail``, where ``detail`` says
    why there is no text.

    Args:
        seed: of the random numbers.
        block_size: how many characters it reads at once.
        cut: ``interventions``, where some are to be made.
    """
    asked = prompts_of(data, block_size)
    return attempt_samples(model, asked, SAMPLE, block_size, tokenizer, seed, **cut)


def attempt_samples(
    model: Any,
    asked: Int[Tensor, "prompt pos"],
    tokens: int,
    block_size: int,
    tokenizer: Coder,
    seed: int,
    **cut: Any,
) -> list[dict[str, Any]]:
    try:
        writing = write(
            model,
            asked,
            tokens,
            seeds=(seed,),
            tokenizer=tokenizer,
            context=block_size,
            allow_no_effect=True,
            **cut,
        )
    except Exception as error:  # a cut model may fail in any way
        if is_the_machines(error):
            raise
        detail = one_sentence(error)
        return [{"prompt": tokenizer.decode(row), "text": "", "detail": detail} for row in asked]
    return [
        {"prompt": sample.prompt, "text": sample.text, "detail": ""} for sample in writing.samples
    ]


def write_variants(
    subject: "TrainedSubject",
    seed: int,
    variants: Mapping[str, tuple[str, Mapping[Any, Any]]],
    run: RowStore,
) -> pd.DataFrame:
    """What a trained model writes as it is and with interventions, as ``save_samples`` takes it; a
    large one writes little, after few prompts, without few of its parts.

    Args:
        variants: by name, the line that computes what is changed, and the interventions.
        run: keeps what each of them writes, and has it where the command is started again.
    """
    asked = prompts_of(subject.data, subject.room)
    length, context, chosen = SAMPLE, subject.context, list(variants.items())
    if subject.is_large:
        asked, length, context = asked[:FEW_PROMPTS], FEW_TOKENS, LONG_ENOUGH
        chosen = chosen[:FEW_VARIANTS]
    asked = subject.with_special(asked)
    how = (asked, length, context, subject.tokenizer, seed)
    recorder = samples_recorder(run, subject)
    rows = []
    for name, (label, changes) in [(BASELINE, ("", {})), *chosen]:
        identity = samples_identity(recorder, [*how, changes])
        written = run.task(identity) if identity else None
        if written is None:
            written = attempt_samples(subject.model, *how, interventions=changes)
            written = run.record(identity, written) if identity else written
        rows += [{"variant": name, "label": label, "seed": seed, **row} for row in written]
    return pd.DataFrame(rows)


def samples_recorder(run: RowStore, subject: "TrainedSubject") -> Recorder | None:
    """What knows samples again by all that decides them: the model, the code, the device; None of
    a model that cannot be known again."""
    device = next(subject.inner.parameters()).device
    try:
        return Recorder(run, subject.model, ["samples", hash_code(), packages(), device])
    except UsageError:
        return None


def samples_identity(recorder: Recorder | None, asked: Sequence[Any]) -> str | None:
    """Under what samples are kept; None where the model, or what is asked of it, cannot be known
    again, as a tokenizer that is compiled may not."""
    try:
        return recorder.digest(asked) if recorder else None
    except UsageError:
        return None


def known_text(data: Data, tokenizer: Coder) -> KnownText:
    """The text that models are trained on, to measure samples against."""
    return KnownText(tokenizer.decode(data.train.cpu()))


def save_samples(run: Run, samples: pd.DataFrame, text: KnownText, baseline: str) -> pd.DataFrame:
    """Save samples with what is counted in them (table ``samples``) and how variants differ from
    the model as it is (table ``text_measures``); the latter.

    Args:
        samples: ``variant prompt seed text detail``, and ``training`` where variants were trained
            several times.
        baseline: what the model as it is is called among the variants.
    """
    measured = measure_texts(samples, text)
    run.save_table(measured, "samples")
    wrote = measured[measured["detail"] == ""]
    if baseline in set(wrote["variant"]):
        compared = compare_samples(wrote, baseline)
    else:
        compared = pd.DataFrame(columns=COMPARED)  # the model as it is wrote nothing
    run.save_table(compared, "text_measures")
    return compared


def beside_each_other(samples: pd.DataFrame, compared: pd.DataFrame, width: int = 100) -> str:
    """What each variant writes after the first prompt, a line each, for a terminal: as many as a
    page shows. Before the text stand two numbers of all that the variant wrote."""
    first = samples[
        (samples["prompt"] == samples["prompt"].iloc[0])
        & (samples["seed"] == samples["seed"].iloc[0])
    ]
    shown = first[:VARIANTS]
    names = shown["variant"].str.len().max()
    counted = compared.set_index(["variant", "measure"])["value"].to_dict()
    asked = visible(first["prompt"].iloc[0])
    lines = [
        f"after {asked!r} each writes, on the same random numbers (first the trigram loss and the "
        f"known words of all it writes, over {samples['prompt'].nunique()} prompts):"
    ]
    for row in shown.to_dict("records"):
        told = visible(row["text"].replace("\n", "⏎")) or f"nothing: {row['detail']}"
        loss, known = (counted.get((row["variant"], name), math.nan) for name in BEFORE_TEXT)
        numbers = f"{loss:5.2f} {100 * known:4.0f} %".replace("nan", "  -")
        lines.append(shorten_text(f"  {row['variant']:<{names}} {numbers}  {told}", width))
    return "\n".join(lines)


def say_samples(run: SavedRun) -> None:
    """Print what each variant of a run writes, beside each other."""
    samples = run.table("samples")
    if not len(samples):
        return
    text = beside_each_other(samples, run.table("text_measures"), console.width)
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    if (more := samples["variant"].nunique() - VARIANTS) > 0:
        at_lines = "at its line in the report, and " if record_of(run).cuts_lines else ""
        console.print(
            f"  and {more} more: each {at_lines}in {run.folder / 'samples.parquet'}",
            soft_wrap=True,
            markup=False,
        )


def writing_parts(runs: Sequence[SavedRun]) -> list[WritingView]:
    """What the models of some runs write, a part for each run that has kept samples."""
    kept = [run for run in runs if has_samples(run)]
    titles = [record_of(run).writing for run in kept]
    return [
        writing_view(run, title if titles.count(title) == 1 else f"{title}: {run.folder.name}")
        for run, title in zip(kept, titles, strict=True)
    ]


def writing_view(run: SavedRun, title: str) -> WritingView:
    """What the models of a run write. Where the model as it is is none of them, the first is what
    the others are compared with."""
    samples, known = run.table("samples"), record_of(run)
    return WritingView(
        title,
        samples,
        run.table("text_measures"),
        BASELINE if BASELINE in set(samples["variant"]) else str(samples["variant"].iloc[0]),
        labels_of(run),
        samples_on_the_way(run),
        known.original,
        "at their lines in the source" if known.cuts_lines else "in the run's table samples",
    )


def has_samples(run: SavedRun) -> bool:
    return run.holds("samples") and run.holds("text_measures") and len(run.table("samples")) > 0


def written_by_surgery(runs: Sequence[SavedRun]) -> dict[str, Continued]:
    """What each cut of some runs writes after the first prompt, by the cut's id."""
    found: dict[str, Continued] = {}
    for view, run in zip(writing_parts(runs), filter(has_samples, runs), strict=True):
        for variant, id in ids_of_variants(view, run).items():
            found.setdefault(id, view.continued(view.prompts[0], [variant]))
    return {id: one for id, one in found.items() if one.texts}


def texts_of_quiz(run: SavedRun) -> dict[str, Continued]:
    """What the model as it is and each cut write after the last prompt, by the cut's id; the cut
    first whose texts are furthest from the original's by their trigram loss. Nothing tells which
    cut it is: none where the page shows what was written after that prompt, and cuts that write
    what the model as it is writes are left out."""
    found: dict[str, Continued] = {}
    for view in writing_parts([run]):
        prompt = view.samples["prompt"].iloc[-1]
        if prompt in view.prompts:
            continue
        losses = view.compared[view.compared["measure"] == "trigram_loss"]
        furthest = list(losses.sort_values("delta", key=lambda d: -d.abs())["variant"])
        ids = ids_of_variants(view, run)
        for variant, id in ((one, ids[one]) for one in furthest if one in ids):
            one = view.continued(prompt, [BASELINE, variant])
            if len(one.texts) < 2 or one.texts[1].detail or all(a for a, _ in one.texts[1].pieces):
                continue
            names = ("the model as it is", "the cut model")
            texts = [
                text._replace(variant=name, label="", cells=[])
                for text, name in zip(one.texts, names, strict=True)
            ]
            found[id] = Continued(prompt, texts)
    return found


def ids_of_variants(view: WritingView, run: SavedRun) -> dict[str, str]:
    """The id of each variant's cut; variants that have none are their own."""
    table = run.table()
    ids = {name: name for name in view.samples["variant"]}
    if {"variant", "surgery"} <= {*table}:
        ids = dict(zip(table["variant"], table["surgery"], strict=True))
    return {variant: id for variant, id in ids.items() if variant != BASELINE}


def labels_of(run: SavedRun) -> dict[str, str]:
    """What each variant is, beside its name: its line and what becomes of it."""
    table = run.table("samples")
    if "label" not in table:
        table = run.table()
    if not {"variant", "label"} <= {*table}:
        return {}
    named = table.drop_duplicates("variant")
    pairs = zip(named["variant"], named["label"], strict=True)
    return {name: label for name, label in pairs if name != label}


def samples_on_the_way(run: SavedRun) -> pd.DataFrame | None:
    """What each variant wrote at its evaluations, of the first seed; None where none was kept."""
    table = run.table()
    if not {"variant", "step", "sample", "seed"} <= {*table}:
        return None
    rows = table[(table["split"] == "val") & (table["seed"] == table["seed"].min())]
    return rows[rows["sample"] != ""]
