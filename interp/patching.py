"""Which part of a model carries the difference between two texts?

Run the model on a corrupted text, put one part's value from the clean text in its place, and see
how much of the clean answer comes back: 0 is corrupted, 1 is clean (Meng et al. 2022, Wang et al.
2022).

    table = activation_patching(model, clean, corrupted, logit_difference(answer=3, wrong=5))
    table.pivot_table("recovered", "layer", "pos")    # of one component
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.caching import cache
from interp.errors import NonFiniteError, UsageError, nearest
from interp.hooking import evaluating
from interp.interventions import Patch
from interp.logits import logits_of
from interp.metrics import Metric, logit_difference, measure
from interp.runs.workers import Elsewhere
from interp.site import Model, Part, Site, sites
from interp.sweep import effects_of
from interp.sweeps.resuming.answers import RowStore
from interp.sweeps.speed.scoring import check_scores
from interp.tokens import strings_of, token_of, tokens_of
from interp.verdicts import intervals_over_texts

COMPONENTS: dict[str, tuple[str, Part]] = {
    "resid_pre": ("blocks.*.hook_resid_pre", "pos"),
    "resid_mid": ("blocks.*.hook_resid_mid", "pos"),
    "attn_out": ("blocks.*.hook_attn_out", "pos"),
    "mlp_out": ("blocks.*.hook_mlp_out", "pos"),
    "z": ("blocks.*.attn.hook_z", "head"),
    "q": ("blocks.*.attn.hook_q", "head"),
    "k": ("blocks.*.attn.hook_k", "head"),
    "v": ("blocks.*.attn.hook_v", "head"),
}


def activation_patching(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    components: Sequence[str] = ("resid_pre", "attn_out", "mlp_out", "z"),
    *,
    progress: bool = True,
    run: RowStore | None = None,
    elsewhere: Elsewhere | None = None,
) -> pd.DataFrame:
    """Patch every cell of each component's grid, clean into corrupted.

    Args:
        model: the model.
        clean: texts that the model answers.
        corrupted: the same number of texts of the same length, changed in what matters.
        metric: of the patched logits; its tokens are the clean ones in every run.
        components: keys of ``COMPONENTS``: over layer and position the residual stream before
            (resid_pre) and inside (resid_mid) the block, attention's and the MLP's output; over
            layer and head what each head reads out (z) and its q, k and v.
        progress: show a bar.
        run: where answers are kept as they come, as for ``interp.sweep.sweep``.

    Returns:
        ``patch_each``'s table with a column ``component`` in front.

    Raises:
        UsageError: texts of different shape, an unknown component, a metric without a gap.
    """
    if not components:
        raise UsageError("components is empty: name at least one, such as resid_pre")
    for name in components:
        if name not in COMPONENTS:
            raise UsageError(
                f"no component is called {name!r}; nearest: {nearest(name, COMPONENTS)}"
            )
    cells = [
        (name, site)
        for name in components
        for pattern, part in [COMPONENTS[name]]
        for site in sites(model, pattern, each=part, tokens=corrupted[:1])
    ]
    chosen = [site for _, site in cells]
    table = patch_each(
        *(model, clean, corrupted, metric, chosen),
        progress=progress,
        run=run,
        elsewhere=elsewhere,
    )
    table.insert(0, "component", [name for name, _ in cells])
    return table


def patch(
    model: Model,
    clean: str | Sequence[str] | Tensor,
    corrupted: str | Sequence[str] | Tensor,
    *,
    answer: str | int | Sequence[str | int],
    wrong: str | int | Sequence[str | int],
    component: str | Sequence[str] = "resid_pre",
    metric: Metric | None = None,
    progress: bool = True,
    run: RowStore | None = None,
    elsewhere: Elsewhere | None = None,
) -> pd.DataFrame:
    """Activation patching between two texts: where is the answer carried?

    Args:
        model: the model.
        clean: a text, or several, after which the model should say ``answer``; or their tokens.
        corrupted: as many texts of as many tokens, after which it should say ``wrong``.
        answer: the token that follows the clean text, or one for each text; a text or an id.
        wrong: the token that follows the corrupted text, likewise.
        component: one key of ``COMPONENTS`` or several.
        metric: of the patched logits; by default the logit difference of the two tokens at the last
            position, in nats.
        progress, run, elsewhere: as for ``activation_patching``.

    Returns:
        ``activation_patching``'s table. Rows of a position also say what stands there in the first
        pair: ``clean_token`` and ``corrupted_token``.

    Raises:
        UsageError: texts of different numbers of tokens; an answer that is not one token; and as
            for ``activation_patching``.
    """
    pair = tokens_of(model, clean), tokens_of(model, corrupted)
    names = [strings_of(model, tokens[0]) for tokens in pair]
    if pair[0].shape != pair[1].shape:
        raise UsageError(
            f"clean is {list(pair[0].shape)} tokens and corrupted {list(pair[1].shape)}: patching "
            f"needs texts of as many tokens each; the first are {names[0]} and {names[1]}"
        )
    if metric is None:
        count = len(pair[0])
        metric = logit_difference(ids_of(model, answer, count), ids_of(model, wrong, count))
    asked = (component,) if isinstance(component, str) else tuple(component)
    table = activation_patching(
        *(model, *pair, metric, asked), progress=progress, run=run, elsewhere=elsewhere
    )
    for column, tokens in zip(("clean_token", "corrupted_token"), names, strict=True):
        table[column] = [None if pd.isna(at) else tokens[int(at)] for at in table["pos"]]
    return table


def ids_of(
    model: Model, texts: str | int | Sequence[str | int], count: int
) -> int | Int[Tensor, "batch"]:
    """The ids of the tokens that answer one text or each of several."""
    if isinstance(texts, str | int):
        return token_of(model, texts)
    if len(texts) != count:
        raise UsageError(f"there are {len(texts)} answers for {count} texts: give one for each")
    return torch.tensor([token_of(model, text) for text in texts])


def patch_each(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    sites: Sequence[Site],
    *,
    progress: bool = True,
    run: RowStore | None = None,
    elsewhere: Elsewhere | None = None,
) -> pd.DataFrame:
    """Patch each site alone, clean into corrupted.

    Args:
        model: the model.
        clean: texts that the model answers.
        corrupted: as many texts of the same length, changed in what matters.
        metric: of the patched logits; its tokens are the clean ones in every run.
        sites: where, one patch each.
        progress: show a bar.
        run, elsewhere: as for ``interp.sweep.sweep``.

    Returns:
        One row per site: its columns; ``baseline``, ``clean`` and ``value``, the metric's mean over
        examples corrupted, clean and patched; ``delta``, value less baseline, with its interval;
        ``recovered``, the delta in units of the gap from corrupted to clean, with the same interval
        in these units; ``p_adjusted`` for a delta of zero (sign flips, Holm over all rows);
        ``skipped``, where the patch cannot reach what the metric reads (the texts begin alike, for
        instance), so that nothing was computed; ``n`` examples. Fewer than three have no interval
        and no p-value.

    Raises:
        UsageError: texts of different shape, no sites, a metric that is the same for both texts.
        NonFiniteError: a metric that is not a number.
    """
    if clean.shape != corrupted.shape:
        raise UsageError(
            f"clean is {list(clean.shape)} tokens and corrupted {list(corrupted.shape)}: patching "
            "needs pairs of equal length, position for position"
        )
    if not sites:
        raise UsageError("there are no sites to patch")

    def measured(tokens: Int[Tensor, "batch pos"]) -> Float[np.ndarray, "batch"]:
        value = measure(metric, logits_of(model(tokens), tokens), clean)
        value = check_scores(value, len(clean), finite=False)
        return value.double().cpu().numpy()

    with evaluating(model):
        kept = cache(model, clean, sorted({site.hook for site in sites}))
        target, baseline = measured(clean), measured(corrupted)
        gap = check_gap(target, baseline)
        patches = [(site, Patch(kept)) for site in sites]
        effects = effects_of(
            model,
            corrupted,
            patches,
            metric,
            metric_tokens=clean,
            progress=progress,
            allow_no_effect=True,
            run=run,
            elsewhere=elsewhere,
        )
    table = patched_table(sites, effects.values, effects.baseline, gap)
    return table.assign(skipped=effects.skipped)


def induction_pairs(
    vocab: int, length: int, batch: int, seed: int = 0
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Clean and corrupted texts for the built-in task: a random string, repeated.

    Clean is a string of ``length`` different tokens twice, without the repeat's last token, which
    is the one to predict. Corrupted differs in one token of the first occurrence: the one that the
    clean text gives as the answer.

    Returns:
        Clean and corrupted tokens, [batch, 2 length - 1]. The answer is ``clean[:, length - 1]``,
        the wrong answer ``corrupted[:, length - 1]``.

    Raises:
        UsageError: a vocabulary too small for ``length`` different tokens and one more.
    """
    if not 2 <= length < vocab:
        raise UsageError(
            f"length is {length}; it must be at least 2 and below the vocabulary's {vocab}"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randperm(vocab, generator=generator) for _ in range(batch)])
    string, other = drawn[:, :length], drawn[:, length]
    clean = torch.cat([string, string[:, :-1]], dim=1)
    corrupted = clean.clone()
    corrupted[:, length - 1] = other
    return clean, corrupted


