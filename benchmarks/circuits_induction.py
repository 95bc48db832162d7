"""Does every method find the circuit that is known: previous-token head to induction head's key?

    python -m benchmarks.circuits_induction [--seeds 5] [--heads 4] [--texts 64] [--runs DIR]

For each seed a model of two layers is trained on strings that repeat (about 12 s of one processor;
kept in the run folder). Which edge should be found is read off attention alone: from the head of
the first layer that looks at the previous token most, to the key of the head of the second layer
that looks most at what followed the letter before. All other edges from first-layer heads to keys
of heads that do so too (at least half of their attention) are counted beside it, since several
heads of such a model do the same.

Methods rank all edges on one half of the texts. The edge is found where it is among the first tenth
of them, which a random order does once in ten times. A method's circuit is its shortest list of
first edges with at least 0.9 of the model's answer there; greedy removal, at a hundredth of the
gap, has its own. Faithfulness, CPR and CMD are those of the other half, with bands over seeds and,
on average, over texts.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from experiments.support.trainings.induction import InductionRecipe, induction_model, swapped_cues
from interp.circuits import edge_effects
from interp.circuits.finding import rank_edges, remove_greedily, score_edges
from interp.circuits.graph import graph_of_sizes
from interp.circuits.guarantees import (
    MIB_SIZES,
    band_over_seeds,
    curve_areas,
    faithfulness_curve,
    split_texts,
)
from interp.heads import head_scores
from interp.metrics import Metric, logit_difference
from interp.site import Model

SCORED = ("exact", "direct", "EAP", "EAP-IG inputs", "EAP-IG activations")
ORDERS = ("signed", "absolute")
FIRST = 0.1  # of all edges, among which the edge is found
ENOUGH = 0.9  # of the model's answer, on the texts on which a circuit is found
INDUCES = 0.5  # of a head's attention
LENGTH = 16  # letters of a string


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where models are kept")
    arguments = parser.parse_args()
    recipe = InductionRecipe(n_head=arguments.heads)
    found, curves, areas = [], {}, {}
    for seed in range(arguments.seeds):
        started = time.perf_counter()
        model, _, _ = induction_model(recipe, seed, arguments.runs, torch.device("cpu"))
        rows, curves[seed] = judge_methods(model, recipe, arguments.texts, seed)
        areas[seed] = curve_areas(curves[seed])
        found.append(rows)
        print(f"seed {seed}: {rows['edge'][0]}, {time.perf_counter() - started:.0f} s", flush=True)
    told = pd.concat(found)
    pd.set_option("display.width", 200, "display.max_columns", 30, "display.max_rows", 200)
    print(told.round(2).to_string(index=False))
    print(sum_up(told).round(2).to_string(index=False))
    columns = ["", "_ci_low", "_ci_high", "_texts_low", "_texts_high"]
    named = ["method", *(name + end for name in ("CPR", "CMD") for end in columns), "n"]
    print(band_over_seeds(areas)[named].round(3).to_string(index=False))


def judge_methods(
    model: Model, recipe: InductionRecipe, texts: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each method found of one model, and the curves of all on the other texts."""
    letters = len(recipe.letters)
    clean, corrupted, answer, wrong = swapped_cues(letters, LENGTH, texts, seed)
    halves = split_texts(clean, corrupted, clean[:, answer], corrupted[:, wrong], seed=seed)
    finding, judging = (
        (model, some, others, logit_difference(right, other))
        for some, others, right, other in halves
    )
    known, alike = known_edges(model, halves[0][0])
    edges = [str(edge) for edge in graph_of_sizes(2, recipe.n_head).edges]
    ranked, greedy = rank_all(finding, edges, seed)
    counts = [*range(41), *range(45, len(edges), 5), len(edges)]
    shares = [count / len(edges) for count in counts]
    search = faithfulness_curve(*finding, ranked, sizes=shares, progress=False)
    circuits = {"greedy": greedy}
    for method, points in search.groupby("method"):
        if method != "greedy":
            enough = points[points["faithfulness"] >= ENOUGH]["edges"].min()
            circuits[method] = ranked[method][: int(enough)]
    curve = faithfulness_curve(*judging, ranked, sizes=MIB_SIZES, progress=False)
    rows = [
        describe(seed, method, known, alike, ranked[method], circuits[method], judging)
        for method in ranked
    ]
    return pd.DataFrame(rows), curve


