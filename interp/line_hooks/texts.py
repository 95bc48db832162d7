"""How does a view of somebody's model take text?

view.tokenizer = tokenizer                 # Hugging Face's, or any with encode and decode
view.to_tokens("The capital of France is")
view.to_str_tokens("The capital")          # ['The', ' capital']
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import UsageError


class TakesTexts:
    """Texts where a model takes tokens, with the tokenizer that the view was given."""

    tokenizer: Any

    def to_tokens(
        self, text: str | Sequence[str] | Tensor, special: bool = False
    ) -> Int[Tensor, "batch pos"]:
        """Token ids of a text, or of several of as many tokens each.

        Args:
            text: one or several; tokens are handed back.
            special: with the tokens that the tokenizer puts around a text, such as ``<s>``.

        Raises:
            UsageError: there is no tokenizer; texts of different numbers of tokens.
        """
        if isinstance(text, Tensor):
            return text if text.ndim == 2 else text[None]
        texts = [text] if isinstance(text, str) else list(text)
        rows = [encode_text(self._tokenizer, each, special) for each in texts]
        if len(lengths := {len(row) for row in rows}) != 1:
            raise UsageError(
                f"texts of one batch must have as many tokens each, not {sorted(lengths)}"
            )
        return torch.stack(rows)

    def to_str_tokens(self, text: str | Tensor) -> list[str]:
        """Each token of a text as text, as the tokenizer writes it: with its leading space, and
        with � for bytes that are no whole character."""
        tokens = self.to_tokens(text) if isinstance(text, str) else torch.as_tensor(text)
        tokenizer = self._tokenizer
        return [token_as_text(tokenizer, token) for token in tokens.reshape(-1).tolist()]

    def to_string(self, tokens: Tensor | Sequence[int] | int) -> str:
        """The text of some tokens."""
        return decode_tokens(self._tokenizer, torch.as_tensor(tokens).reshape(-1).tolist())

    def to_single_token(self, text: str) -> int:
        """The id of a text that is one token. Raises ``UsageError`` where it is not."""
        tokens = encode_text(self._tokenizer, text, special=False)
        if len(tokens) != 1:
            parts = [token_as_text(self._tokenizer, token) for token in tokens.tolist()]
            raise UsageError(f"{text!r} is {len(tokens)} tokens, {parts}, not one")
        return int(tokens[0])

    @property
    def _tokenizer(self) -> Any:
        tokenizer = getattr(self, "tokenizer", None)
        if tokenizer is None:
            raise UsageError("this model has no tokenizer: set view.tokenizer, or pass token ids")
        return tokenizer


def encode_text(tokenizer: Any, text: str, special: bool) -> Int[Tensor, "pos"]:
    """Token ids of a text."""
    if callable(tokenizer):  # Hugging Face's
        return torch.tensor(tokenizer(text, add_special_tokens=special)["input_ids"]).long()
    return torch.as_tensor(tokenizer.encode(text)).long().reshape(-1)


def decode_tokens(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of token ids."""
    if callable(tokenizer):
        return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
    try:
        return str(tokenizer.decode(list(tokens)))
    except (AttributeError, TypeError):  # some take tensors alone
        return str(tokenizer.decode(torch.tensor(tokens)))


def token_as_text(tokenizer: Any, token: int) -> str:
    """A token as text, with the leading space that some tokenizers leave out at a text's start."""
    alone, twice = (decode_tokens(tokenizer, [token] * count) for count in (1, 2))
    return twice[len(alone) :] if twice.startswith(alone) else alone
