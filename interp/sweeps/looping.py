"""How is a sweep run on a model that cannot be taken apart? One forward pass after the other."""

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError
from interp.interventions import intervene
from interp.logits import found_in, logits_of
from interp.metrics import Metric, measure
from interp.receipts import Effect
from interp.site import Model
from interp.sweeps.speed.scoring import check_scores
from interp.sweeps.trials import Trial


def run_unchanged(
    model: Model, tokens: Tensor, metric_tokens: Tensor, metric: Metric
) -> Float[Tensor, "batch"]:
    """The metric of the model as it is.

    Raises:
        UsageError: the model gives one text other logits when it is run again.
        NonFiniteError: the metric is not finite.
    """
    value = measure(metric, logits_of(model(tokens), tokens), metric_tokens)
    value = check_scores(value, len(tokens))
    first, again = (found_in(model(tokens[:1])).float() for _ in range(2))
    tolerance = torch.finfo(torch.float32).eps ** 0.5 * first.abs().max()
    if first.shape != again.shape or (again - first).abs().max() > tolerance:
        raise UsageError(
            "this model gives a text other logits when it is run again, so that no difference can "
            "be put down to an intervention: it draws random numbers though it is in evaluation "
            "mode, or keeps something from one run to the next"
        )
    return value


def run_one(
    model: Model, tokens: Tensor, metric_tokens: Tensor, trial: Trial, metric: Metric
) -> tuple[Float[Tensor, "batch"], list[Effect]]:
    """One trial, with a whole forward pass of its own.

    Raises:
        UsageError: the model raises something with the intervention in place.
        NonFiniteError: an intervention or the metric is not finite.
    """
    with intervene(model, {trial.key: trial.intervention}, allow_no_effect=True) as receipt:
        try:
            output = model(tokens)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"the model cannot be run with {trial.intervention} at {trial.key}: it raises "
                f"{type(error).__name__}: {error}"
            ) from error
        value = measure(metric, logits_of(output, tokens), metric_tokens)
        value = check_scores(value, len(tokens))
    return value, list(receipt)
