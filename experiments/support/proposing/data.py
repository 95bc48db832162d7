"""What is known of the data that a model is proposed on, as numbers that prose can quote?

    numbers = data_numbers(Curated(folder))
    numbers["whole"]["documents"], numbers["private.e-mail address"]["masked"]

All are of the data card (``interp.curation.card``), and so of what the pipeline's steps recorded.
"""

from typing import Any

from interp.curation import Curated
from interp.curation.card import make_card

Rows = dict[str, dict[str, Any]]
UNKNOWN = "not known"


def data_numbers(curated: Curated) -> Rows:
    """By row and column: ``raw``, what came in, and ``whole``, what is kept; ``train`` and ``val``;
    ``step.NAME``, what each step dropped and changed; ``private`` and ``private.KIND``, how many
    strings were masked; ``kind.NAME``, ``language.NAME`` and ``licence.NAME``, how many documents;
    ``skipped``, files that could not be read."""
    card = make_card(curated, curated.folder.name)
    rows: Rows = {
        "raw": dict(card.size["in"]),
        "whole": dict(card.size["kept"]),
        "skipped": {"files": len(card.skipped)},
        "duplicates": dict(card.duplicates),
    }
    for part in card.split:
        rows[part["part"]] = {name: part[name] for name in ("documents", "characters")}
    for step in card.steps:
        columns = ("dropped", "changed", "removed", "added")
        rows[f"step.{step['step']}"] = {name: step[name] for name in columns}
    rows["private"] = {"masked": sum(one["count"] for one in card.masked)}
    for one in card.masked:
        if one["count"]:
            rows[f"private.{one['kind']}"] = {
                "masked": one["count"],
                "documents": one["documents"],
            }
    for name, counted in (
        ("kind", card.kinds),
        ("language", card.languages),
        ("licence", card.licences),
    ):
        for one in counted:
            rows[f"{name}.{one['name']}"] = {"documents": one["documents"]}
    return rows
