"""Which tokens is a text for a model, and what are they called?

    tokens = tokens_of(model, "for i in range")      # [1, pos], as the model itself makes them
    strings_of(model, tokens[0])                     # what to write beside each position

A model that has ``to_tokens`` (ours and a view of lines with a tokenizer, TransformerLens'
bridge) takes text wherever this package takes tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import UsageError


def tokens_of(model: Any, texts: str | Sequence[str] | Tensor) -> Int[Tensor, "batch pos"]:
    """Token ids of one text or several, as the model's own ``to_tokens`` gives them.

    Args:
        model: any; one that takes text has ``to_tokens``.
        texts: a text, several texts of as many tokens each, or tokens [pos] or [batch pos].

    Raises:
        UsageError: texts for a model that has no ``to_tokens``; no text, or texts of different
            numbers of tokens; tokens of other axes.
    """
    if isinstance(texts, Tensor):
        if texts.ndim not in (1, 2) or not texts.numel():
            raise UsageError(f"tokens are {list(texts.shape)}; they must be [batch pos] or [pos]")
        return texts if texts.ndim == 2 else texts[None]
    listed = [texts] if isinstance(texts, str) else list(texts)
    if not listed or not all(listed):
        raise UsageError("there is no text, or one of them is empty: give at least one character")
    to_tokens = method_of(model, "to_tokens")
    rows = [to_tokens(text) for text in listed]
    rows = [row if row.ndim == 2 else row[None] for row in rows]
    if len(lengths := {row.shape[1] for row in rows}) > 1:
        shown = ", ".join(
            f"{text!r}: {row.shape[1]}" for text, row in zip(listed[:4], rows, strict=False)
        )
        raise UsageError(
            f"texts of one batch must have as many tokens each, not {sorted(lengths)} ({shown})"
        )
    return torch.cat(rows)


def token_of(model: Any, text: str | int) -> int:
    """The id of a text that is one token.

    Raises:
        UsageError: the model has no ``to_single_token``, or the text is not one token.
    """
    if not isinstance(text, str):
        return int(text)
    try:
        return int(method_of(model, "to_single_token")(text))
    except (AssertionError, ValueError) as error:
        raise UsageError(f"{text!r} is not one token of this model: {error}") from None


def strings_of(model: Any, tokens: Int[Tensor, "pos"]) -> list[str]:
    """What each token of a text is called; its number where the model has no tokenizer."""
    named: Any = getattr(model, "to_str_tokens", None)
    if named is not None and getattr(model, "tokenizer", None) is not None:
        return [str(name) for name in named(tokens)]
    return [str(token) for token in tokens.tolist()]


def method_of(model: Any, name: str) -> Any:
    found = getattr(model, name, None)
    if found is None:
        raise UsageError(
            f"{type(model).__name__} has no {name}, so that it takes no text: give token ids"
        )
    return found
