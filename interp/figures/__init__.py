"""How does a result table look?

Each function takes a result table and returns a matplotlib ``Figure``. Nothing is computed here,
nothing is written, and no global setting changes: a figure can be drawn anywhere, any number of
times.

    figure = figures.heads(interp.ablate(model, tokens, "blocks.*.attn.hook_z", each="head"))
    figure.savefig("heads.pdf")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.figures.bars import loss_bars, ranked_effects
    from interp.figures.cells import head_name
    from interp.figures.circuit_curves import completeness, faithfulness_curves, minimality
    from interp.figures.circuit_graph import edge_graph
    from interp.figures.curation import characters_by_step
    from interp.figures.curves import learning_curves, variant_curves
    from interp.figures.edges import edge_heatmap
    from interp.figures.groups import loss_by_group
    from interp.figures.heatmaps import by_distance, head_scores, heads, positions
    from interp.figures.ladder import scaled_scores, staircase, steps
    from interp.figures.neurons import neuron_effects, neuron_view
    from interp.figures.patterns import attention
    from interp.figures.pipeline import memorised, pipeline_steps
    from interp.figures.scatter import approximate_against_exact, damage_and_lasting_cost
    from interp.figures.source import lines, lines_by_layer
    from interp.figures.tokens import loss_change_by_token, loss_change_in_text

__all__ = [
    "approximate_against_exact",
    "attention",
    "by_distance",
    "characters_by_step",
    "completeness",
    "damage_and_lasting_cost",
    "edge_graph",
    "edge_heatmap",
    "faithfulness_curves",
    "head_name",
    "head_scores",
    "heads",
    "learning_curves",
    "lines",
    "lines_by_layer",
    "loss_bars",
    "loss_by_group",
    "loss_change_by_token",
    "loss_change_in_text",
    "memorised",
    "minimality",
    "neuron_effects",
    "neuron_view",
    "pipeline_steps",
    "positions",
    "ranked_effects",
    "scaled_scores",
    "staircase",
    "steps",
    "variant_curves",
]

MODULES = {
    name: module
    for module, names in {
        "bars": "loss_bars ranked_effects",
        "cells": "head_name",
        "curation": "characters_by_step",
        "circuit_curves": "completeness faithfulness_curves minimality",
        "circuit_graph": "edge_graph",
        "edges": "edge_heatmap",
        "tokens": "loss_change_by_token loss_change_in_text",
        "groups": "loss_by_group",
        "curves": "learning_curves variant_curves",
        "heatmaps": "by_distance head_scores heads positions",
        "ladder": "scaled_scores staircase steps",
        "neurons": "neuron_effects neuron_view",
        "patterns": "attention",
        "pipeline": "memorised pipeline_steps",
        "scatter": "approximate_against_exact damage_and_lasting_cost",
        "source": "lines lines_by_layer",
    }.items()
    for name in names.split()
}
"""Where each function stands: to import what draws takes seconds, and most processes draw nothing.
"""


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