def check_gap(target: Float[np.ndarray, "batch"], baseline: Float[np.ndarray, "batch"]) -> float:
    """The metric's mean, clean minus corrupted; an error where there is nothing to recover."""
    if not (np.isfinite(target).all() and np.isfinite(baseline).all()):
        raise NonFiniteError("the metric of the clean or of the corrupted texts is not a number")
    gap = float(target.mean() - baseline.mean())
    if abs(gap) <= 1e-6 * max(np.abs(target).max(), np.abs(baseline).max()):
        raise UsageError(
            f"the metric is {target.mean():.6g} for the clean and for the corrupted texts: "
            "there is nothing to recover"
        )
    return gap


def patched_table(
    sites: Sequence[Site],
    values: Float[np.ndarray, "site batch"],
    baseline: Float[np.ndarray, "batch"],
    gap: float,
) -> pd.DataFrame:
    deltas = values - baseline
    table = pd.DataFrame([site.columns() for site in sites])
    table["intervention"] = "Patch()"
    table["baseline"] = baseline.mean()
    table["clean"] = baseline.mean() + gap
    table["value"] = values.mean(axis=1)
    table["delta"] = deltas.mean(axis=1)
    table = table.assign(**intervals_over_texts(deltas))
    table["recovered"] = table["delta"] / gap
    ends = np.sort(table[["ci_low", "ci_high"]].to_numpy(dtype=float) / gap, axis=1)
    table["recovered_low"], table["recovered_high"] = ends.T
    table["n"] = len(baseline)
    return table
