"""The instruments: interventions, patching, surgery on source lines, statistics, figures.

    from interp import Zero, intervene, sites

    with intervene(model, {"blocks.1.attn.hook_z[head=2]": Zero()}) as receipt:
        logits = model(tokens)

They work on any ``HookedRootModule`` and on TransformerLens' bridge.
"""

from interp.caching import cache
from interp.heads import attention_by_distance, head_scores
from interp.interventions import Apply, Mean, Noise, Patch, Resample, Steer, Zero, intervene
from interp.metrics import accuracy, kl_from, logit_difference, loss, loss_at, token_losses
from interp.patching import activation_patching
from interp.sites import Site, sites, source_lines

__all__ = [
    "Apply",
    "Mean",
    "Noise",
    "Patch",
    "Resample",
    "Site",
    "Steer",
    "Zero",
    "accuracy",
    "activation_patching",
    "attention_by_distance",
    "cache",
    "head_scores",
    "intervene",
    "kl_from",
    "logit_difference",
    "loss",
    "loss_at",
    "sites",
    "source_lines",
    "token_losses",
]
