"""Which of thousands of parts carry the answer, by one backward pass, and how wrong is that?

Attribution patching scores every part of the model at once: to first order, putting a part's value
from the clean text into the corrupted one changes the metric by that difference times the metric's
gradient. Here it is held against patching itself: the largest scores and as many random ones are
patched exactly. First the embedding, every head and every MLP output at every position; then every
neuron of every layer, thousands of sites of which only the top is worth patching.

    python -m experiments.attribution                  induction, under a minute, no download
    python -m experiments.attribution --steps 8        also integrated gradients
    python -m experiments.attribution --clean "(1, 2" --corrupted "[1, 2"

Texts, models and metric are those of experiments.patching: --pairs, --model and --corrupt mean
the same here.

How to read it: on the line exact = approximate the score is what patching gives. Points above and
below it are sites whose effect is not straight; a point in the upper left or the lower right has
the wrong sign; a hollow point far from zero upwards is a part that attribution overlooks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import pandas as pd

from experiments import patching
from experiments.patching import PairTask, asks_for_induction, induction, pairs_given
from experiments.support.cli import Between, announce, console, launch, refuse_options
from experiments.support.pages.presenting import present
from experiments.support.record import Experiment, Quoted
from interp.attribution import attribution, audit_scores
from interp.figures import approximate_against_exact
from interp.metrics import logit_difference
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun
from interp.site import Model, Site, sites
from interp.site import Part as Axis
from interp.verdicts import Verdict, interval_words, verdict_words, verdicts_of

EMBEDDING, FIRST_STREAM = "hook_embed", "blocks.0.hook_resid_pre"
PARTS: dict[str, tuple[str, tuple[Axis, ...]]] = {
    "embedding": (EMBEDDING, ("pos",)),
    "head": ("blocks.*.attn.hook_z", ("head", "pos")),
    "MLP output": ("blocks.*.hook_mlp_out", ("pos",)),
}
NEURONS: dict[str, tuple[str, tuple[Axis, ...]]] = {
    "neuron": ("blocks.*.mlp.hook_post", ("neuron",)),
}
GRADIENT = "gradient at the corrupted text"
OF_PATCHING = ("workers", "ray", "head_parts")
SHOWN = 20  # neurons in the page's table
BLIND = (
    "What attribution cannot see: it follows one straight line from the corrupted text. Where a "
    "softmax or an activation is saturated there, the gradient is near zero however much the "
    "patch would change, and so is the score of a part that matters; where the patch goes far, as "
    "an embedding's does, norms and softmaxes bend the line, and scores are too large or have the "
    "wrong sign. A score is of one part alone: parts that back each other up all look idle. And "
    "only the sites checked here are known to be right: the random ones say how much the others "
    "may hide."
)


@dataclass(frozen=True)
class Config(patching.Config):
    """Attribution patching, clean into corrupted, and its audit."""

    steps: Annotated[int, Between(0, 100_000)] = 0
    """Also take integrated gradients: the mean gradient at so many places on the way from the
    corrupted text's embeddings to the clean text's."""
    verify: Annotated[int, Between(1, 10**7)] = 64
    """How many of the largest scores to patch exactly, and as many random ones."""


def main(config: Config) -> Path:
    refuse_options(config, OF_PATCHING, "is for experiments.patching")
    task = induction(config) if asks_for_induction(config) else pairs_given(config)
    settings = task.config | {"steps": config.steps, "verify": config.verify, "seed": config.seed}
    label = f"{task.label}-steps{config.steps}" if config.steps else task.label
    with Run.open(config.runs, "attribution", config.name or label, settings) as run:
        table = pd.concat(
            [
                score_sites(task, config, steps, kinds, run)
                for kinds in (PARTS, NEURONS)
                for steps in dict.fromkeys((0, config.steps))
            ],
            ignore_index=True,
        )
        run.save_table(table)
        run.save_table(audits_of(table), "audits")
        page = present(run, draw)
    console.print(*readings(run), sep="\n", soft_wrap=True, markup=False)
    announce(run.folder)
    return page


def score_sites(
    task: PairTask,
    config: Config,
    steps: int,
    kinds: dict[str, tuple[str, tuple[Axis, ...]]],
    run: Run,
) -> pd.DataFrame:
    """Every site of some kinds: approximate, and where it was audited exact."""
    found: list[tuple[str, Site]] = [
        (kind, site)
        for kind, (pattern, each) in kinds.items()
        for site in sites(task.model, pattern_in(task.model, pattern), each, task.clean[:1])
    ]
    table = attribution(
        task.model,
        task.clean,
        task.corrupted,
        logit_difference(task.answer, task.wrong),
        [site for _, site in found],
        steps=steps,
        verify=config.verify,
        seed=config.seed,
        run=run,
    ).table
    method = f"integrated gradients, {steps} steps" if steps else GRADIENT
    of = "neurons" if kinds is NEURONS else "parts by position"
    table.insert(0, "kind", [kind for kind, _ in found])
    table.insert(0, "method", method)
    table.insert(0, "panel", f"{of}: {method}")
    return table.assign(metric="logit_difference", seed=config.seed)


def pattern_in(model: Model, pattern: str) -> str:
    """A pattern, or what stands for it: what enters the first block is all that is embedded, where
    a model has no hook point on its token embedding alone."""
    has_it = any(fnmatchcase(name, pattern) for name in model.hook_dict)
    return FIRST_STREAM if pattern == EMBEDDING and not has_it else pattern


def audits_of(table: pd.DataFrame) -> pd.DataFrame:
    """How well scores agree with exact values: of all that was checked, and without embeddings."""
    rows = []
    for panel, part in table.groupby("panel", sort=False):
        chosen = {"checked": part}
        if (part["kind"] == "embedding").any():
            chosen["no embeddings"] = part[part["kind"] != "embedding"]
        for name, scores in chosen.items():
            checked = scores.dropna(subset="exact")
            largest = int((checked["why"] == "largest").sum())
            audit = audit_scores(
                checked["approximate"].to_numpy(), checked["exact"].to_numpy(), largest
            )
            rows.append({"panel": panel, "name": name, "of": len(scores), **asdict(audit)})
    return pd.DataFrame(rows)


def draw(run: Run) -> None:
    """The figure, from the saved tables alone."""
    figure = approximate_against_exact(run.table(), run.table("audits"))
    run.save_figure(figure, "approximations")


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    table, audits = run.table(), run.table("audits")
    neurons = of_kind(table, ["neuron"])
    columns = ["site", "approximate", "ci_low", "ci_high", "exact", "exact_ci_low"]
    columns += ["exact_ci_high", "exact_p_adjusted", "why", "n", "line", "code"]
    caption = (
        "Approximate and exact effects of the sites that were patched, in nats of the difference "
        "between the logits of the right and the wrong answer."
    )
    return [
        Section(
            "Approximate against exact",
            text="\n\n".join([*agreement(audits), BLIND]),
            figures=[Figure.saved(caption, run.figure("approximations"))],
            table=audits,
        ),
        Section(
            "The neurons that matter most",
            text=top_neurons(neurons),
            table=neurons.dropna(subset="exact")
            .sort_values("exact", key=abs, ascending=False)[columns]
            .head(SHOWN),
            saved=neurons,
        ),
        Section(
            "What attribution overlooks",
            text="\n\n".join(largest_errors(table)),
            table=table[table["why"] == "random"]
            .assign(miss=lambda rows: rows["exact"] - rows["approximate"])
            .sort_values("miss", key=abs, ascending=False)[
                ["method", "kind", "site", "approximate", "exact", "miss"]
            ]
            .head(SHOWN),
            saved=table,
        ),
    ]


def readings(run: SavedRun) -> list[str]:
    """One plain sentence on each main finding."""
    table = run.table()
    neurons = of_kind(table, ["neuron"])
    return [*agreement(run.table("audits")), top_neurons(neurons), *largest_errors(table)]


def limits(run: SavedRun) -> list[str]:
    """What the numbers leave open."""
    audits = run.table("audits")
    whole = audits[audits["name"] == "checked"]
    if (whole["sites"] == whole["of"]).all():
        return [BLIND]
    return [
        BLIND,
        "Correlations are over the sites that were patched, half of them chosen for their large "
        "scores: over all sites they would be others.",
    ]


def of_kind(table: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """The rows of some kinds, scored by the plain gradient."""
    return table[table["kind"].isin(kinds) & (table["method"] == GRADIENT)]


def agreement(audits: pd.DataFrame) -> list[str]:
    return [
        f"{row['panel']}, {row['name']}: {row['sites']} of {row['of']} sites patched exactly, "
        f"correlation {row['correlation']:.2f}, slope {row['slope']:.2f}, the sign differs at "
        f"{row['wrong_signs']} of {row['with_effect']}."
        for row in audits.to_dict("records")
    ]


def top_neurons(neurons: pd.DataFrame) -> str:
    """The neuron with the largest exact effect, of those that are shown to have any; of too few
    pairs to show one, of all."""
    exact = neurons.dropna(subset="exact").rename(columns={"exact": "exact_delta"})
    verdicts = verdicts_of(exact, "exact_")
    shown = exact[[each.is_effect or each is Verdict.UNKNOWN for each in verdicts]]
    rows = shown if len(shown) else exact
    top = rows.sort_values("exact_delta", key=abs, ascending=False).iloc[0].to_dict()
    place = int((neurons["approximate"].abs() > abs(top["approximate"])).sum()) + 1
    effect = f"{top['exact_delta']:+.3f} nats ({interval_words(top, 'exact_')}; "
    unsure = "" if len(shown) else f"{verdict_words(top, 'exact_')}; "
    largest = "The largest effect" if len(shown) else "None is shown to matter: the largest change"
    return (
        f"Of {len(neurons)} neurons {len(exact)} were patched exactly. {largest} is that of "
        f"{top['site']}, {effect}{unsure}approximate {top['approximate']:+.3f}, by which it is "
        f"number {place})."
    )


def largest_errors(table: pd.DataFrame) -> list[str]:
    """In each panel the random site with the largest error."""
    said = []
    for panel, rows in table[table["why"] == "random"].groupby("panel", sort=False):
        misses = (rows["exact"] - rows["approximate"]).abs()
        worst = rows.assign(miss=misses).sort_values("miss", ascending=False).iloc[0]
        said.append(
            f"{panel}: of {len(rows)} random sites the worst scored is {worst['site']}, "
            f"approximate {worst['approximate']:+.2g}, exact {worst['exact']:+.2g} nats."
        )
    return said


EXPERIMENT = Experiment(
    name="attribution",
    title="Attribution against exact patching",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("results", ("panel", "kind", "site")),
    readings=readings,
    limits=limits,
    rank=5,
)

if __name__ == "__main__":
    launch(main, Config)
