"""Which text does a model learn, and what does it see at each step?

Text to tokens to batches, everything a function of its arguments: two variants of a model trained
with the same seed see the same data in the same order, and so does a run that was interrupted.

    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    data = split(corpus, tokenizer, block_size=64)
    x, y = batch(data.train, batch_size=12, block_size=64, seed=0, step=0)
"""

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gpt.corpora import BYTE_ORDER_MARK, decode, python_docs, shakespeare
from gpt.errors import UsageError, nearest

UNICODE = "utf-32-le", "surrogatepass"
"""How numpy reads texts: four bytes a character, halves of pairs as they are."""


@dataclass(frozen=True)
class Corpus:
    """Which text was used.

    Attributes:
        name: of the corpus, or of the file.
        text: its characters.
        sha256: of ``text`` as UTF-8; of a folder, with a zero between its two parts.
        notes: what a reader should know of how it was read or how long it is, a sentence each.
        parted_at: where a text that came in two parts has its border, in characters.
    """

    name: str
    text: str
    sha256: str
    notes: tuple[str, ...] = ()
    parted_at: int | None = None

    @property
    def border(self) -> int:
        """How many characters are trained on: 90 %, as in nanoGPT, or all of the first part."""
        return int(0.9 * len(self.text)) if self.parted_at is None else self.parted_at


def load_corpus(source: str) -> Corpus:
    """Read a text.

    Every end of a line is read as ``\\n``, whether the file has that or ``\\r\\n`` or ``\\r``, and
    byte order marks are left out: neither belongs to what was written, and each would be a symbol
    for the model to learn. ``notes`` says where this was done.

    Args:
        source: ``python-docs``, the language reference inside the running Python, which differs
            from one version of Python to the next; ``shakespeare``, the tiny shakespeare of
            nanoGPT, from the folder that the environment variable ``GPT_TEXT_DIR`` names, else
            downloaded once; any other string is the path of a UTF-8 text file, or of a folder
            with ``train.txt`` and ``val.txt``, which are trained and validated on as they are.

    Raises:
        UsageError: no such corpus or file; a file that is unreadable, empty or not UTF-8; a tiny
            shakespeare that is another text, or is not here and cannot be downloaded.
    """
    readers = {"python-docs": python_docs, "shakespeare": shakespeare}
    try:
        if source not in readers and Path(source).is_dir():
            return load_folder(Path(source))
        data = readers[source]() if source in readers else Path(source).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path that no system takes
        if isinstance(error, UsageError):
            raise
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise UsageError(
            f"the text {source!r} cannot be read ({reason}): give "
            f"one of the corpora, nearest first {nearest(source, readers)}, or the path of a "
            f"UTF-8 text file, or of a folder with train.txt and val.txt"
        ) from error
    name = source if source in readers else Path(source).name
    text, notes = text_of_bytes(data, name, source)
    border = int(0.9 * len(text))
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Corpus(name, text, sha256, (*notes, *notes_on_length(name, text, border)))


def load_folder(folder: Path) -> Corpus:
    """A text that is parted already, as ``python -m experiments.curate`` writes it."""
    missing = [name for name in PARTS if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"the folder {str(folder)!r} is no text: it has no {' and no '.join(missing)}; give a "
            "folder with train.txt and val.txt, such as python -m experiments.curate writes from "
            "any documents, or one file"
        )
    whole = folder.resolve()
    name = whole.parent.name if whole.name == "text" else whole.name  # in the folder of a run
    read = [text_of_bytes((folder / part).read_bytes(), part, str(folder / part)) for part in PARTS]
    (train, told), (val, also_told) = read
    sha256 = hashlib.sha256(f"{train}\0{val}".encode()).hexdigest()
    notes = (*told, *also_told, *notes_on_length(name, train + val, len(train)))
    return Corpus(name, train + val, sha256, notes, len(train))


PARTS = ("train.txt", "val.txt")


def text_of_bytes(data: bytes, name: str, source: str) -> tuple[str, tuple[str, ...]]:
    """The characters of a file, and what was done to them.

    Args:
        name: what the notes call it.
        source: what a refusal calls it.
    """
    written = decode(data, source)
    text = written.replace(BYTE_ORDER_MARK, "").replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise UsageError(f"the text {source!r} is empty")
    return text, notes_on(name, written)


SHORT = 100_000  # characters


def notes_on(name: str, written: str) -> tuple[str, ...]:
    """What a reader should know of how a text was read from ``written``."""
    notes = []
    if marks := written.count(BYTE_ORDER_MARK):
        notes.append(f"{name}: {marks} byte order mark{'s' * (marks > 1)} left out")
    if returns := written.count("\r"):
        notes.append(
            f"{name}: ends of lines written with \\r ({returns} of them) are read as \\n, so that "
            f"the text's sha256 is not the file's"
        )
    return tuple(notes)


