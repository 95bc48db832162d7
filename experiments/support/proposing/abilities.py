"""How well does a model predict each document it was not trained on, and what does it write?

losses = document_losses(subject, documents)
by_group(losses, "kind")            # mean and interval over documents
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

from experiments.support.proposing.data import UNKNOWN, Rows
from experiments.support.trained import TrainedSubject
from gpt.errors import UsageError
from interp.curation import Document
from interp.metrics import bits_per_byte
from interp.samples import KnownText, measure_texts, write
from interp.stats import t_interval
from interp.surgery.judging import logits_in
from interp.verdicts import FEWEST

WINDOWS = 16  # of each document that are read, evenly spaced
PROMPT, WRITTEN = 40, 160  # characters, tokens
PROMPTS = 8


def text_losses(subject: TrainedSubject, text: str) -> tuple[list[float], list[int]]:
    """The loss of tokens of a text, in nats, and the bytes that each stands for.

    Of a long text some stretches are read, evenly spaced, each as long as the model reads at once;
    the first token of each is not predicted.
    """
    tokens = subject.tokenizer.encode(text).to(subject.data.val.device)
    size = subject.context
    starts = list(range(0, max(1, len(tokens) - 1), size))
    if len(starts) > WINDOWS:
        starts = [starts[at * len(starts) // WINDOWS] for at in range(WINDOWS)]
    pieces = [tokens[start : start + size + 1] for start in starts]
    losses: list[float] = []
    sizes: list[int] = []
    whole = [piece for piece in pieces if len(piece) == size + 1]
    batches = [torch.stack(whole)] if whole else []
    batches += [piece[None] for piece in pieces if 1 < len(piece) < size + 1]
    before = subject.with_special(tokens[None, :0]).shape[1]
    for batch in batches:
        with torch.no_grad():
            logits = logits_in(subject.model(subject.with_special(batch[:, :-1])))[:, before:]
        found = F.cross_entropy(logits.double().transpose(1, 2), batch[:, 1:], reduction="none")
        losses += found.flatten().tolist()
        sizes += subject.tokenizer.byte_counts[batch[:, 1:].cpu()].flatten().tolist()
    return losses, sizes


def document_losses(subject: TrainedSubject, documents: Iterable[Document]) -> pd.DataFrame:
    """One row for each document: ``document source kind language tokens nats bytes bits_per_byte``.

    A document with a character that the model does not know is left out.

    Raises:
        UsageError: all of them are.
    """
    rows, unread = [], None
    for document in documents:
        try:
            losses, sizes = text_losses(subject, document.text)
        except UsageError as error:  # a character that its vocabulary lacks
            unread = error
            continue
        if sum(sizes):
            rows.append(
                {
                    "document": document.id,
                    "source": document.source,
                    "kind": document.kind or UNKNOWN,
                    "language": document.language or UNKNOWN,
                    "tokens": len(losses),
                    "nats": sum(losses) / len(losses),
                    "bits_per_byte": bits_per_byte(losses, sizes),
                }
            )
    if not rows:
        raise UsageError(
            f"the model can read none of the validation documents ({unread}): propose one that was "
            "trained on this text"
        )
    return pd.DataFrame(rows)


def loss_rows(losses: pd.DataFrame) -> Rows:
    """The mean over documents with a 95 % interval: of all, of each kind, and of each language."""
    rows: Rows = {"loss.all": mean_over_documents(losses)}
    for column in ("kind", "language"):
        for name, own in losses.groupby(column):
            rows[f"loss.{column}.{name}"] = mean_over_documents(own)
    return rows


def mean_over_documents(losses: pd.DataFrame) -> dict[str, Any]:
    """``documents nats bits_per_byte low high``: an interval of bits per byte over documents, from
    three on; below that it is not known."""
    row: dict[str, Any] = {
        "documents": len(losses),
        "nats": float(losses["nats"].mean()),
        "bits_per_byte": float(losses["bits_per_byte"].mean()),
        "interval": f"none from fewer than {FEWEST} documents",
    }
    if len(losses) >= FEWEST:
        _, low, high = t_interval(losses["bits_per_byte"])
        row["interval"] = f"{low:.3f} to {high:.3f}"
    return row


def sample_rows(
    subject: TrainedSubject, documents: Sequence[Document], train: str, seed: int
) -> Rows:
    """What the model writes after the beginnings of documents, and the worst of it: ``sample.1`` …,
    in the order of their documents, ``failure.1`` … those with the fewest words that its text has.
    """
    chosen = [one for one in documents if len(one.text) > 2 * PROMPT][:PROMPTS]
    prompts = [" ".join(document.text[: 3 * PROMPT].split())[:PROMPT] for document in chosen]
    coded = [subject.tokenizer.encode(prompt) for prompt in prompts]
    longest = max(1, subject.context - 1)
    tokens = [one[-longest:].to(subject.data.val.device) for one in coded if len(one)]
    if not tokens:
        return {}
    writing = write(
        subject.inner,
        tokens,
        WRITTEN,
        seeds=(seed,),
        tokenizer=subject.tokenizer,
        context=subject.context,
    )
    table = measure_texts(writing.table(), KnownText(train))
    rows: Rows = {}
    worst = table.sort_values(["known_words", "repeated"], ascending=[True, False], kind="stable")
    for name, chosen_rows in (("sample", table.head(3)), ("failure", worst.head(3))):
        for number, row in enumerate(chosen_rows.to_dict("records"), 1):
            rows[f"{name}.{number}"] = {
                "prompt": one_line_of(row["prompt"]),
                "text": one_line_of(row["text"]),
                "known_words": float(row["known_words"]),
                "repeated": float(row["repeated"]),
                "longest_copy": int(row["longest_copy"]),
            }
    rows["samples"] = {
        "prompts": len(table),
        "known_words": float(table["known_words"].mean()),
        "longest_copy": int(table["longest_copy"].max()),
    }
    return rows


def one_line_of(text: str) -> str:
    return " ".join(text.split())
