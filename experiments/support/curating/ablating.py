"""What does each step of a pipeline do for the loss, and for what a model knows by heart?

    how = PipelineAblation(runs=Path("runs"), name="demo")
    page = ablate_pipeline(documents, Pipeline.default(), how)

The same model is trained on what each variant of the pipeline makes of one pile, with the same
seeds, steps and vocabulary, and judged on the same validation documents. A step that changes no
text is not trained without.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.support.cli import console
from experiments.support.curating.leaks import leak_words, leaks_of
from experiments.support.curating.leaving_out import WHOLE, PileTexts, VariantText, variants_of
from experiments.support.curating.measuring import (
    MemoryQuestions,
    by_training,
    compare_measures,
    measure_all,
)
from experiments.support.curating.planting import plant_canaries
from experiments.support.curating.showing import draw_ablation
from experiments.support.pages.presenting import present
from experiments.support.pages.summary import summarise, trainings_of
from experiments.support.pages.views import source_sha256
from experiments.support.retraining import run_all, samples_of
from experiments.support.sampling import save_samples
from experiments.support.trainings.executors import executor_of
from experiments.support.trainings.finished import are_made, identity_of_tables, note_made
from experiments.support.trainings.tasks import Task, resize_preset, tasks_of
from gpt.errors import UsageError
from gpt.text import CharTokenizer, Data
from gpt.train import PRESETS, Preset
from interp.curation import Document, Pipeline
from interp.curation.running import BETWEEN
from interp.memorising import private_passages
from interp.runs import Run, identity_of
from interp.samples import KnownText
from interp.status import Status

DEMO_STEPS = 300  # of a demonstration: seventy trainings in two or three minutes on two cores
PRIVATE = 40  # strings that look private, of the pile and of the validation text each


@dataclass(frozen=True)
class PipelineAblation:
    """How a pipeline is ablated.

    Args:
        seeds: trainings of each variant; the first is ``seed``.
        without: more to leave out, each the names of steps with ``+`` between them.
        steps: of each training, if not the preset's (of demo 300).
        workers, ray, gpus: as ``executor_of`` takes them.
        planted: whether canaries are planted in the pile.
    """

    runs: Path
    name: str
    preset: str = "demo"
    seeds: int = 5
    seed: int = 0
    steps: int | None = None
    without: tuple[str, ...] = ()
    workers: int = 2
    ray: str = ""
    gpus: float = 0.0
    planted: bool = True


def ablate_pipeline(
    documents: Sequence[Document],
    pipeline: Pipeline,
    how: PipelineAblation,
    pile: Mapping[str, Any] | None = None,
) -> Path:
    """Train and measure all variants, save tables and figures, and return the page.

    Args:
        documents: the pile, as it was read.
        pile: what to say of it in the run's description, such as its name.

    Raises:
        UsageError: a step that there is none of, a pile that is too small, a training that fails.
    """
    variants = variants_of(pipeline, how.without)
    planted_pile, planted = plant_canaries(documents, how.seed) if how.planted else (documents, [])
    console.print(f"curating {len(documents)} documents in {len(variants)} ways", markup=False)
    made = PileTexts(planted_pile, pipeline, how.seed)
    texts = [made.of(variant) for variant in variants]
    tokenizer = CharTokenizer("".join(sorted(characters_of(planted_pile, texts, made.val))))
    steps = how.steps or (DEMO_STEPS if how.preset == "demo" else None)
    preset = resize_preset(PRESETS[how.preset], tokenizer.vocab_size, steps)
    data = {text.variant.name: variant_data(text, made.val, tokenizer, preset) for text in texts}
    settings: dict[str, Any] = {
        "preset": how.preset,
        "model": asdict(preset.model),
        "train": asdict(preset.train),
        "text": {"name": "the curated pile", "sha256": data[WHOLE].sha256},
        "pile": dict(pile or {}) | {"documents": len(documents)},
        "pipeline": {step.name: dict(step.options) for step in pipeline.steps},
        "without": list(how.without),
        "planted": len(planted),
        "seeds": list(range(how.seed, how.seed + how.seeds)),
        "ablated": True,
    }
    hashes = {
        "pile_sha256": identity_of(pile=[(one.id, one.text) for one in documents]),
        "text_sha256": data[WHOLE].sha256,
        "source_sha256": source_sha256(),
    }
    with Run.open(how.runs, "pipeline", how.name, settings, hashes) as run:
        firsts: dict[str, str] = {}
        for name, one in data.items():
            firsts.setdefault(one.sha256, name)
        tasks = [
            task
            for name in firsts.values()
            for task in tasks_on_text(run, name, data[name].sha256, settings["seeds"], preset, how)
        ]
        tasks.sort(key=lambda task: task.seed)
        executor = executor_of(how.workers, how.ray, how.gpus)
        given = {one.sha256: (one, tokenizer) for one in data.values()}
        rows = run_all(run, tasks, given, executor)
        samples = samples_of(run, tasks)
        private = private_passages(
            BETWEEN.join(one.text for one in planted_pile), made.val, at_most=PRIVATE, seed=how.seed
        )
        trained_on = {data[text.variant.name].sha256: text.train for text in texts}
        asked = MemoryQuestions(made.val, planted, private, preset.train.eval_blocks)
        measured = measure_all(run, tasks, asked, trained_on, executor)
        made_of = identity_of_tables(
            rows=rows,
            samples=samples.to_dict("records"),
            measured=measured.to_dict("records"),
            settings=settings,
        )
        if not are_made(run, made_of):
            same_as = {name: firsts[one.sha256] for name, one in data.items()}
            save_variants(run, texts, same_as)
            run.save_table(leaks_of(texts, made.validated), "leaks")
            save_losses(run, pd.DataFrame(rows), texts, same_as)
            run.save_table(table_of_planted(planted, trained_on, data), "planted")
            run.save_table(measured, "measured")
            run.save_table(by_training(measured), "memorised")
            run.save_table(compare_measures(by_training(measured), WHOLE), "compared")
            save_samples(run, samples, KnownText(texts[0].train), WHOLE)
            note_made(run, made_of)
        return present(run, draw_ablation)


def characters_of(pile: Sequence[Document], texts: Sequence[VariantText], val: str) -> set[str]:
    """The characters that any variant may meet: one vocabulary for all."""
    found = {*string.printable[:95], "\n", *val}
    return found.union(*(one.text for one in pile), *(text.train for text in texts))


def variant_data(text: VariantText, val: str, tokenizer: CharTokenizer, preset: Preset) -> Data:
    """A variant's text in tokens, under a hash of all that decides them."""
    name, shortest = text.variant.name, preset.model.block_size + 1
    if min(len(text.train), len(val)) < shortest:
        raise UsageError(
            f"with {name!r} the texts have {len(text.train)} characters to train on and "
            f"{len(val)} to validate on, where a block needs {shortest}: give more documents"
        )
    sha256 = identity_of(train=text.train, val=val, vocabulary=tokenizer.characters)
    return Data(tokenizer.encode(text.train), tokenizer.encode(val), sha256)


