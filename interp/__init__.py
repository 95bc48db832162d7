"""The instruments: they say what each part of a transformer, and each line of its code, does.

    import interp as ip

    table = ip.ablate(model, tokens, "blocks.*.attn.hook_z", each="head")
    ip.figures.heads(table).savefig("heads.pdf")

They work on any ``HookedRootModule`` and on TransformerLens' bridge; ``ip.surgery`` on any module
whose class stands in a file, and ``ip.hook_lines`` makes hook points of any such module's lines.
"""

from interp import figures, metrics, report, runs, samples, stats, surgery, verdicts
from interp.ablating import ablate
from interp.attribution import Attribution, attribution
from interp.caching import cache
from interp.errors import (
    HookNameError,
    InterventionError,
    NoEffectError,
    NonFiniteError,
    SiteError,
    SurgeryError,
    SurgeryWarning,
    UsageError,
)
from interp.heads import attention, attention_by_distance, attention_patterns, head_scores
from interp.interventions import Apply, Mean, Noise, Patch, Resample, Steer, Zero, intervene
from interp.line_hooks import hook_lines
from interp.metrics import accuracy, kl_from, logit_difference, loss, loss_at, token_losses
from interp.patching import activation_patching, induction_pairs, patch, patch_each
from interp.samples import write
from interp.site import Site, sites, source_lines
from interp.sweep import plan, sweep
from interp.tokens import strings_of, tokens_of

__all__ = [
    "Apply",
    "Attribution",
    "HookNameError",
    "InterventionError",
    "Mean",
    "NoEffectError",
    "Noise",
    "NonFiniteError",
    "Patch",
    "Resample",
    "Site",
    "SiteError",
    "Steer",
    "SurgeryError",
    "SurgeryWarning",
    "UsageError",
    "Zero",
    "ablate",
    "accuracy",
    "activation_patching",
    "attention",
    "attention_by_distance",
    "attention_patterns",
    "attribution",
    "cache",
    "figures",
    "head_scores",
    "hook_lines",
    "induction_pairs",
    "intervene",
    "kl_from",
    "logit_difference",
    "loss",
    "loss_at",
    "metrics",
    "patch",
    "patch_each",
    "plan",
    "report",
    "runs",
    "samples",
    "sites",
    "source_lines",
    "stats",
    "strings_of",
    "surgery",
    "sweep",
    "token_losses",
    "tokens_of",
    "verdicts",
    "write",
]
