"""How does a page show a circuit, from a run's tables and figures alone?"""

import pandas as pd

from experiments.support.circuits.lasting import draw_lasting, show_lasting
from experiments.support.circuits.ranking import MEANINGS, RANDOM, WAYS
from experiments.support.circuits.telling import (
    choices_of_parts,
    chosen,
    circuit_of,
    edge_words,
    edges_in,
    edges_that_matter,
    how_methods_do,
    is_whole,
    other_rankings,
    over_models,
    smallest_circuit,
    strongest_edge,
    the_pairs,
    what_it_misses,
    what_it_needs,
    what_source_says,
)
from interp import figures
from interp.report import EdgesView, Figure, MapView, Part, Section
from interp.runs import Run, SavedRun

SHOWN = 40
"""Rows of a table on the page; the file has all."""
LINES = ["line", "code", "reader_line", "reader_code"]


def draw_figures(run: Run) -> None:
    """Figures, from the saved tables alone."""
    for meaning in MEANINGS:
        effects = edges_in(run, meaning).sort_index()
        run.save_figure(figures.edge_graph(effects), f"edges_{meaning}")
        if is_whole(run):
            run.save_figure(figures.edge_heatmap(effects), f"heatmap_{meaning}")
    opened, circuit = edges_in(run).sort_index(), circuit_of(run, chosen(run))
    if {*circuit} <= {*opened["edge"]}:
        title = f"The smallest circuit found: {len(circuit)} edges"
        run.save_figure(figures.edge_graph(opened, title, edges=circuit), "circuit")
    if run.holds("minimality"):
        run.save_figure(figures.minimality(run.table("minimality")), "minimality")
        run.save_figure(figures.completeness(run.table("completeness")), "completeness")
    if run.holds("lasting"):
        draw_lasting(run)
    curve, over = run.table("curve"), "texts"
    if run.holds("bands"):
        sizes = curve[["method", "share", "edges"]]
        curve, over = run.table("bands").merge(sizes, on=["method", "share"]), "seeds"
    for way in WAYS:
        rows = curve[curve["method"].str.endswith(f", {way}") | (curve["method"] == RANDOM)]
        rows = rows[rows["edges"] > 0].assign(method=rows["method"].str.partition(",")[0])
        title = f"How much of the answer the best edges keep, ranked {WORDS[way]}"
        run.save_figure(figures.faithfulness_curves(rows, title, over=over), f"curves_{way}")


WORDS = {"signed": "with the sign of their effect", "absolute": "by size alone"}


def show_sections(run: SavedRun) -> list[Part]:
    """What the page shows."""
    return [
        the_circuit(run),
        *(is_it_good(run) if run.holds("minimality") else []),
        all_edges(run),
        EdgesView("The edges on the source", run.table()),
        MapView("The edges on the map of the model", run.table("boxes"), edges=edges_in(run)),
        as_source(run),
        rankings_judged(run),
        *([every_choice_told(run)] if run.holds("minimal") else []),
        *([models_told(run)] if run.holds("models") else []),
        *([show_lasting(run)] if run.holds("lasting") else []),
        Section("The pairs", text=the_pairs(run), table=run.table("pairs").head(SHOWN)),
    ]


def the_circuit(run: SavedRun) -> Section:
    """The smallest circuit: its edges, with what each does alone in either meaning."""
    edges = circuit_of(run, chosen(run))
    opened, direct = (edges_in(run, meaning).set_index("edge") for meaning in MEANINGS)
    rows = opened.reindex(edges)
    table = pd.DataFrame(
        {
            "edge": list(map(edge_words, edges)),
            "open": rows["delta"],
            "ci_low": rows["ci_low"],
            "ci_high": rows["ci_high"],
            "direct": direct["delta"].reindex(edges),
            **{name: rows[name] for name in LINES},
        }
    )
    shown = []
    if (run.folder / "figures" / "circuit.svg").exists():
        caption = "The circuit, layer over layer. Strength: what each edge does alone, open."
        shown.append(Figure.saved(caption, run.figure("circuit")))
    said = "\n\n".join([strongest_edge(run), smallest_circuit(run), other_rankings(run)])
    return Section("The circuit", text=said, figures=shown, table=table.head(SHOWN), saved=table)