def notes_on_length(name: str, text: str, border: int) -> tuple[str, ...]:
    """What a reader should know of a text that is short."""
    if len(text) >= SHORT:
        return ()
    return (
        f"{name} has {len(text)} characters: so short a text is soon learned by heart by a model "
        f"that is trained on it (take the best evaluation, not the last), and the "
        f"{len(text) - border} to measure on make a noisy loss; take {SHORT} characters or more "
        "for findings",
    )


@dataclass(frozen=True)
class CharTokenizer:
    """One token per character; a character's token is its place in ``characters``.

    Examples:
        >>> tokenizer = CharTokenizer.from_text("hello")
        >>> tokenizer.characters
        'ehlo'
        >>> tokenizer.encode("hole")
        tensor([1, 3, 2, 0])
        >>> tokenizer.decode(tokenizer.encode("hole"))
        'hole'

    Raises:
        UsageError: ``characters`` that are not sorted and unique.
    """

    characters: str

    def __post_init__(self) -> None:
        if self.characters != "".join(sorted(set(self.characters))):
            raise UsageError(
                f"a vocabulary is sorted and holds each character once; {self.characters!r} is not"
            )

    @classmethod
    def from_text(cls, text: str) -> "CharTokenizer":
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    @cached_property
    def code_points(self) -> np.ndarray:
        """Each character's number in Unicode, ``[vocab]``, ascending."""
        return code_points_of(self.characters)

    def encode(self, text: str) -> Int[Tensor, "pos"]:
        """Raises ``UsageError`` at the first character that the vocabulary lacks."""
        asked = code_points_of(text)
        tokens = self.code_points.searchsorted(asked)
        known = tokens < self.vocab_size
        known[known] = self.code_points[tokens[known]] == asked[known]
        if not known.all():
            position = int(known.argmin())
            raise UsageError(
                f"the character {text[position]!r} at position {position} is not among "
                f"the {self.vocab_size} of this vocabulary"
            )
        return torch.from_numpy(tokens)

    def decode(self, tokens: Int[Tensor, "pos"]) -> str:
        """Raises ``UsageError`` at the first token that is none of the vocabulary."""
        ids = tokens.cpu().numpy()
        if len(wrong := ids[(ids < 0) | (ids >= self.vocab_size)]):
            raise UsageError(
                f"{wrong[0]} is no token: this vocabulary has 0 to {self.vocab_size - 1}"
            )
        return self.code_points[ids].tobytes().decode(*UNICODE)

    def names(self, tokens: Int[Tensor, "pos"]) -> list[str]:
        """What each token is called: its character."""
        return list(self.decode(tokens))

    @cached_property
    def byte_counts(self) -> Int[Tensor, "vocab"]:
        """How many bytes of UTF-8 each token stands for."""
        return torch.tensor([len(character.encode()) for character in self.characters])


def code_points_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(*UNICODE), dtype="<u4")


@dataclass(frozen=True)
class Data:
    """A corpus in tokens: those to train on, those to validate on, and the sha256 of its text."""

    train: Int[Tensor, "train"]
    val: Int[Tensor, "val"]
    sha256: str


def split(corpus: Corpus, tokenizer: CharTokenizer, block_size: int) -> Data:
    """Train on the first 90 % of the characters, as nanoGPT does, and validate on the rest; where
    the text came in two parts, on these.

    Raises:
        UsageError: a text so short that a part cannot fill a block and the token after it; one
            that is a single character over and over.
    """
    tokens = tokenizer.encode(corpus.text)
    train, val = tokens[: corpus.border], tokens[corpus.border :]
    if corpus.parted_at is not None and min(len(train), len(val)) < block_size + 1:
        raise UsageError(
            f"the text {corpus.name!r} is too short: it has {len(train)} characters to train on "
            f"and {len(val)} to validate on, and a block of {block_size} needs {block_size + 1} of "
            "each"
        )
    if min(len(train), len(val)) < block_size + 1:
        raise UsageError(
            f"the text {corpus.name!r} is too short: it has {len(tokens)} characters, and a block "
            f"of {block_size} needs {10 * block_size + 1}"
        )
    if len(tokens.unique()) < 2:
        raise UsageError(
            f"the text {corpus.name!r} is one character over and over: nothing can be learned of it"
        )
    return Data(train, val, corpus.sha256)


