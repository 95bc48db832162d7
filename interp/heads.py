"""What does each attention head look at?

    head_scores(model, tokens)              # previous-token, duplicate-token, induction, per head
    attention_by_distance(model, tokens)    # how much each head attends how far back
    attention_patterns(model, tokens[0], text)              # all of it, for one text

The first two return a result table, one row per head and score, with intervals over examples.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.caching import cache
from interp.display import frame_html
from interp.errors import UsageError
from interp.hooking import attach_hooks, evaluating
from interp.padding import check_padding
from interp.report import Page
from interp.report.attention import AttentionView
from interp.report.page import rendered
from interp.runs import write_atomically
from interp.site import Model, match, sites
from interp.stats import bootstrap_interval
from interp.tokens import strings_of, tokens_of
from interp.verdicts import FEWEST

PATTERNS = "blocks.*.attn.hook_pattern"


def head_scores(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    queries: Literal["all", "with_target"] = "all",
) -> pd.DataFrame:
    """How much of each head's attention goes where a kind of head is known to look.

    A previous-token head looks one token back; a duplicate-token head at earlier copies of the
    token; an induction head at what followed those copies (Olsson et al. 2022).

    Args:
        model: the model.
        tokens: texts; the last two scores need tokens that repeat.
        queries: "all" counts the attention of every query, as TransformerLens' ``detect_head``
            does; "with_target" only that of queries which have such a place to look at, so that a
            perfect head scores 1.

    Returns:
        A table with a row per head and score: the site's columns, ``metric`` (previous_token,
        duplicate_token, induction), ``value`` (share of attention, 0 to 1), its interval over
        examples, and ``n``, the examples. With "with_target", examples without any target do not
        count.

    Raises:
        UsageError: fewer than two tokens; "with_target" and no token repeats; texts padded on the
            left, and a model that takes padding for text.
    """
    if tokens.shape[1] < 2:
        raise UsageError("head scores need at least two tokens to an example")
    if queries not in ("all", "with_target"):
        raise UsageError(f"queries is {queries!r}; it must be 'all' or 'with_target'")
    targets = {
        "previous_token": previous_tokens(tokens),
        "duplicate_token": duplicate_tokens(tokens),
        "induction": after_duplicates(tokens),
    }
    rows = {name: target.any(dim=2).float() for name, target in targets.items()}
    if queries == "all":
        rows = {name: torch.ones_like(row) for name, row in rows.items()}
    for name, row in rows.items():
        if not row.any():
            raise UsageError(f"no query has a target for the {name} score: no token repeats")

    def measure(
        pattern: Float[Tensor, "batch head query key"],
    ) -> Float[Tensor, "score batch head"]:
        scores = []
        for name, target in targets.items():
            hit = torch.einsum("bhqk,bqk->bh", pattern, target.to(pattern))
            total = torch.einsum("bhqk,bq->bh", pattern, rows[name].to(pattern))
            scores.append(hit / total)
        return torch.stack(scores)

    return heads_table(model, tokens, measure, {"metric": list(targets)})


def attention_by_distance(model: Model, tokens: Int[Tensor, "batch pos"]) -> pd.DataFrame:
    """Each head's mean attention to the token a given number of positions back.

    The mean is over the queries that have a token so far back.

    Returns:
        A table with a row per head and distance: the site's columns, ``distance`` (0 is the token
        itself), ``value``, its interval over examples, and ``n``, the examples.
    """
    length = tokens.shape[1]

    def measure(
        pattern: Float[Tensor, "batch head query key"],
    ) -> Float[Tensor, "distance batch head"]:
        diagonals = [pattern.diagonal(-back, dim1=2, dim2=3) for back in range(length)]
        return torch.stack([diagonal.mean(dim=-1) for diagonal in diagonals])

    return heads_table(model, tokens, measure, {"distance": list(range(length))})


def attention(model: Model, text: str | Int[Tensor, "pos"]) -> "AttentionPatterns":
    """Every head's whole pattern on one text; a notebook shows it as a view to click through.

    Args:
        model: the model.
        text: a text, for a model that has ``to_tokens``; or tokens.

    Returns:
        ``attention_patterns``' table, with ``save_html(path)``.

    Raises:
        UsageError: a text for a model that takes none; more than one text.
    """
    tokens = tokens_of(model, text)
    if len(tokens) > 1:
        raise UsageError(f"attention is of one text, not of {len(tokens)}: give one")
    return AttentionPatterns(attention_patterns(model, tokens[0], strings_of(model, tokens[0])))


class AttentionPatterns(pd.DataFrame):
    """The table of ``attention_patterns``. What is made of it is a plain table again."""

    def page(self) -> str:
        """An HTML page with every head, to click through."""
        page = Page(title="Attention", question="", parts=[AttentionView.of(self)])
        return rendered(page)

    def save_html(self, path: str | Path) -> Path:
        """Write the page to a file; it opens without a network."""
        return write_atomically(Path(path), self.page().encode())

    def _repr_html_(self) -> str:
        return frame_html(self.page(), height=640)


def attention_patterns(
    model: Model, tokens: Int[Tensor, "pos"], characters: Sequence[str]
) -> pd.DataFrame:
    """Every head's whole pattern on one text.

    Args:
        model: the model.
        tokens: the text.
        characters: what to call each token.

    Returns:
        A table with a row per head, query and key no later than it: the site's columns, ``query``
        and ``key`` (positions), ``query_character`` and ``key_character``, and ``value``, the share
        of the query's attention.

    Raises:
        UsageError: more or fewer characters than tokens.
    """
    if len(characters) != len(tokens):
        raise UsageError(
            f"there are {len(characters)} characters for {len(tokens)} tokens: give one for each"
        )
    patterns = cache(model, tokens[None], PATTERNS)
    queries, keys = np.tril_indices(len(tokens))
    names = np.array(list(characters), dtype=object)
    tables = []
    for site in sites(model, PATTERNS, each="head"):
        pattern = patterns[site.hook][0, site.head].double().cpu().numpy()
        table = pd.DataFrame({"query": queries, "key": keys})
        table["query_character"], table["key_character"] = names[queries], names[keys]
        tables.append(table.assign(value=pattern[queries, keys], **site.columns()))
    return pd.concat(tables, ignore_index=True)


def previous_tokens(tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch query key"]:
    """1 where the key is the token before the query."""
    batch, length = tokens.shape
    return torch.ones(length - 1, device=tokens.device).diag(-1).expand(batch, -1, -1)


def duplicate_tokens(tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch query key"]:
    """1 where the key is an earlier copy of the query's token."""
    return (tokens[:, :, None] == tokens[:, None, :]).float().tril(-1)