def is_it_good(run: SavedRun) -> list[Section]:
    """Whether all of the circuit is needed, and whether anything is missing."""
    columns = ["edge", "circuit", "value", "delta", "ci_low", "ci_high", "p_adjusted", "verdict"]
    cuts = ["without", "circuit", "model", "delta", "ci_low", "ci_high", "p_adjusted", "verdict"]
    needed, missing = run.table("minimality")[columns], run.table("completeness")[cuts]
    return [
        Section(
            "Is all of it needed?",
            text=what_it_needs(run),
            figures=[
                Figure.saved("The circuit without each of its edges.", run.figure("minimality"))
            ],
            table=needed.head(SHOWN),
            saved=needed,
        ),
        Section(
            "Is anything missing?",
            text=what_it_misses(run),
            figures=[
                Figure.saved(
                    "The same parts cut from circuit and model.", run.figure("completeness")
                )
            ],
            table=missing.head(SHOWN),
            saved=missing,
        ),
    ]


def as_source(run: SavedRun) -> Section:
    """The strongest edges as edits of the source, with the diff of the first."""
    twins = run.table("twins")
    shown = ["edge", "by_hook", "by_source", "difference", "agrees", "detail", *LINES]
    diffs = [diff for diff in twins["diff"] if diff]
    return Section(
        "The same edges as source",
        text=what_source_says(run),
        table=twins[shown],
        code=diffs[0] if diffs else "",
        saved=twins,
    )


def all_edges(run: SavedRun) -> Section:
    """The edges that were measured, the largest effects first."""
    why = [] if is_whole(run) else ["why"]
    shown = ["edge", "delta", "ci_low", "ci_high", "p_adjusted", *why, *LINES]
    meant = {
        "open": "everything after the reader follows",
        "direct": "the reader answers to the logits alone",
    }
    drawn = []
    for meaning in MEANINGS:
        said = f"Patched {meaning}: {meant[meaning]}."
        drawn.append(Figure.saved(said, run.figure(f"edges_{meaning}")))
        if is_whole(run):
            said = f"Every edge, patched {meaning}."
            drawn.append(Figure.saved(said, run.figure(f"heatmap_{meaning}")))
    return Section(
        "Every edge" if is_whole(run) else "The edges that were measured",
        text=edges_that_matter(run),
        figures=drawn,
        table=edges_in(run)[shown].head(SHOWN),
        saved=run.table(),
    )


def rankings_judged(run: SavedRun) -> Section:
    """How far each ranking of edges leads."""
    areas = run.table("areas")
    said = [
        "Of each ranking the first edges run, and all others say what replaces them. CPR is the "
        "area under the curve over the share of edges, larger is better; CMD that between the "
        "curve and 1, smaller is better (both as the MIB benchmark has them, over its ten sizes).",
        *how_methods_do(run),
    ]
    return Section(
        "How good each ranking is",
        text="\n\n".join(said),
        figures=[
            Figure.saved(
                f"Faithfulness on the pairs to judge by; edges ranked {WORDS[way]}.",
                run.figure(f"curves_{way}"),
            )
            for way in WAYS
        ],
        table=areas,
        saved=run.table("curve").drop(columns=["gain_by_text", "gap_by_text"]),
    )


def every_choice_told(run: SavedRun) -> Section:
    """What all choices of parts say."""
    minimal, shares = run.table("minimal"), run.table("shapley")
    table = minimal.assign(parts=[" + ".join(parts) for parts in minimal["parts"]])
    shapley = ", ".join(f"{row.part} {row.value:+.2f}" for row in shares.itertuples())
    return Section(
        "Every choice of parts",
        text=f"{choices_of_parts(run)}\n\nShares of the whole difference: {shapley} nats.",
        table=table.head(SHOWN),
        saved=table,
    )


def models_told(run: SavedRun) -> Section:
    """The circuits of models that differ in their seed."""
    return Section("Other seeds", text=over_models(run), table=run.table("models"))
