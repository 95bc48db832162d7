"""What does every line of a model file do for the loss?

A profiler for causal importance. Every line that runs is cut in every way that tells a story, on
the trained model, in all layers together and in each alone; the lines that matter most are also cut
before training. What comes out is the source, with the effects beside the lines.

    python -m experiments.lines                                     about a minute, no download
    python -m experiments.lines --preset laptop --checkpoint laptop.safetensors
    python -m experiments.lines --model my_model.py:GPT             any file, any class
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.cli import Options, announce, console, launch
from experiments.subjects import Subject, chosen, shortened
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.text import CharTokenizer, Data, evaluation_blocks, load_corpus, split
from gpt.train import PRESETS
from interp import surgery
from interp.errors import UsageError as InterpError
from interp.report import Figure, Page, Section, write_report
from interp.runs import Run, write_atomically
from interp.sites import source_lines
from interp.surgery import annotate, figures
from interp.surgery.judging import logits_of
from interp.surgery.study import Study


@dataclass(frozen=True)
class Config(Options):
    """Code surgery on every line of a model file."""

    preset: Literal["demo", "laptop"] = "demo"
    """Size of model and training."""
    model: str = ""
    """The model as FILE:Class; by default our own, gpt/model.py."""
    checkpoint: Path | None = None
    """Trained weights of our own model; without it one is trained, as the preset says."""
    steps: int | None = None
    """Steps of training; by default 300 in demo, the preset's else."""
    texts: int = 24
    """Blocks of the validation text on which a mutant is judged."""
    retrain_top: int | None = None
    """How many lines are also cut before training, those of the largest effect; by default 3 in
    demo, 8 else."""
    seeds: int = 2
    """Trainings of each; from two on, noise is known and intervals are drawn."""
    workers: int = os.cpu_count() or 1
    """Mutants at a time, each in a process of its own."""
    limit_s: float = 20.0
    """Wall-clock seconds after which a mutant is ended."""


def main(config: Config) -> Path:
    if min(config.texts, config.seeds, config.workers) < 1:
        raise UsageError("--texts, --seeds and --workers must be at least 1")
    if config.checkpoint and config.model:
        raise UsageError("--checkpoint is for our own model; leave --model or --checkpoint out")
    preset, corpus = PRESETS[config.preset], load_corpus(config.text)
    loaded = checkpoint.load(config.checkpoint) if config.checkpoint else None
    tokenizer = (loaded and loaded.tokenizer) or CharTokenizer.from_text(corpus.text)
    if loaded:
        preset = replace(preset, model=loaded.model.config)
    data = split(corpus, tokenizer, preset.model.block_size)
    steps = config.steps or (300 if config.preset == "demo" else preset.train.steps)
    preset = shortened(preset, tokenizer.vocab_size, steps)
    subject = chosen(config.model, data, preset)
    top = (
        config.retrain_top if config.retrain_top is not None else 4 + 4 * (config.preset != "demo")
    )
    settings: dict[str, Any] = {
        "preset": config.preset,
        "model": asdict(preset.model),
        "train": asdict(preset.train),
        "file": subject.module.__name__,
        "class": subject.name,
        "checkpoint": str(config.checkpoint or ""),
        "texts": config.texts,
        "retrain_top": top,
        "seeds": list(range(config.seed, config.seed + config.seeds)),
    }
    source = surgery.read_source(subject.module)
    name = config.name or f"{config.preset}-{corpus.name}-{source.path.stem}"
    hashes = {"text_sha256": corpus.sha256}
    with Run.open(config.runs, "lines", name, settings, hashes) as run:
        model = loaded.model if loaded else trained(subject, config.seed)
        judge, reference = judges(data, preset.model.block_size, config.texts)
        study = surgery.study(
            build=subject.build,
            judge=judge,
            files=[subject.module],
            model=model,
            train=subject.train,
            reference=reference,
            limit_s=config.limit_s,
            workers=config.workers,
        )
        run.save_table(posthoc(study))
        if top:
            run.save_table(retrained(study, run.table(), top, settings["seeds"]), "retrained")
        again = run.table("retrained") if top else None
        where = sites_of(model, source.path)
        run.save_table(annotate.annotated(source, run.table(), again, where), "lines")
        page = draw(run, source)
    console.print(summary(run.table()))
    announce(run.folder)
    console.print(f"source  [bold]{run.folder / 'annotated.html'}[/bold]")
    return page


def trained(subject: Subject, seed: int) -> nn.Module:
    console.print(f"training {subject.name}")
    model = subject.build(seed)
    subject.train(model, seed)
    return model.eval()


