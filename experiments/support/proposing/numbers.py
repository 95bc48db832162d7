"""By which names does a proposal quote its numbers?

    {{ proposal.loss.all.said }}                 1.815 (1.702 to 1.931)
    {{ proposal.data.documents kept.value:,.0f }}

One row of the table ``results`` for each number, taken from the table that it stands in.
"""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from interp.curation.card import DataCard

COLUMNS = ["part", "row", "value", "low", "high", "n", "said"]
MISSING = "not known"


def quote_number(
    part: str,
    row: str,
    value: Any,
    form: str = ",.0f",
    *,
    ends: tuple[float, float] = (math.nan, math.nan),
    n: int = 0,
    missing: str = MISSING,
) -> dict[str, Any]:
    """A number with what a sentence says of it: the number and its interval."""
    value, (low, high) = float(value), map(float, ends)
    said = missing if math.isnan(value) else format(value, form)
    if math.isfinite(value) and math.isfinite(low):
        said += f" ({low:{form}} to {high:{form}})"
    cells = (part, row, value, low, high, n, said)
    return dict(zip(COLUMNS, cells, strict=True))


def number_table(card: DataCard, tables: dict[str, pd.DataFrame], unread: int) -> pd.DataFrame:
    """Every number of a proposal.

    Args:
        card: of the text.
        tables: ``losses counted heart failures probes guards written costs``.
        unread: validation documents that the model cannot read.
    """
    rows = [
        *data_numbers(card),
        *loss_numbers(tables["losses"], tables["counted"]),
        quote_number("loss", "unread documents", unread),
        *heart_numbers(tables["heart"]),
        *share_numbers("failure", tables["failures"], "failure"),
        *probe_numbers(tables["probes"]),
        *guard_numbers(tables["guards"]),
        *share_numbers("written", tables["written"], "guard"),
        *(
            quote_number(
                "cost", row["what"], row["value"], form_of(row["value"]), missing=row["how"]
            )
            for row in tables["costs"].to_dict("records")
        ),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def form_of(value: float) -> str:
    """Whole numbers are written out, large and broken ones to three digits."""
    return ",.0f" if value.is_integer() and abs(value) < 1e9 else ".3g"


def data_numbers(card: DataCard) -> Iterator[dict[str, Any]]:
    came, kept = card.size["in"], card.size["kept"]
    for what in ("documents", "characters"):
        yield quote_number("data", f"{what} read", came[what])
        yield quote_number("data", f"{what} kept", kept[what])
    share = kept["characters"] / max(1, came["characters"])
    yield quote_number("data", "share kept", share, ".1%")
    yield quote_number("data", "files skipped", len(card.skipped))
    yield quote_number("data", "strings masked", sum(row["count"] for row in card.masked))
    for what, count in card.duplicates.items():
        yield quote_number("data", f"{what} duplicates", count)
    for row in card.split:
        yield quote_number("data", f"{row['part']} characters", row["characters"])
        yield quote_number("data", f"{row['part']} documents", row["documents"])
    for what, counted in (
        ("kind", card.kinds),
        ("language", card.languages),
        ("licence", card.licences),
    ):
        for row in counted:
            yield quote_number("data", f"{what} {row['name']}", row["documents"])
    unnamed = [row["documents"] for row in card.licences if row["name"] == MISSING]
    yield quote_number("data", "documents without a licence", sum(unnamed))


def loss_numbers(losses: pd.DataFrame, lines: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in losses.to_dict("records"):
        name = "all" if row["group"] == "all" else f"{row['group']} {row['name']}"
        for part, column, low, high in (
            ("loss", "nats_per_token", "low", "high"),
            ("bits", "bits_per_byte", "bits_low", "bits_high"),
        ):
            ends = row[low], row[high]
            yield quote_number(part, name, row[column], ".3f", ends=ends, n=row["documents"])
    for row in lines.to_dict("records"):
        yield quote_number("loss", row["line"], row["nats_per_token"], ".3f")
        yield quote_number("bits", row["line"], row["bits_per_byte"], ".3f")


def heart_numbers(heart: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in heart.to_dict("records"):
        ends = row["ci_low"], row["ci_high"]
        yield quote_number("heart", row["part"], row["share"], ".1%", ends=ends, n=row["n"])


def share_numbers(part: str, table: pd.DataFrame, name: str) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        ends = row["ci_low"], row["ci_high"]
        n = row.get("n", row.get("texts", 0))
        yield quote_number(part, row[name], row["share"], ".1%", ends=ends, n=n)


def probe_numbers(probes: pd.DataFrame) -> Iterator[dict[str, Any]]:
    asked = probes[probes["refused"] == ""]
    yield quote_number("probe", "pairs", probes["pair"].nunique())
    yield quote_number("probe", "pairs refused", probes["pair"].nunique() - asked["pair"].nunique())
    different = asked["verdict"].str.contains("expected less")
    yield quote_number("probe", "pairs that differ", asked[different]["pair"].nunique())
    for row in asked.to_dict("records"):
        ends, name = (row["ci_low"], row["ci_high"]), f"{row['pair']}, {row['of']}"
        yield quote_number("probe", name, row["delta"], "+.3f", ends=ends, n=row["n"])


def guard_numbers(guards: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in guards.to_dict("records"):
        for what, short, total in (
            ("false_positives", "fp", "harmless"),
            ("false_negatives", "fn", "harmful"),
        ):
            name = f"{row['guard']}, {what.replace('_', ' ')}"
            ends = row[f"{short}_low"], row[f"{short}_high"]
            yield quote_number("guard", name, row[what], ".1%", ends=ends, n=row[total])
