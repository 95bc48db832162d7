"""How much does the loss owe to each attention block, each MLP, each norm, each embedding?

The ablation graph: on a trained model every part is set to zero, and to its mean over a reference
text, one at a time, and the change in loss is measured on texts the model was not trained on. Every
bar carries the line of gpt/model.py that computes the part.

    python -m experiments.components                                under a minute, no download
    python -m experiments.components --model laptop.safetensors --text shakespeare
    python -m experiments.components --examples 256                 narrower intervals

How to read it: a part whose zero ablation hurts and whose mean ablation does not, says the same
thing everywhere: the model needs it there, but learns nothing from it about the text at hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import pandas as pd
from torch import Tensor

import gpt.model
from experiments.support.cli import announce, console, launch
from experiments.support.pages.presenting import present
from experiments.support.pages.telling import of_trained_model
from experiments.support.pages.views import save_subject_views
from experiments.support.record import Experiment, Quoted
from experiments.support.sampling import known_text, save_samples, say_samples, write_variants
from experiments.support.trained import StudyOptions, TrainedSubject, find_subject
from experiments.support.variants import BASELINE
from gpt.protocol import LanguageModel
from interp.caching import cache
from interp.errors import HookNameError
from interp.figures import ranked_effects
from interp.figures.bars import PARTS_SHOWN
from interp.interventions import Apply, Mean, Zero
from interp.metrics import loss
from interp.places import Intervention, Reference
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun
from interp.site import Model, Site, sites
from interp.surgery import find, read_source
from interp.sweep import sweep
from interp.verdicts import (
    Verdict,
    costliest,
    interval_words,
    power_words,
    verdict_of,
    verdict_words,
    verdicts_of,
)

KINDS = {
    "embedding": ("hook_embed", "hook_pos_embed"),
    "attention": ("blocks.*.hook_attn_out",),
    "MLP": ("blocks.*.hook_mlp_out",),
    "residual stream": (
        "blocks.0.hook_resid_pre",
        "blocks.*.hook_resid_mid",
        "blocks.*.hook_resid_post",
    ),
}
NORM_SCALE = "learned scale of a norm"
WRITERS = ["attention", "MLP", "embedding"]  # to the residual stream
WRITTEN = 4  # parts without which the model writes


@dataclass(frozen=True)
class Config(StudyOptions):
    """Zero and mean ablation of every part."""

    large_model: ClassVar[tuple[int, int]] = (16, 8)
    """Fewer texts could show no effect of some 250 ablations, once corrected."""


class Ablation(NamedTuple):
    """One part gone in one way, and what the table calls it."""

    site: Site
    what: Intervention
    named: dict[str, Any]


def main(config: Config) -> Path:
    subject = find_subject(config)
    model, tokens = subject.model, subject.examples(config.examples)
    settings = {"subject": subject.config, "examples": len(tokens), "seed": config.seed}
    with Run.open(
        config.runs, "components", config.name or subject.label, settings, subject.config["text"]
    ) as run:
        hooks = [site.hook for _, found in parts_of(model) for site in found]
        reference = cache(model, subject.reference(config.examples), hooks)
        ablations = [*of_activations(model, reference)]
        if isinstance(model, LanguageModel):
            ablations += of_norm_scales(model)
        table = sweep(model, tokens, [(one.site, one.what) for one in ablations], loss, run=run)
        rows = zip(table.to_dict("records"), ablations, strict=True)
        table = pd.DataFrame([row | one.named | {"seed": config.seed} for row, one in rows])
        run.save_table(table.sort_values("delta", ascending=False, ignore_index=True))
        samples = without_parts(subject, run.table(), config.seed, run)
        save_samples(run, samples, known_text(subject.data, subject.tokenizer), BASELINE)
        save_subject_views(run, subject)
        page = present(run, draw)
    console.print(*readings(run.table()), sep="\n", soft_wrap=True, markup=False)
    say_samples(run)
    announce(run.folder)
    return page


def draw(run: Run) -> None:
    """The figure, from the saved table alone."""
    run.save_figure(ranked_effects(drawn_parts(run.table())), "components")


def drawn_parts(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a figure. Of so many parts that it cannot hold all, the stream is left out: each
    place of it costs nearly everything, and only what is written to it would tell of the model."""
    if table["site"].nunique() <= PARTS_SHOWN:
        return table
    return table[table["kind"] != "residual stream"]


def without_parts(
    subject: TrainedSubject, table: pd.DataFrame, seed: int, run: Run
) -> pd.DataFrame:
    """What the model writes without each of the attention blocks, MLPs and embeddings whose zero
    costs most."""
    parts = table[table["kind"].isin(WRITERS) & (table["intervention"] == "zero")]
    variants = {
        f"{row['site']} is zero": (
            f"{row['file']}:{row['line']:.0f}  {row['code']}",
            {row["site"]: Zero()},
        )
        for row in parts.nlargest(WRITTEN, "delta").to_dict("records")
    }
    return write_variants(subject, seed, variants, run)