def known_edges(model: Model, clean: Tensor) -> tuple[str, list[str]]:
    """The edge that attention says must be there, and all that might do the same."""
    scores = head_scores(model, clean, "with_target")
    previous = scores[(scores["metric"] == "previous_token") & (scores["layer"] == 0)]
    induction = scores[(scores["metric"] == "induction") & (scores["layer"] == 1)]
    reads = induction.loc[induction["value"].idxmax(), "head"]
    writes = previous.loc[previous["value"].idxmax(), "head"]
    inducing = induction[induction["value"] >= INDUCES]["head"]
    alike = [f"a0.h{one} -> a1.h{other}.k" for one in previous["head"] for other in inducing]
    return f"a0.h{writes} -> a1.h{reads}.k", alike


def rank_all(
    finding: tuple[Model, Tensor, Tensor, Metric], edges: Sequence[str], seed: int
) -> tuple[dict[str, list[str]], list[str]]:
    """Every method's order of all edges, and what greedy removal keeps."""
    ranked = {}
    for method in SCORED:
        if method == "direct":
            table = edge_effects(*finding, meaning="direct", progress=False)
            table = table.rename(columns={"delta": "score"}).assign(method="direct", towards=-1)
        else:
            table = score_edges(*finding, method=method, progress=False)
        for by in ORDERS:
            ranked[f"{method}, {by}"] = rank_edges(table, by)
    gap = whole_gap(finding)
    removed = remove_greedily(*finding, threshold=0.01 * gap, progress=False)
    kept = removed[removed["kept"]].sort_values("change", key=abs, ascending=False)
    out = removed[~removed["kept"]]["edge"].tolist()
    ranked["greedy"] = [*kept["edge"], *reversed(out)]
    ranked["random"] = rank_edges(score_edges(*finding, method="random", seed=seed, progress=False))
    assert all(sorted(order) == sorted(edges) for order in ranked.values())
    return ranked, kept["edge"].tolist()


def whole_gap(finding: tuple[Model, Tensor, Tensor, Metric]) -> float:
    """How far the model's answers to both kinds of text are apart."""
    model, clean, corrupted, metric = finding
    with torch.no_grad():
        ends = [float(metric(model(tokens), clean).mean()) for tokens in (clean, corrupted)]
    return abs(ends[0] - ends[1])


def describe(
    seed: int,
    method: str,
    known: str,
    alike: Sequence[str],
    order: Sequence[str],
    circuit: Sequence[str],
    judging: tuple[Model, Tensor, Tensor, Metric],
) -> dict[str, Any]:
    """One row of what a method found."""
    share = len(circuit) / len(order)
    held = [*circuit, *(edge for edge in order if edge not in set(circuit))]
    judged = faithfulness_curve(*judging, {method: held}, sizes=[share], progress=False).iloc[0]
    rank = order.index(known) + 1
    return {
        "seed": seed,
        "method": method,
        "edge": known,
        "rank": rank,
        "found": rank <= FIRST * len(order),
        "best like it": min(order.index(edge) for edge in alike) + 1,
        "circuit": len(circuit),
        "in it": known in circuit,
        "like it": len(set(alike) & set(circuit)),
        "of": len(alike),
        "faithfulness": judged["faithfulness"],
        "ci_low": judged["ci_low"],
        "ci_high": judged["ci_high"],
    }


def sum_up(told: pd.DataFrame) -> pd.DataFrame:
    """One row per method: in how many seeds it found the edge, and how faithful it was."""
    by_method = told.groupby("method", sort=False)
    table = by_method[["rank", "best like it", "circuit", "like it", "of"]].median().reset_index()
    for column in ("found", "in it"):
        table[column] = [f"{int(rows[column].sum())} of {len(rows)}" for _, rows in by_method]
    curves = {
        int(seed): rows.assign(share=1.0) for seed, rows in told.groupby("seed")
    }  # each method's circuit as a curve of one point
    return table.merge(band_over_seeds(curves).drop(columns=["share"]), on="method")


if __name__ == "__main__":
    main()
