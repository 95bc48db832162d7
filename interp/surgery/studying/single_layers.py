"""What do cuts do in each layer alone?

By blocks where the model's blocks run alone (``one_layer``); a run of the whole cut model for every
layer where they do not, and of every cut for which the two do not agree.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from interp.site import Model
from interp.status import TOOK_EFFECT, Status
from interp.surgery.judging.rows import Row, headlines, with_columns
from interp.surgery.source.edits import Surgery, at_layers
from interp.surgery.studying.describing import describe_cut, layers_of
from interp.surgery.studying.one_layer import LayerPlan, as_leak, carry_on, is_borne_out, try_blocks
from interp.surgery.studying.posthoc import is_built_anew, is_hidden
from interp.surgery.studying.trying import Progress, try_all
from interp.surgery.studying.uncut import Uncut

if TYPE_CHECKING:
    from interp.surgery.studying.studies import Study

LARGE = 10_000_000
"""Parameters from which on a model with hook points is cut block by block too: its cuts in single
layers are then not compared with interventions on these, those in all layers are."""

BY_WHOLE_RUN = "a run of the whole model: its block alone says otherwise"
"""Stands with a row of a cut that is not the same when its block runs alone."""

Asked = Sequence[tuple[Surgery, Sequence[int]]]
Key = tuple[int, int]  # of a cut that was asked for, and a layer


def goes_by_blocks(uncut: Uncut) -> bool:
    """Whether blocks are to run alone, if they can."""
    size = sum(parameter.numel() for parameter in uncut.model.parameters())
    return not isinstance(uncut.model, Model) or size > LARGE


def cuts_in_layers(
    study: "Study",
    cuts: Sequence[Surgery],
    outcomes: Sequence[Row],
    headlines_only: bool,
    within: Sequence[int] | None,
) -> list[tuple[Surgery, list[int]]]:
    """Those of some cuts that are made in one layer at a time, each with its layers: where it runs
    in layers, and took effect in all of them.

    Args:
        outcomes: of the cuts in all layers.
        headlines_only: leaves out what no line shows, but for one's own cuts.
        within: layers; None is all.
    """
    chosen = list(zip(cuts, outcomes, strict=True))
    if headlines_only:
        rows = [{**describe_cut(study, cut), **outcome} for cut, outcome in chosen]
        shown = {*headlines(with_columns(rows))["id"], *(cut.id for cut in study.own)}
        chosen = [(cut, outcome) for cut, outcome in chosen if cut.id in shown]
    return [
        (cut, [layer for layer in layers_of(study, cut) if within is None or layer in within])
        for cut, outcome in chosen
        if outcome["status"] in TOOK_EFFECT
    ]


def try_in_layers(study: "Study", asked: Asked, progress: Progress | None) -> list[Row]:
    """The rows of cuts, each in one of its layers after the other."""
    plan, found = study.layer_plan, dict[Key, Row]()
    by_blocks = isinstance(plan, LayerPlan)
    if isinstance(plan, LayerPlan):
        found = try_by_blocks(study, plan, asked, progress)
    keys = [(number, layer) for number, (_, layers) in enumerate(asked) for layer in layers]
    left = [key for key in keys if key not in found]
    if left:
        rows = study._tried([at_layers(asked[n][0], [layer]) for n, layer in left], progress)
        said = [BY_WHOLE_RUN] if by_blocks else []
        for key, row in zip(left, rows, strict=True):
            found[key] = {**row, "detail": "; ".join(filter(None, [row["detail"], *said]))}
    return [found[key] for key in keys]


def try_by_blocks(
    study: "Study", plan: LayerPlan, asked: Asked, progress: Progress | None
) -> dict[Key, Row]:
    """The rows of the cuts that can be made in a block that runs alone, each in its layers."""
    chosen = [
        number
        for number, (cut, layers) in enumerate(asked)
        if layers and not is_built_anew(study, cut) and not is_hidden(study, cut)
    ]
    total = 2 * len(chosen)
    whole = {number: asked[number][1][k % len(asked[number][1])] for k, number in enumerate(chosen)}

    def run(what: str, trials: dict[int, Any], layers: Mapping[int, Sequence[int]], at: int) -> Any:
        identities = [
            study._identity(
                what,
                cut=asked[number][0].identity,
                layers=[*layers[number]],
                whole=whole[number],
                **study._parts,
            )
            for number in trials
        ]
        longest = max(map(len, layers.values()), default=1)
        limit = study.limit_s * max(1, longest)
        tell = None if progress is None else lambda done, _: progress(at + done, total)
        rows = try_all(study, [*trials.values()], identities, study.store, limit, tell)
        return dict(zip(trials, rows, strict=True))

    every = {number: asked[number][1] for number in chosen}
    trials = {n: partial(try_blocks, study, plan, *asked[n], whole[n]) for n in chosen}
    met = run("blocks", trials, every, 0)
    seen = {
        (number, one["layer"]): one for number, row in met.items() for one in row.get("layers", ())
    }
    first: dict[tuple[int, str], Key] = {}  # who is carried of those that are alike
    for key, one in seen.items():
        if "row" not in one:
            first.setdefault((key[1], one["hash"]), key)
    left: dict[int, list[int]] = {}
    for number, layer in first.values():
        left.setdefault(number, []).append(layer)
    trials = {n: partial(carry_on, study, plan, asked[n][0], layers) for n, layers in left.items()}
    went = run("carried", trials, left, len(chosen))
    carried = {
        (number, one["layer"]): one for number, row in went.items() for one in row.get("layers", ())
    }
    found: dict[Key, Row] = {}
    for (number, layer), one in seen.items():
        row = one.get("row") or carried.get(first[layer, one["hash"]])
        if row is not None:
            row = {name: value for name, value in row.items() if name != "layer"}
            if one["hash"] and row["status"] != Status.EQUIVALENT:
                row["fingerprint"] = f"{layer} {one['hash']}"
            found[number, layer] = as_leak(row) if one.get("ahead") else row
    for number in chosen:  # what a whole run does not bear out is found by whole runs
        key = number, whole[number]
        if key not in found or not is_borne_out(found[key], met[number]["whole"]):
            for layer in every[number]:
                found.pop((number, layer), None)
    return found