def judges(
    data: Data, block_size: int, texts: int
) -> tuple[Callable[[nn.Module], Tensor], Callable[[nn.Module], Any]]:
    """The mean loss of each validation text, in nats; and what calls a model on training texts."""
    tokens, targets = evaluation_blocks(data.val, block_size, texts)
    others, _ = evaluation_blocks(data.train, block_size, texts)

    @torch.no_grad()
    def judge(model: nn.Module) -> Tensor:
        model.eval()
        logits = logits_of(model(tokens))
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(dim=1)

    def reference(model: nn.Module) -> None:
        model.eval()
        model(others)

    return judge, reference


def posthoc(study: Study) -> pd.DataFrame:
    """Every surgery on the trained model; then, on branches that compute the same another way, the
    lines that were dead."""
    with progress("cutting lines") as tell:
        table = study.posthoc(layers="each", progress=tell)
    other = study.spelled_out(table)
    if other is None:
        return table.assign(prepared="")
    dead = set(table.loc[table["status"] == "dead", "line"])
    ids = [cut.id for cut in other.surgeries if cut.line in dead]
    with progress("cutting lines of other branches") as tell:
        more = other.posthoc(ids, layers="each", progress=tell)
    assert other.prepare is not None
    known = set(more["line"])
    table = table[~((table["status"] == "dead") & table["line"].isin(known))]
    return pd.concat(
        [table.assign(prepared=""), more.assign(prepared=other.prepare.id)], ignore_index=True
    )


def retrained(study: Study, table: pd.DataFrame, top: int, seeds: list[int]) -> pd.DataFrame:
    """The lines of the largest effect cut before training, and a cut that should do nothing."""
    lines = surgery.headlines(table[table["prepared"] == ""])
    cut = lines[lines["status"].isin(["changed", "leak"]) & (lines["same_as"] == "")]
    order = cut["delta"].abs().sort_values(ascending=False).index
    ids = list(cut.loc[order, "id"][:top])
    null = table[(table["operator"] == "set-constant") & (table["code"].str.contains("eps"))]
    ids += list(null["id"][:1])
    with progress("training without lines") as tell:
        return study.retrain(ids, seeds=seeds, progress=tell)


def sites_of(model: nn.Module, path: Path) -> dict[str, int]:
    """The hook points whose value a line of the file computes; none where the model has none."""
    if not hasattr(model, "hook_dict"):
        return {}
    try:
        found = source_lines(cast(Any, model))
    except InterpError:
        return {}
    return {name: line.line for name, line in found.items() if line.path == str(path)}


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def draw(run: Run, source: surgery.Source) -> Path:
    """Figures and pages, from the saved tables alone."""
    table, lines = run.table(), run.table("lines")
    title = f"What each line of {source.file} does for the loss"
    page = annotate.html([lines], table, title)
    write_atomically(run.folder / "annotated.html", page.encode())
    shown = []
    ran = lines[~lines["status"].isin(["", "dead"])]
    paths = run.save_figure(figures.annotated_source(lines), "annotated_source")
    shown.append(Figure.saved("The source, with what cutting each line does to the loss.", paths))
    if (lines["layer_deltas"] != "").any():
        paths = run.save_figure(figures.line_by_layer(lines), "line_by_layer")
        shown.append(Figure.saved("Which layers need which lines.", paths))
    if lines["retrained"].notna().any():
        paths = run.save_figure(figures.damage_and_relearnability(lines), "damage_relearnability")
        shown.append(
            Figure.saved(
                "Damage to the trained model against what training anew cannot mend.", paths
            )
        )
    columns = ["line", "operator", "after", "status", "delta", "ci_low", "ci_high", "reading"]
    largest = surgery.headlines(table).dropna(subset=["delta"])
    largest = largest.loc[largest["delta"].abs().sort_values(ascending=False).index]
    sections = [
        Section(
            "Every line",
            text=f"{summary(table)}\n\nThe whole source, line by line, is in annotated.html.",
            figures=shown,
            table=largest[columns].head(25),
        )
    ]
    question = "What does the loss lose when a line of the model is cut?"
    text = annotate.terminal(lines[lines["line"].isin(ran["line"])])
    console.print(text, no_wrap=True, overflow="crop")
    return write_report(
        run.folder / "report.html", Page(title, question, sections, [run.description])
    )


def summary(table: pd.DataFrame) -> str:
    """How many surgeries came to what."""
    together = table[(table["layer"] == "all") & (table["operator"] != "")]
    counts = together["status"].value_counts()
    dead = int((table["status"] == "dead").sum())
    parts = ", ".join(f"{count} {status}" for status, count in counts.items())
    single = int((table["layer"] != "all").sum())
    return (
        f"{len(together)} surgeries: {parts}; {dead} lines never ran. "
        f"{single} more in one layer at a time."
    )


if __name__ == "__main__":
    launch(main, Config)