def check_tokens(data: Data, vocab_size: int) -> None:
    """Raises ``UsageError`` where a text has tokens that a model has no embedding for."""
    for name, tokens in (("train", data.train), ("val", data.val)):
        low, high = (int(token) for token in tokens.aminmax())
        if low < 0 or high >= vocab_size:
            raise UsageError(
                f"the {name} text has the token {low if low < 0 else high}, and this model knows 0 "
                f"to {vocab_size - 1}: build it with a vocab_size of at least {high + 1}"
            )


def hash_tokens(data: Data) -> str:
    """sha256 of the token ids of both splits: a text's own hash says nothing of its tokenizer."""
    digest = hashlib.sha256()
    for tokens in (data.train, data.val):
        digest.update(f"{len(tokens)} {tokens.dtype}".encode())
        digest.update(tokens.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def batch(
    tokens: Int[Tensor, "length"], *, batch_size: int, block_size: int, seed: int, step: int
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """The blocks to train on at ``step``, and for each position the token that follows it.

    Each block starts anywhere with equal probability. The starts depend on ``seed`` and ``step``
    alone, on whatever device ``tokens`` is.

    Raises:
        UsageError: fewer than ``block_size + 1`` tokens.
    """
    blocks = windows(tokens, block_size + 1)
    generator = torch.Generator().manual_seed(zlib.crc32(f"batch {seed} {step}".encode()))
    starts = torch.randint(len(blocks), (batch_size,), generator=generator)
    chosen = blocks[starts.to(tokens.device)]
    return chosen[:, :-1].contiguous(), chosen[:, 1:].contiguous()


def evaluation_blocks(
    tokens: Int[Tensor, "length"], block_size: int, at_most: int | None = None
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """The blocks to evaluate on, and for each position the token that follows it.

    The blocks lie end to end from the first token on; less than one block is left over. With
    ``at_most``, that many of them, evenly spaced. They are the same at every step and for every
    model, so that a difference in loss never comes from the draw.

    Raises:
        UsageError: fewer than ``block_size + 1`` tokens.
    """
    blocks = windows(tokens, block_size + 1)[::block_size]
    if at_most is not None and at_most < len(blocks):
        blocks = blocks[torch.arange(at_most, device=tokens.device) * len(blocks) // at_most]
    return blocks[:, :-1].contiguous(), blocks[:, 1:].contiguous()


def ngram_entropy(
    train: Int[Tensor, "train"], val: Int[Tensor, "val"], n: int, smoothing: float = 0.1
) -> float:
    """The loss on ``val``, in nats per token, of a model that only counted n-grams in ``train``.

    Its probability of token t after the n - 1 tokens c is

        (count(c t) + smoothing) / (count(c) + smoothing * vocabulary)

    with counts of and within the n-grams of ``train``, and as vocabulary the number of distinct
    tokens in both texts (additive smoothing, Lidstone 1920). The cross-entropy is the mean of
    -log p over all n-grams of ``val``. A trained model whose val loss is no lower than
    ``ngram_entropy(train, val, 1)`` learned no more than how frequent each token is. With ``val``
    the same as ``train`` it is the training loss of that model: for little smoothing, the
    conditional entropy of the text itself.

    Raises:
        UsageError: ``n`` below 1, ``smoothing`` not above 0, a text shorter than ``n``.
    """
    if n < 1 or smoothing <= 0:
        raise UsageError(f"n is {n} and smoothing {smoothing}; they must be at least 1 and above 0")
    seen = len(train) - n + 1  # the n-grams of train come first, then those of val
    both = torch.cat([windows(train, n), windows(val, n)])
    vocabulary, grams = len(torch.cat([train, val]).unique()), torch.zeros_like(both[:, 0])
    for tokens in both.T:
        contexts = grams
        pairs = contexts * (both.max() + 1) + tokens
        grams = pairs.unique(return_inverse=True)[1]  # numbered afresh, so that no n overflows
    numerator = occurrences(grams, seen) + smoothing
    denominator = occurrences(contexts, seen) + smoothing * vocabulary
    return -(numerator / denominator).log().mean().item()


def occurrences(grams: Int[Tensor, "gram"], seen: int) -> Float[Tensor, "val_gram"]:
    """How often each n-gram after the first ``seen`` is among these."""
    counts = grams[:seen].bincount(minlength=int(grams.max()) + 1)
    return counts[grams[seen:]].double()


def windows(tokens: Int[Tensor, "length"], size: int) -> Int[Tensor, "window size"]:
    """Every run of ``size`` tokens, as a view."""
    if len(tokens) < size:
        raise UsageError(f"the text is too short: {len(tokens)} tokens, where {size} are needed")
    return tokens.unfold(0, size, 1)