def tasks_on_text(
    run: Run, name: str, text: str, seeds: Sequence[int], preset: Preset, how: PipelineAblation
) -> list[Task]:
    device = "cuda" if how.ray and how.gpus else None
    tasks = tasks_of(run, {name: None}, seeds, preset, text, device=device)
    folder = run.folder / "models"
    return [
        replace(task, weights=folder / f"{name.replace(' ', '_')}-{task.seed}.safetensors")
        for task in tasks
    ]


def save_variants(run: Run, texts: Sequence[VariantText], same_as: Mapping[str, str]) -> None:
    """Save what each variant leaves out, with the lines of code, and what it trains on."""
    rows = [
        {
            "variant": text.variant.name,
            "said": text.variant.said,
            "step": [step.name for step in text.variant.left_out],
            "file": [Path(step.file).name for step in text.variant.left_out],
            "line": [step.line for step in text.variant.left_out],
            "code": [step.code for step in text.variant.left_out],
            "documents": len(text.documents),
            "characters": len(text.train),
            "same_as": same_as[text.variant.name],
        }
        for text in texts
    ]
    run.save_table(pd.DataFrame(rows), "variants")


def save_losses(
    run: Run, rows: pd.DataFrame, texts: Sequence[VariantText], same_as: Mapping[str, str]
) -> None:
    """Save the curves of all variants, and their summary: that of a variant whose text is
    another's is the other's."""
    leaks = run.table("leaks").set_index("variant").to_dict("index")
    parts = []
    for text in texts:
        name = text.variant.name
        own = rows[rows["variant"] == same_as[name]].copy()
        if leaks[name]["leak"]:
            changed = own["status"] == Status.CHANGED
            own.loc[changed, "status"] = Status.LEAK
            own.loc[changed, "detail"] = leak_words(leaks[name])
        steps = text.variant.left_out
        own["variant"], own["label"] = name, text.variant.said
        own["file"] = Path(steps[0].file).name if steps else ""
        for column, values in (
            ("lines", tuple(step.line for step in steps)),
            ("before", tuple(step.code for step in steps)),
            ("after", ("",) * len(steps)),
        ):
            own[column] = pd.Series([values] * len(own), index=own.index, dtype=object)
        parts.append(own)
    run.save_table(pd.concat(parts, ignore_index=True))
    distinct = [name for name, other in same_as.items() if other != WHOLE or name == WHOLE]
    curves = run.table()
    summary = summarise(curves[curves["variant"].isin(distinct)], baseline=WHOLE)
    whole = summary[summary["variant"] == WHOLE].iloc[0].to_dict()
    same = [
        whole
        | {"variant": text.variant.name, "label": text.variant.said, "status": Status.EQUIVALENT}
        | {"delta": 0.0, "best_delta": 0.0}
        for text in texts
        if text.variant.name not in distinct
    ]
    every = pd.concat([summary, pd.DataFrame(same)], ignore_index=True)
    order = {text.variant.name: number for number, text in enumerate(texts)}
    every["detail"] = [leak_words(leaks[name]) for name in every["variant"]]
    run.save_table(every.sort_values("variant", key=lambda one: one.map(order)), "summary")
    run.save_table(trainings_of(curves, WHOLE), "trainings")


def table_of_planted(
    planted: Sequence[Any], trained_on: Mapping[str, str], data: Mapping[str, Data]
) -> pd.DataFrame:
    """Each canary, where it was planted, and how often it stands in each variant's text."""
    rows = [
        {
            "canary": number,
            "text": one.canary.text,
            "planted": one.how,
            "sources": list(one.sources),
            "candidates": one.canary.count,
            "variant": name,
            "times": trained_on[each.sha256].count(one.canary.text),
        }
        for number, one in enumerate(planted)
        for name, each in data.items()
    ]
    columns = ["canary", "text", "planted", "sources", "candidates", "variant", "times"]
    return pd.DataFrame(rows, columns=columns)
