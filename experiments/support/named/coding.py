"""What are a model's tokens, to somebody who reads them?

coder = TransformersTokenizer(AutoTokenizer.from_pretrained(folder))
coder.encode("Paris, née")          # token ids, without special tokens
coder.names(tokens)                 # ["Paris", ",", " n", "é", "e"]; parts of a character as \\xc3
coder.byte_counts[tokens]           # how many bytes of text each token stands for
"""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gpt.errors import UsageError
from gpt.text import CharTokenizer


class TransformersTokenizer:
    """A tokenizer of transformers, asked as ours is.

    Args:
        inner: as ``AutoTokenizer`` gives it.

    Attributes:
        vocab_size: how many tokens there are; of a model with fewer embeddings, as many as those.
        embedded: how many the model has embeddings for, and may write: often some more, which no
            text has.
        before: the special tokens that it puts before a text, such as ``<s>``; a model that was
            trained with them is given them before each text.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.vocab_size = self.embedded = len(inner)
        self.special = {int(token) for token in inner.all_special_ids}
        alone = ids_in(inner, "a", special=False)
        whole = ids_in(inner, "a", special=True)
        self.before = torch.tensor(whole[: place_in(alone, whole)], dtype=torch.long)

    def encode(self, text: str) -> Int[Tensor, "pos"]:
        """The tokens of a text, none before or after it."""
        return torch.tensor(ids_in(self.inner, text, special=False), dtype=torch.long)

    def decode(self, tokens: Int[Tensor, "pos"] | Sequence[int]) -> str:
        """The text of tokens; one that the model has an embedding for and no text has, by its name.

        Raises:
            UsageError: a token that the model has not.
        """
        ids = [int(token) for token in tokens]
        known = max(self.vocab_size, self.embedded)
        if wrong := [token for token in ids if not 0 <= token < known]:
            raise UsageError(f"{wrong[0]} is no token: this vocabulary has 0 to {known - 1}")
        written = ""
        for has_text, part in groupby(ids, lambda token: token < self.vocab_size):
            tokens = list(part)
            written += self.text_of(tokens) if has_text else "".join(self.names(tokens))
        return written

    def text_of(self, tokens: list[int]) -> str:
        return str(self.inner.decode(tokens, clean_up_tokenization_spaces=False))

    def names(self, tokens: Int[Tensor, "pos"] | Sequence[int]) -> list[str]:
        """Each token as text, with its leading space; bytes that are no whole character as
        escapes (``\\xc3``), special tokens by their name."""
        return [self.name_of(int(token)) for token in tokens]

    def name_of(self, token: int) -> str:
        if token in self.special or not 0 <= token < self.vocab_size:
            return str(self.inner.convert_ids_to_tokens(token) or f"<{token}>")
        written = self.bytes_of(token)
        try:
            return written.decode()
        except UnicodeDecodeError:
            return "".join(f"\\x{byte:02x}" for byte in written)

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for in a text, as UTF-8."""
        raw = str(self.inner.convert_ids_to_tokens(token) or "")
        if self.is_by_bytes and all(letter in BYTES for letter in raw):
            return bytes(BYTES[letter] for letter in raw)
        if one := re.fullmatch(r"<0x([0-9A-F]{2})>", raw):
            return bytes([int(one[1], 16)])
        return raw.replace("▁", " ").encode(errors="replace")

    @cached_property
    def is_by_bytes(self) -> bool:
        """Whether its tokens are spelt in letters that stand for bytes, as GPT-2's are."""
        backend = getattr(self.inner, "backend_tokenizer", None)
        if backend is not None:
            return "ByteLevel" in str(backend.decoder)
        return hasattr(self.inner, "byte_decoder")

    @cached_property
    def byte_counts(self) -> Int[Tensor, "vocab"]:
        """How many bytes of text each token stands for; none where it is a special one."""
        counts = [
            0 if token in self.special else len(self.bytes_of(token))
            for token in range(self.vocab_size)
        ]
        return torch.tensor(counts)


def ids_in(inner: Any, text: str, special: bool) -> list[int]:
    # quietly: a text may be longer than the model reads at once, for it is cut afterwards
    found = inner(text, add_special_tokens=special, verbose=False)
    return [int(token) for token in found["input_ids"]]


def place_in(part: Sequence[int], whole: Sequence[int]) -> int:
    """Where a part begins in a list; 0 where it is not in it."""
    places = range(len(whole) - len(part) + 1)
    return next((at for at in places if list(whole[at : at + len(part)]) == list(part)), 0)


def letters_of_bytes() -> dict[str, int]:
    """The letters in which byte-level tokenizers spell bytes: those that can be seen stand for
    themselves, all others for the letters from U+0100 on, in order."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in seen}
    unseen = (byte for byte in range(256) if byte not in seen)
    return letters | {chr(256 + place): byte for place, byte in enumerate(unseen)}


BYTES = letters_of_bytes()
TextTokens = CharTokenizer | TransformersTokenizer
"""What makes tokens of texts here."""


def special_before(coder: TextTokens) -> Int[Tensor, "pos"]:
    """The special tokens with which a text of a model begins; none for a model of characters."""
    return coder.before if isinstance(coder, TransformersTokenizer) else torch.empty(0).long()


def text_within(coder: TextTokens, tokens: Int[Tensor, "pos"]) -> str:
    """The text of tokens that stand within a longer one: alone, the first of them may lose its
    space, as those of sentencepiece do."""
    if isinstance(coder, CharTokenizer):
        return coder.decode(tokens)
    before = coder.encode("a").tolist()
    return coder.decode([*before, *tokens.tolist()]).removeprefix(coder.decode(before))


def split_shown(coder: TextTokens, text: str) -> str:
    """How a text splits into tokens, to be read: ``'The' ' capital'``."""
    return " ".join(map(repr, coder.names(coder.encode(text))))


def token_after(coder: TextTokens, text: str, answer: str) -> int | None:
    """The one token that an answer is after a text, or alone; None where it is several."""
    before, whole = coder.encode(text).tolist(), coder.encode(text + answer).tolist()
    if whole[:-1] == before:
        return int(whole[-1])
    alone = coder.encode(answer).tolist()
    return int(alone[0]) if len(alone) == 1 else None
