"""How well does a model predict each document that it was not trained on?

    losses = document_losses(subject, curated.documents("val"))
    loss_table(losses)          # all of them, each kind, each language, with intervals
    reference_lines(subject, losses)

Groups are weighted by their tokens, so that the parts make up the whole. Intervals are over
documents: of a ratio of two sums, by its linearisation (Cochran 1977, section 6.3).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from experiments.support.named.coding import special_before
from experiments.support.trained import TrainedSubject
from gpt.errors import UsageError
from gpt.text import ngram_entropy
from interp.curation import Document
from interp.stats import bootstrap_interval
from interp.surgery.judging import logits_in
from interp.verdicts import FEWEST

ROWS = 64  # windows that are read side by side
NOT_KNOWN = "not known"
NGRAMS = {"unigram": 1, "bigram": 2, "trigram": 3}
COLUMNS = [
    *("document", "source", "kind", "language", "tokens", "bytes", "nats", "nats_per_token"),
    "bits_per_byte",
]


@dataclass(frozen=True)
class MeasuredDocuments:
    """What was measured.

    Args:
        table: one row for each document: ``document source kind language``; ``tokens`` that were
            predicted and the ``bytes`` that they stand for, ``nats`` of all of them together,
            ``nats_per_token`` and ``bits_per_byte``.
        tokens: those that were read, document after document.
        unread: documents with a single token, or of a vocabulary that the model lacks.
    """

    table: pd.DataFrame
    tokens: Int[Tensor, "length"]
    unread: int


def document_losses(
    subject: TrainedSubject, documents: Iterable[Document], at_most: int | None = None
) -> MeasuredDocuments:
    """The loss of each document, read in windows of the model's context that lie end to end; the
    first token of a document, before which nothing stands, is not predicted.

    Args:
        at_most: tokens of each document that are read, from its beginning; by default all.

    Raises:
        UsageError: there is none that the model can read.
    """
    rows: list[dict[str, object]] = []
    read: list[Tensor] = []
    unread = 0
    for document in documents:
        try:
            tokens = subject.tokenizer.encode(document.text)[: None if at_most is None else at_most]
        except UsageError:
            unread += 1
            continue
        if len(tokens) < 2:
            unread += 1
            continue
        nats = float(predict_tokens(subject, tokens).sum())
        size = int(subject.tokenizer.byte_counts[tokens[1:]].sum())
        rows.append(
            {
                "document": document.id,
                "source": document.source,
                "kind": document.kind or NOT_KNOWN,
                "language": document.language or NOT_KNOWN,
                "tokens": len(tokens) - 1,
                "bytes": size,
                "nats": nats,
                "nats_per_token": nats / (len(tokens) - 1),
                "bits_per_byte": nats / math.log(2) / size if size else math.nan,
            }
        )
        read.append(tokens)
    if not rows:
        raise UsageError(
            "the model can read none of the validation documents: each has a character that it "
            "does not know, or fewer than two tokens"
        )
    return MeasuredDocuments(pd.DataFrame(rows, columns=COLUMNS), torch.cat(read), unread)


@torch.no_grad()
def predict_tokens(
    subject: TrainedSubject, tokens: Int[Tensor, "length"]
) -> Float[Tensor, "predicted"]:
    """The loss of every token of a text but the first, in nats, on the CPU."""
    before = special_before(subject.tokenizer)
    size = subject.context - len(before)
    tokens = tokens.to(subject.data.val.device)
    inputs, targets = tokens[:-1].split(size), tokens[1:].split(size)
    whole = [at for at, piece in enumerate(inputs) if len(piece) == size]
    batches = [whole[at : at + ROWS] for at in range(0, len(whole), ROWS)]
    batches += [[at] for at in range(len(whole), len(inputs))]
    found = []
    for batch in batches:
        given = subject.with_special(torch.stack([inputs[at] for at in batch]))
        logits = logits_in(subject.inner(given))[:, len(before) :]
        true = torch.stack([targets[at] for at in batch])
        losses = F.cross_entropy(logits.double().transpose(1, 2), true, reduction="none")
        found.append(losses.flatten().cpu())
    return torch.cat(found)


def loss_table(losses: pd.DataFrame) -> pd.DataFrame:
    """All documents, then each kind and each language: ``group name documents tokens``,
    ``nats_per_token low high`` and ``bits_per_byte bits_low bits_high``; intervals are of 95 %, and
    missing where there are fewer than three documents."""
    groups = [("all", "all", losses)]
    for column in ("kind", "language"):
        groups += [(column, str(name), own) for name, own in losses.groupby(column, sort=True)]
    rows = []
    for group, name, own in groups:
        nats, low, high = ratio_interval(own["nats"], own["tokens"])
        bits = ratio_interval(own["nats"] / math.log(2), own["bytes"])
        rows.append(
            {
                "group": group,
                "name": name,
                "documents": len(own),
                "tokens": int(own["tokens"].sum()),
                "nats_per_token": nats,
                "low": low,
                "high": high,
                **dict(zip(("bits_per_byte", "bits_low", "bits_high"), bits, strict=True)),
            }
        )
    return pd.DataFrame(rows)


def ratio_interval(over: pd.Series, under: pd.Series) -> tuple[float, float, float]:
    """The ratio of two sums over documents, with its 95 % interval; NaN where it is not known."""
    upper, lower = over.to_numpy(dtype=float), under.to_numpy(dtype=float)
    if not lower.sum() > 0:
        return (math.nan,) * 3
    ratio = float(upper.sum() / lower.sum())
    if len(upper) < FEWEST:
        return ratio, math.nan, math.nan
    _, low, high = bootstrap_interval(ratio + (upper - ratio * lower) / np.mean(lower))
    return ratio, float(low), float(high)


def reference_lines(subject: TrainedSubject, measured: MeasuredDocuments) -> pd.DataFrame:
    """The losses on the same documents of models that only counted single tokens, pairs and
    triples in the training text: ``line n nats_per_token bits_per_byte``."""
    tokens, size = measured.table["tokens"].sum(), measured.table["bytes"].sum()
    rows = []
    for line, n in NGRAMS.items():
        nats = ngram_entropy(subject.data.train.cpu(), measured.tokens.cpu(), n)
        bits = nats * tokens / size / math.log(2) if size else math.nan
        rows.append({"line": line, "n": n, "nats_per_token": nats, "bits_per_byte": bits})
    return pd.DataFrame(rows)
