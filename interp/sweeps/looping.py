"""How is a sweep run on a model that cannot be taken apart?

One forward pass after the other; or, where a model takes ``start_at_layer``, from the layer that
changes on, several cells at a time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.editing import Claim, claims_in_place
from interp.errors import NonFiniteError
from interp.interventions import intervene
from interp.logits import found_in, logits_of
from interp.metrics import Metric
from interp.receipts import Effect
from interp.site import Model
from interp.sweeps.cells import Cell
from interp.sweeps.scoring import checked


def alone(
    model: Model, tokens: Tensor, against: Tensor, cell: Cell, metric: Metric
) -> tuple[Float[Tensor, "batch"], list[Effect]]:
    """One cell, with a whole forward pass of its own.

    Raises:
        NonFiniteError: an intervention or the metric is not finite.
    """
    with intervene(model, {cell.key: cell.intervention}, allow_no_effect=True) as receipt:
        value = checked(metric(logits_of(model(tokens), tokens), against), len(tokens))
    return value, list(receipt)


def from_layer(
    model: Any,
    x: Float[Tensor, "batch pos d_model"],
    against: Tensor,
    layer: int,
    cells: Sequence[Cell],
    metric: Metric,
) -> tuple[Float[Tensor, "cell batch"], list[Effect]]:
    """Cells of one layer as rows of one batch, from that layer on.

    Args:
        x: the clean residual stream entering the layer.

    Raises:
        NonFiniteError: an intervention or the metric is not finite.
    """
    batch = len(x)
    effects = [Effect(cell.key, str(cell.intervention), [cell.site]) for cell in cells]
    claims = [
        Claim(
            cell.site,
            model.hook_dict[cell.site.hook],
            cell.intervention,
            effects[number],
            slice(number * batch, (number + 1) * batch),
        )
        for number, cell in enumerate(cells)
    ]
    with claims_in_place(model, claims):
        output = model(x.repeat(len(cells), 1, 1), start_at_layer=layer)
    logits = found_in(output)
    for effect in effects:
        if effect.broken:
            raise NonFiniteError(
                f"{effect.intervention} on {effect.key} made {effect.broken} of "
                f"{effect.elements} values NaN or infinite"
            )
    each = logits.unflatten(0, (len(cells), batch))
    measured = [checked(metric(logits_of(part, against), against), batch) for part in each]
    return torch.stack(measured), effects
