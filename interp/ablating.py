"""What does the model lose without each of its parts?

table = ablate(model, tokens, "blocks.*.attn.hook_z", each="head")    # every head set to zero
figures.heads(table)
"""

from collections.abc import Sequence

import pandas as pd
from jaxtyping import Int
from torch import Tensor

from interp.interventions import Zero
from interp.metrics import Metric, loss
from interp.places import Intervention
from interp.site import Model, Part, Site
from interp.site import sites as sites_of
from interp.sweep import sweep
from interp.sweeps.resuming.answers import RowStore
from interp.tokens import tokens_of


def ablate(
    model: Model,
    tokens: str | Sequence[str] | Int[Tensor, "..."],
    sites: str | Sequence[Site],
    each: Part | Sequence[Part] | None = None,
    *,
    intervention: Intervention | None = None,
    metric: Metric = loss,
    memory: str | int | None = None,
    progress: bool = True,
    run: RowStore | None = None,
) -> pd.DataFrame:
    """Ablate each site alone, and measure what that does on every text.

    Args:
        model: any model with hook points: a ``HookedRootModule``, or TransformerLens' bridge.
        tokens: a text, several of as many tokens each, or tokens.
        sites: a hook point's name, a glob over names, or sites.
        each: split every match into its heads, positions or neurons.
        intervention: what is done to each site; by default its activation is set to zero.
        metric: of the logits; by default the loss, in nats per token.
        memory, progress, run: as for ``sweep``.

    Returns:
        ``sweep``'s table: a row for each site, with its source line, what the metric was without
        and with the ablation, the difference ``delta`` and its interval over texts.

    Raises:
        HookNameError, SiteError: no such hook point, or not that part of it.
        Errors of ``sweep``.
    """
    ids = tokens_of(model, tokens)
    found = sites_of(model, sites, each, ids) if isinstance(sites, str) else list(sites)
    ablation = intervention or Zero()
    return sweep(
        model,
        ids,
        [(site, ablation) for site in found],
        metric,
        memory=memory,
        progress=progress,
        run=run,
    )