def after_duplicates(tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch query key"]:
    """1 where the key follows an earlier copy of the query's token."""
    earlier = duplicate_tokens(tokens)
    return torch.cat([torch.zeros_like(earlier[:, :, :1]), earlier[:, :, :-1]], dim=2)


def heads_table(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    measure: Callable[[Tensor], Tensor],
    labels: dict[str, list[Any]],
) -> pd.DataFrame:
    """One row per head and label, from a measure [label batch head] of each layer's pattern.

    Patterns are measured as they pass and not kept: a long text's would not fit in memory.
    """
    measured: dict[str, np.ndarray] = {}

    def measuring(name: str) -> Callable[..., None]:
        def keep(pattern: Tensor, hook: Any) -> None:
            measured[name] = measure(pattern).double().cpu().numpy()

        return keep

    check_padding(model, tokens)
    pairs = match(model, PATTERNS)
    with evaluating(model), attach_hooks([(point, measuring(site.hook)) for site, point in pairs]):
        model(tokens)
    ((column, values),) = labels.items()
    rows, samples = [], []
    for site in sites(model, PATTERNS, each="head"):
        for index, label in enumerate(values):
            rows.append({**site.columns(), column: label})
            samples.append(measured[site.hook][index, :, site.head])
    table = pd.DataFrame(rows)
    return with_interval(table, np.stack(samples))


def with_interval(table: pd.DataFrame, samples: Float[np.ndarray, "row batch"]) -> pd.DataFrame:
    """The table with the mean of each row's samples that are numbers, and its interval."""
    counted = ~np.isnan(samples)
    table["value"] = np.nanmean(samples, axis=1)
    table["ci_low"] = table["ci_high"] = np.nan
    for examples in np.unique(counted, axis=0):  # rows of one score count the same examples
        rows = (counted == examples).all(axis=1)
        if examples.sum() >= FEWEST:
            interval = bootstrap_interval(samples[rows][:, examples])
            table.loc[rows, "ci_low"], table.loc[rows, "ci_high"] = interval.low, interval.high
    table["n"] = counted.sum(axis=1)
    return table
