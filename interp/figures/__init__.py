"""How does a result table look?

Each function takes a result table and returns a matplotlib ``Figure``. Nothing is computed here,
nothing is written, and no global setting changes: a figure can be drawn anywhere, any number of
times.

    figure = figures.heads(interp.ablate(model, tokens, "blocks.*.attn.hook_z", each="head"))
    figure.savefig("heads.pdf")
"""

from interp.figures.bars import loss_bars, ranked_effects
from interp.figures.cells import head_name
from interp.figures.characters import loss_change_by_character, loss_change_in_text
from interp.figures.curves import learning_curves, variant_curves
from interp.figures.heatmaps import by_distance, head_scores, heads, positions
from interp.figures.ladder import scaled_scores, staircase, steps
from interp.figures.neurons import neuron_view
from interp.figures.patterns import attention
from interp.figures.scatter import approximate_against_exact, damage_and_lasting_cost
from interp.figures.source import lines, lines_by_layer

__all__ = [
    "approximate_against_exact",
    "attention",
    "by_distance",
    "damage_and_lasting_cost",
    "head_name",
    "head_scores",
    "heads",
    "learning_curves",
    "lines",
    "lines_by_layer",
    "loss_bars",
    "loss_change_by_character",
    "loss_change_in_text",
    "neuron_view",
    "positions",
    "ranked_effects",
    "scaled_scores",
    "staircase",
    "steps",
    "variant_curves",
]
