"""Which pictures do README and guide show, and how are they made?

One picture of each concept, drawn from a small model that is trained here in seconds if need be;
and those of the README and of retraining, drawn again from the tables of finished runs.

    python -m docs.pictures                     writes docs/figures
    python -m docs.pictures --runs DIR          where the runs lie that the last ones are drawn from
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import gpt.model
from experiments.course import REFERENCE
from experiments.support.cli import console, launch
from experiments.support.pages.summary import points_of, trainings_of
from experiments.support.trained import StudyOptions, TrainedSubject, find_subject
from interp import Mean, Noise, Resample, Zero, cache, intervene, loss, sites, source_lines, surgery
from interp.characters import mark_spaces
from interp.figures import heads, learning_curves
from interp.figures.diffs import draw_diff
from interp.figures.intervals import draw_intervals
from interp.figures.style import CODE, MONO, WIDTH, print_style
from interp.metrics import token_losses
from interp.places import Intervention
from interp.site import Site
from interp.sweep import sweep
from interp.verdicts import verdict_of, verdicts_of

BLUE, ORANGE = "#4c8cb5", "#c2571a"
HEADS = "blocks.*.attn.hook_z"
TEXTS = 64


@dataclass(frozen=True)
class Config(StudyOptions):
    """The pictures of README and guide."""

    out: Path = Path("docs/figures")
    """Where they are written."""


def main(config: Config) -> None:
    subject = find_subject(config)
    tokens = subject.examples(TEXTS)
    table = head_sweep(subject, tokens)
    head = Site.parse(table.nlargest(1, "delta")["site"].iloc[0])
    drawn: dict[str, Callable[[], Figure]] = {
        "site": lambda: site_picture(subject),
        "intervention": lambda: intervention_picture(subject, tokens, head),
        "metric": lambda: metric_picture(subject, tokens[:1], head),
        "sweep": lambda: sweep_picture(table),
        "surgery": lambda: surgery_picture(subject, tokens),
    }
    for name, draw in drawn.items():
        save(draw(), config.out / f"{name}.png")
    for name, (folder, command, redraw) in FROM_RUNS.items():
        if (config.runs / folder / "results.parquet").exists():
            save(redraw(config.runs / folder), config.out / f"{name}.png")
        else:
            console.print(
                f"{name}.png stays as it is: there is no finished run {config.runs / folder}."
            )
            console.print(f"    {command}", soft_wrap=True)


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140, facecolor="white")
    console.print(str(path))


def head_sweep(subject: TrainedSubject, tokens: Int[Tensor, "batch pos"]) -> pd.DataFrame:
    heads = sites(subject.model, HEADS, each="head")
    return sweep(subject.model, tokens, {head: Zero() for head in heads}, loss)


def site_picture(subject: TrainedSubject) -> Figure:
    """The code of a block, and the hook points on the values that its lines make."""
    code, first = inspect.getsourcelines(gpt.model.Block.forward)
    kept = [(first + i, line.rstrip()[4:]) for i, line in enumerate(code)]
    found: dict[int, list[str]] = {}
    for name, source in source_lines(subject.model).items():
        if name.startswith("blocks.1.") and source.file == "gpt/model.py":
            found.setdefault(source.line, []).append(name)
    with print_style():
        figure = Figure(figsize=(WIDTH, 0.4 + 0.2 * len(kept)), layout="constrained")
        axes = bare_axes(figure, len(kept))
        axes.set_title("gpt/model.py, and the hook points on what its lines compute")
        for y, (number, line) in enumerate(kept):
            shown = line if len(line) < 60 else line[: line.index("(self")] + "(self, x):"
            color = "0.55" if "hook_" in line else "black"
            axes.text(0.0, y, f"{number}  {shown}", font=CODE, va="center", color=color)
            for name in found.get(number, []):
                axes.annotate(
                    name,
                    (0.50, y),
                    (0.58, y),
                    va="center",
                    family=MONO,
                    size=7,
                    color=ORANGE,
                    arrowprops={"arrowstyle": "-", "color": ORANGE, "linewidth": 0.8},
                )
        figure.draw_without_rendering()
    return figure


def bare_axes(figure: Figure, lines: float) -> Axes:
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(lines - 0.3, -0.7)
    return axes


def intervention_picture(
    subject: TrainedSubject, tokens: Int[Tensor, "batch pos"], head: Site
) -> Figure:
    """One head's output on one text, as it is and under each intervention."""
    model = subject.model
    reference = cache(model, subject.reference(TEXTS), head.hook)
    ways: dict[str, Intervention | None] = {
        "as it is": None,
        "Zero()": Zero(),
        "Mean(…)": Mean(reference),
        "Resample(…)": Resample(reference),
        "Noise(std=1)": Noise(),
    }
    before = loss(model(tokens), tokens).mean().item()
    with print_style():
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        grid = figure.subplots(1, len(ways), sharey=True)
        for axes, (name, way) in zip(grid, ways.items(), strict=True):
            given = {head: way} if way else {}
            with torch.no_grad(), intervene(model, given):
                change = loss(model(tokens), tokens).mean().item() - before
                z = cache(model, tokens[:1], head.hook)[head.hook][0, :, head.head]
            shown = axes.imshow(z.cpu(), cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
            axes.set_title(f"{name}\n{change:+.3f} nats" if way else name, size=8)
            axes.set_xlabel("neuron of the head", size=8)
            axes.grid(False)
        grid[0].set_ylabel("position")
        figure.colorbar(shown, ax=grid, label="value", shrink=0.8)
        figure.suptitle(f"{head} on one text, and the mean change in loss over {len(tokens)}")
        figure.draw_without_rendering()
    return figure


@torch.no_grad()
def metric_picture(subject: TrainedSubject, tokens: Int[Tensor, "one pos"], head: Site) -> Figure:
    """The loss of every character of one text, with a head and without."""
    model = subject.model
    before = token_losses(model(tokens), tokens)[0].cpu().numpy()
    with intervene(model, {head: Zero()}):
        after = token_losses(model(tokens), tokens)[0].cpu().numpy()
    characters = [mark_spaces(c) for c in subject.tokenizer.decode(tokens[0, 1:])]
    places = np.arange(len(before))
    with print_style():
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.bar(places, before, 0.8, color="0.75", label=f"as it is, mean {before.mean():.3f}")
        axes.plot(
            places,
            after,
            "v",
            color=ORANGE,
            label=f"{head} set to zero, mean {after.mean():.3f}",
        )
        axes.axhline(before.mean(), color="0.45", linewidth=1)
        axes.axhline(after.mean(), color=ORANGE, linewidth=1, linestyle="--")
        axes.set_xticks(places, characters, family=MONO)
        axes.set_xlabel("character to be predicted")
        axes.set_ylabel("loss (nats)")
        axes.set_title("One text, one number per character; the metric of the text is their mean")
        axes.set_ylim(0, max(before.max(), after.max()) * 1.3)
        axes.legend(loc="upper right")
        figure.draw_without_rendering()
    return figure


def sweep_picture(table: pd.DataFrame) -> Figure:
    """Every head set to zero, each alone, with its interval."""
    rows = table.sort_values("delta", ascending=False)
    places = np.arange(len(rows))
    with print_style():
        figure = Figure(figsize=(WIDTH, 0.9 + 0.25 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, row in zip(places, rows.to_dict("records"), strict=True):
            sure = verdict_of(row).is_effect
            draw_intervals(axes, place, row["ci_low"], row["ci_high"], color=BLUE, capsize=3)
            axes.plot(row["delta"], place, "o", color=BLUE, mfc=BLUE if sure else "white")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(places, rows["site"].tolist(), family=MONO, size=7)
        axes.invert_yaxis()
        texts = int(rows["n"].iloc[0])
        axes.set_xlabel(f"change in loss (nats per token); 95 % interval over {texts} texts")
        title = "One row per intervention, each alone; hollow: no effect shown"
        figure.suptitle(title, x=0.01, ha="left")
        figure.draw_without_rendering()
    return figure


@torch.no_grad()
def surgery_picture(subject: TrainedSubject, tokens: Int[Tensor, "batch pos"]) -> Figure:
    """A cut as a diff, and the loss without attention three ways."""
    model = subject.model
    source = surgery.read_source(gpt.model)
    cut = surgery.find(source, "cut-branch", qualname="Block.forward", target="attn_out")
    last = surgery.at_layers(cut, [model.config.n_layer - 1])
    measured = {"as it is": loss(model(tokens), tokens).mean().item()}
    with intervene(model, {f"blocks.{model.config.n_layer - 1}.hook_attn_out": Zero()}):
        by_hook = model(tokens)
    with surgery.perform(last, model):
        by_source = model(tokens)
    measured["hook: Zero() on hook_attn_out"] = loss(by_hook, tokens).mean().item()
    measured["source: the line edited"] = loss(by_source, tokens).mean().item()
    apart = (by_hook - by_source).abs().max().item()
    diff = [line for line in cut.diff.splitlines() if line]
    with print_style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=[len(diff) * 0.17, 1.6])
        draw_diff(above, diff)
        above.set_title(f"{cut.id}, made in the last layer only")
        below.barh(list(measured), list(measured.values()), color=["0.75", BLUE, ORANGE])
        for place, value in enumerate(measured.values()):
            below.text(value, place, f" {value:.4f}", va="center", size=8)
        below.invert_yaxis()
        below.set_xlim(0, max(measured.values()) * 1.15)
        below.set_xlabel(
            f"loss (nats per token); hook and source differ by at most {apart:.1g} in any logit"
        )
        figure.draw_without_rendering()
    return figure


def course_picture(run: Path) -> Figure:
    table, entropies = (
        pd.read_parquet(run / f"{name}.parquet") for name in ("results", "entropies")
    )
    return learning_curves(table, entropies)


def published_picture(run: Path) -> Figure:
    """Each variant's validation loss, all seeds, and on it the course's published points."""
    table = pd.read_parquet(run / "results.parquet")
    curves = table[(table["split"] == "val") & (table["step"] > 0)]
    published = pd.read_csv(REFERENCE)
    published = published[published["step"].between(1, curves["step"].max())]
    variants = list(curves["variant"].unique())
    with print_style():
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        for axes, variant in zip(figure.subplots(1, len(variants)), variants, strict=True):
            rows = curves[curves["variant"] == variant]
            for _, seed in rows.groupby("seed"):
                axes.plot(seed["step"], seed["loss"], color=BLUE, linewidth=1.2)
            theirs = published[published["ablation"] == variant]
            axes.plot(theirs["step"], theirs["val_loss"], "o", color=ORANGE, mfc="none", ms=4)
            axes.set_title(variant.replace("no_position", "no_pos").replace("_", " "), size=8)
            axes.set_xticks([0, 2500])
            axes.set_ylim((3.2, 3.5) if rows["loss"].min() > 3 else (1.4, 2.55))
        figure.axes[0].set_ylabel("validation loss (nats)")
        figure.supxlabel("training step", size=8)
        figure.suptitle("Three seeds (lines) and what was published (circles)", x=0.01, ha="left")
        figure.draw_without_rendering()
    return figure


def lasting_cost_picture(run: Path) -> Figure:
    """Damage and lasting cost of the lines that were retrained, side by side."""
    rows = pd.read_parquet(run / "lasting_cost.parquet").sort_values("delta", ascending=False)
    trainings = trainings_of(pd.read_parquet(run / "results.parquet"))
    places = np.arange(len(rows))
    labels = [
        f"{line}  {after if len(after) < 40 else after[:39] + '…'}"
        for line, after in zip(rows["line"], rows["after"], strict=True)
    ]
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.1 + 0.24 * len(rows)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, color, kind in ((left, ORANGE, ""), (right, BLUE, "retrained_")):
            shown = verdicts_of(rows, kind).map(lambda verdict: verdict.is_effect)
            values, low, high = (rows[f"{kind}{name}"] for name in ("delta", "ci_low", "ci_high"))
            looks = {"color": [color if sure else "white" for sure in shown], "edgecolor": color}
            axes.barh(places, values, 0.6, linewidth=0.8, **looks)
            draw_intervals(axes, places, low, high, linewidth=0.9)
            axes.axvline(0, color="black", linewidth=0.8)
        for place, variant in zip(places, rows["variant"], strict=True):
            seeds = points_of(trainings, variant)
            right.plot(seeds, [place] * len(seeds), "o", color="0.2", mfc="white", ms=2.5, mew=0.6)
        left.set_yticks(places, labels, family=MONO, size=6.5)
        left.invert_yaxis()
        left.set_xlabel("damage (nats)")
        right.set_xlabel("lasting cost (nats); points: seeds")
        figure.suptitle(
            "The line cut in the trained model, and before training (hollow: no effect shown)",
            x=0.01,
            ha="left",
        )
        figure.draw_without_rendering()
    return figure


FROM_RUNS: dict[str, tuple[str, str, Callable[[Path], Figure]]] = {
    "course": (
        "course/laptop-shakespeare",
        "python -m experiments.course --preset laptop --text shakespeare",
        course_picture,
    ),
    "published": (
        "course/course-shakespeare",
        "python -m experiments.course --preset course --text shakespeare --stop-at 2750",
        published_picture,
    ),
    "induction_heads": (
        "patching/induction",
        "python -m experiments.patching --name induction",
        lambda run: heads(pd.read_parquet(run / "results.parquet")),
    ),
    "lasting_cost": (
        "retrain/demo-python-docs-top_12-3",
        "python -m experiments.retrain --surgeries top:12",
        lasting_cost_picture,
    ),
}


if __name__ == "__main__":
    launch(main, Config)
