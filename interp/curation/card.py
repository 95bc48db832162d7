"""What went into a curated text, what was left out of it, and why?

    card = make_card(curated, "my notes")
    card_html(card), card_markdown(card), json.dumps(asdict(card))

Every number is computed from the tables that the pipeline kept, and from nothing else, so that the
card can be made anew from the folder of a text, and checked against it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from interp.curation.running import Curated
from interp.errors import UsageError
from interp.texts.finding import KINDS

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
OF_A_SOURCE = re.compile(
    r"^((?:nearly )?the same as|has a passage in common with) .*?(, which is validated on)?$",
    re.DOTALL,
)
NOT_KNOWN = "not known"
EXACT_STEP, NEAR_STEP = "exact_duplicates", "near_duplicates"


@dataclass(frozen=True)
class DataCard:
    """What there is to say about a curated text; all of it JSON.

    Attributes:
        name: of the pile.
        size: ``documents`` and ``characters`` that came ``in`` and are ``kept``, in two levels.
        steps: in order, each with ``step``, documents ``in`` and ``out``, ``changed`` and
            ``dropped``; characters ``before`` and ``after``, ``removed`` and ``added``; ``reasons``
            with their ``count``, numbers in them left out; and ``notes``, what was done, with its
            ``count`` and in how many ``documents``.
        kinds, languages, licences: of the documents that are kept, the most characters first.
        masked: by kind of what looks private, how often it was masked, in how many documents.
        duplicates: documents left out as exact and as near duplicates.
        split: of ``train`` and ``val`` the documents, clusters and characters, and the share.
        skipped: files that could not be read, ``source`` and ``reason``.
    """

    name: str
    size: dict[str, dict[str, int]]
    steps: list[dict[str, Any]]
    kinds: list[dict[str, Any]]
    languages: list[dict[str, Any]]
    licences: list[dict[str, Any]]
    masked: list[dict[str, Any]]
    duplicates: dict[str, int]
    split: list[dict[str, Any]]
    skipped: list[dict[str, str]]


def make_card(curated: Curated, name: str) -> DataCard:
    """The card of a curated text.

    Raises:
        UsageError: its tables contradict each other: a step has other documents than the one before
            it left, or the text other documents than the last step.
    """
    histories, notes, kept = curated.histories, curated.notes, curated.table
    steps = [
        step_of_card(own, notes[notes["step"] == step])
        for (_, step), own in histories.groupby(["order", "step"], sort=True)
    ]
    check_flow(steps, kept)
    first = steps[0] if steps else {"in": len(kept), "before": int(kept["characters"].sum())}
    return DataCard(
        name=name,
        size={
            "in": {"documents": first["in"], "characters": first["before"]},
            "kept": {"documents": len(kept), "characters": int(kept["characters"].sum())},
        },
        steps=steps,
        kinds=count_by(kept, "kind"),
        languages=count_by(kept, "language"),
        licences=count_by(kept, "licence"),
        masked=[{"kind": kind, **count_notes(notes[notes["what"] == kind])} for kind in KINDS],
        duplicates={
            what: sum(one["dropped"] for one in steps if one["step"] == step)
            for what, step in (("exact", EXACT_STEP), ("near", NEAR_STEP))
        },
        split=[
            {
                "part": part,
                "documents": len(own),
                "clusters": own["cluster"].where(own["cluster"] != "", own["document"]).nunique(),
                "characters": int(own["characters"].sum()),
                "share": float(own["characters"].sum() / max(1, kept["characters"].sum())),
            }
            for part, own in kept.groupby("split", sort=True)
        ],
        skipped=[
            {"source": str(source), "reason": str(reason)}
            for source, reason in curated.skipped[["source", "reason"]].to_numpy()
        ],
    )


def step_of_card(own: pd.DataFrame, notes: pd.DataFrame) -> dict[str, Any]:
    """What one step did, from its rows."""
    difference = own["characters_after"] - own["characters_before"]
    reasons = Counter(shape_of_reason(reason) for reason in own.loc[own["dropped"], "reason"])
    return {
        "step": str(own["step"].iloc[0]),
        "in": len(own),
        "out": int((~own["dropped"]).sum()),
        "changed": int((own["changed"] & ~own["dropped"]).sum()),
        "dropped": int(own["dropped"].sum()),
        "before": int(own["characters_before"].sum()),
        "after": int(own["characters_after"].sum()),
        "removed": int(-difference[difference < 0].sum()),
        "added": int(difference[difference > 0].sum()),
        "reasons": [
            {"reason": reason, "count": count}
            for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        ],
        "notes": [
            {"what": str(what), **count_notes(rows)}
            for what, rows in notes.groupby("what", sort=True)
        ],
    }


def shape_of_reason(reason: str) -> str:
    """A reason without what is particular to a document, so that equal ones can be counted."""
    return NUMBER.sub("…", OF_A_SOURCE.sub(r"\1 another\2", reason))


def count_notes(notes: pd.DataFrame) -> dict[str, int]:
    return {"count": int(notes["count"].sum()), "documents": int(notes["document"].nunique())}


def count_by(kept: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """Documents and characters of each value of a column, the most characters first."""
    total = max(1, int(kept["characters"].sum()))
    rows = [
        {
            "name": str(name) or NOT_KNOWN,
            "documents": len(own),
            "characters": int(own["characters"].sum()),
            "share": float(own["characters"].sum() / total),
        }
        for name, own in kept.groupby(column, sort=True)
    ]
    return sorted(rows, key=lambda row: (-row["characters"], row["name"]))


def check_flow(steps: Sequence[dict[str, Any]], kept: pd.DataFrame) -> None:
    """Each step must have what the one before it left, and the text what the last one left."""
    left = [(one["step"], one["out"], one["after"]) for one in steps]
    came = [("the text", len(kept), int(kept["characters"].sum()))]
    came = [(one["step"], one["in"], one["before"]) for one in steps[1:]] + came
    for (before, *had), (after, *has) in zip(left, came, strict=False):
        if had != has:
            raise UsageError(
                f"after the step {before} there are {had[0]} documents of {had[1]} characters, and "
                f"{after} has {has[0]} of {has[1]}: the tables are not of one run; run the "
                "pipeline again"
            )
