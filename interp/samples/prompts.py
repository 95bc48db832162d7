"""Which tokens is a prompt, and what text are the tokens that were written?"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from interp.errors import UsageError
from interp.tokens import tokens_of

Prompts = str | Tensor | Sequence[str] | Sequence[Tensor]


@runtime_checkable
class Coder(Protocol):
    """Text to token ids and back, as transformers' tokenizers and ours do."""

    def encode(self, text: str) -> Any: ...

    def decode(self, tokens: Any) -> str: ...


def encoded(model: Any, prompts: Prompts, tokenizer: Coder | None) -> list[list[int]]:
    """The token ids of each prompt.

    Raises:
        UsageError: no prompt, an empty one, or text that nothing makes tokens of.
    """
    if isinstance(prompts, Tensor) and prompts.ndim != 2:
        prompts = prompts.reshape(1, -1)
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if not listed:
        raise UsageError("there is no prompt: give a text, several, or token ids")
    encode: Callable[[str], Any] = (
        tokenizer.encode if tokenizer is not None else lambda text: tokens_of(model, text)
    )
    if not all(len(prompt) for prompt in listed):
        raise UsageError("a prompt is empty: give at least one character")
    return [token_ids(encode(each) if isinstance(each, str) else each) for each in listed]


def token_ids(tokens: Any) -> list[int]:
    ids = torch.as_tensor(getattr(tokens, "ids", tokens))  # the tokenizers package has .ids
    if ids.is_floating_point() or ids.dtype == torch.bool or not ids.numel():
        raise UsageError(
            f"a prompt is {list(ids.shape)} of {ids.dtype}; it must be token ids, at least one"
        )
    return [int(token) for token in ids.reshape(-1)]


def text_maker(model: Any, tokenizer: Coder | None) -> Callable[[list[int]], str]:
    """What makes text of token ids: the tokenizer, the model's own, or else their numbers.

    Raises:
        UsageError, when called: the tokenizer does not know a token.
    """
    own: Any = getattr(model, "to_string", None)
    if tokenizer is None and (own is None or getattr(model, "tokenizer", None) is None):
        return numbers_of

    def text_of(ids: list[int]) -> str:
        try:
            if tokenizer is None:
                return str(own(torch.tensor(ids)))
            try:
                return tokenizer.decode(torch.tensor(ids))
            except (TypeError, AttributeError):  # one that takes lists
                return tokenizer.decode(ids)
        except (IndexError, KeyError) as error:
            raise UsageError(
                f"the model wrote a token that its tokenizer does not know ({error}): they are not "
                "of one another"
            ) from error

    return text_of


def split_text(
    text_of: Callable[[list[int]], str], prompt: list[int], written: list[int]
) -> tuple[str, str]:
    """A prompt and what follows it, as text. Both are made of all tokens together, for some
    tokenizers leave out what a text begins with, such as a space."""
    before, whole = text_of(prompt), text_of([*prompt, *written])
    if text_of is numbers_of or not whole.startswith(before):
        return before, text_of(written)
    return before, whole[len(before) :]


def numbers_of(ids: list[int]) -> str:
    """Token ids as text, of a model without a tokenizer."""
    return " ".join(map(str, ids))