def parts_of(model: Model) -> Iterator[tuple[str, list[Site]]]:
    """The parts that a model has, kind by kind: one with rotary positions has no embedding of
    positions, one without MLPs none of those."""
    found = 0
    for kind, patterns in KINDS.items():
        for pattern in patterns:
            if any(fnmatchcase(name, pattern) for name in model.hook_dict):
                found += 1
                yield kind, sites(model, pattern)
    if not found:
        raise HookNameError(KINDS["attention"][0], model.hook_dict)


def of_activations(model: Model, reference: Reference) -> Iterator[Ablation]:
    """Zero and mean of everything that is written to the residual stream, and of the stream."""
    ways: dict[str, Intervention] = {"zero": Zero(), "mean": Mean(reference)}
    for kind, found in parts_of(model):
        for site in found:
            for way, what in ways.items():
                yield Ablation(site, what, {"kind": kind, "intervention": way})


def of_norm_scales(model: LanguageModel) -> Iterator[Ablation]:
    """The learned scale of each norm: zero everywhere, or the same everywhere, its mean.

    Both are done where the scale is about to be multiplied in. The line is that of the product.
    """
    cut = find(
        read_source(gpt.model), "drop-factor", qualname="LayerNorm.normalize", target="self.weight"
    )
    line = {"file": f"gpt/{cut.file}", "line": cut.line, "code": cut.before}
    for site in sites(model, "*hook_normalized"):
        name = site.hook.removesuffix(".hook_normalized")
        weight = cast(Tensor, model.get_submodule(name).weight).detach()
        for way, what in (("zero", Zero()), ("mean", Apply(partial(mul, weight.mean() / weight)))):
            named = {"site": f"{name}.weight", **line, "kind": NORM_SCALE, "intervention": way}
            yield Ablation(site, what, named)


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    table, bars = run.table(), run.figure("components")
    shown = ["site", "kind", "intervention", "delta", "ci_low", "ci_high", "p_adjusted"]
    section = Section(
        "Every part",
        text="\n\n".join(readings(table)),
        figures=[Figure.saved("Change in loss without each part, with 95 % intervals.", bars)],
    )
    numbers = table[[*shown, "file", "line", "code"]]
    return [section, Section("Every part: all numbers", table=numbers)]


def effects(run: SavedRun) -> pd.DataFrame:
    """What the summary ranks: the parts that write to the residual stream."""
    table = run.table()
    table = table[table["kind"].isin(WRITERS)]
    how = "set to " + table["intervention"].map({"zero": "zero", "mean": "its mean"})
    return of_trained_model(table, table["site"], how)


def readings(table: pd.DataFrame) -> list[str]:
    """One plain sentence on each main finding."""
    parts = table[table["kind"].isin(WRITERS)]
    said = []
    for way, rows in parts.groupby("intervention", sort=False):
        top = costliest(rows).to_dict()
        effect = f"{top['delta']:+.3f} nats ({interval_words(top)}"
        at = f"line {top['line']:.0f}: {top['code']}"
        said.append(
            f"Of what is written to the residual stream, {top['site']} matters most under {way} "
            f"ablation: {effect}), {at}."
            if verdict_of(top) is Verdict.RAISES
            else f"Nothing that is written to the residual stream is shown to matter under {way} "
            f"ablation: the largest change is that of {top['site']}, {effect}; "
            f"{verdict_words(top)}), {at}."
        )
    said.append(alike_reading(parts))
    unsure = table[verdicts_of(table) == Verdict.NOT_SHOWN]
    said.append(
        f"Of {len(table)} ablations on {table['n'].iloc[0]} texts, {len(unsure)} show no effect "
        "(95 % interval, and sign flips with Holm's correction at 0.05)."
    )
    return [*said, *power_words(table)]


def alike_reading(parts: pd.DataFrame) -> str:
    """Which part says most everywhere alike: by how much zero costs more than the mean, of those
    of which that is shown, their intervals being apart."""
    zero, mean = (
        parts[parts["intervention"] == way].sort_values("site", ignore_index=True)
        for way in ("zero", "mean")
    )
    alike = zero["delta"] - mean["delta"]
    apart = (verdicts_of(zero) == Verdict.RAISES) & (zero["ci_low"] > mean["ci_high"])
    row = int((alike.where(apart) if apart.any() else alike).argmax())
    costs = (
        f"{alike[row]:.3f} nats, of {zero['site'][row]}: zero costs {zero['delta'][row]:+.3f}, "
        f"its mean {mean['delta'][row]:+.3f}"
    )
    if apart.any():
        return f"The most that any of them says everywhere alike is worth {costs}."
    return f"None of them is shown to say something everywhere alike: the most is {costs}."


EXPERIMENT = Experiment(
    name="components",
    title="Components",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("results", ("site", "intervention")),
    effects=effects,
    rank=3,
    writing="Text without each part",
)

if __name__ == "__main__":
    launch(main, Config)
