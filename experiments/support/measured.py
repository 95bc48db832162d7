"""On what was a model measured, and how well does it predict that, in units that compare models?

run.save_table(measured_on(subject, tokens, losses), "measured")
measured_reading(run.table("measured"))
"""

import math

import pandas as pd
from jaxtyping import Int
from torch import Tensor

from experiments.support.named.coding import TextTokens, text_within
from experiments.support.trained import TrainedSubject
from interp.metrics import bits_per_byte


def measured_on(
    subject: TrainedSubject, tokens: Int[Tensor, "batch pos"], losses: pd.Series
) -> pd.DataFrame:
    """One row: ``texts``, ``tokens`` of each, and the loss of the model as it is in nats
    ``per_token`` and ``per_character``, and in ``bits_per_byte``.

    Args:
        tokens: what it was measured on.
        losses: of every token that was predicted, in nats.
    """
    predicted = tokens[:, 1:].cpu()
    characters = sum(len(text_within(subject.tokenizer, row)) for row in predicted)
    sizes = subject.tokenizer.byte_counts[predicted]
    kept = keeps_text(subject.tokenizer, predicted)
    return pd.DataFrame(
        {
            "model": [subject.config["named"] or "the preset's model"],
            "texts": len(tokens),
            "tokens": tokens.shape[1],
            "per_token": float(losses.mean()),
            "per_character": float(losses.sum()) / max(1, characters),
            "bits_per_byte": bits_per_byte(losses.tolist(), sizes.flatten()) if kept else math.nan,
        }
    )


def keeps_text(tokenizer: TextTokens, tokens: Int[Tensor, "batch pos"]) -> bool:
    """Whether the tokens of texts hold all of them: some leave out spaces, or change letters."""
    for row in tokens:
        text = text_within(tokenizer, row)
        held = int(tokenizer.byte_counts[row].sum())
        if "\N{REPLACEMENT CHARACTER}" not in text and held != len(text.encode()):
            return False
    return True


def measured_reading(measured: pd.DataFrame) -> str:
    """What was measured on, and how well the model predicts it, in a sentence."""
    row = measured.iloc[0]
    bits = (
        f"which is {row['bits_per_byte']:.3f} bits per byte, the unit that compares models with "
        "different tokens"
        if math.isfinite(row["bits_per_byte"])
        else "but not known per byte, for its tokens do not keep all of a text"
    )
    return (
        f"Measured on {row['texts']} texts of {row['tokens']} tokens; on these the model as it is "
        f"loses {row['per_token']:.3f} nats per token, {row['per_character']:.3f} per character, "
        f"{bits}."
    )
