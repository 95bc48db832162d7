"""Is all of the circuit needed, is anything missing, and is each edge what it is said to be?

Needed and missing are asked of the pairs to judge by. What an edge is, its source says: the line of
its reader, rewritten to read the other value, gives what the hook gives.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import pandas as pd

from experiments.support.circuits.asking import answer_lead
from experiments.support.circuits.finding import MOST_TRIED
from experiments.support.circuits.ranking import audits, exact_effects
from experiments.support.circuits.studying import CircuitStudy
from experiments.support.circuits.telling import chosen, circuit_of
from interp.circuits import check_twins, completeness, minimality
from interp.circuits.graph import ARROW

Effects = Callable[[], pd.DataFrame]
STRONGEST = 10
"""Edges whose source is edited."""
FEW_TO_PAIR = 12
"""Parts of a circuit of which two at a time are cut."""


def save_guarantees(study: CircuitStudy) -> None:
    """The tables ``minimality`` and ``completeness``, of the smallest circuit found."""
    circuit = circuit_of(study.run, chosen(study.run))
    if len(circuit) <= MOST_TRIED:
        study.table("minimality", partial(what_is_needed, study, circuit))
        study.table("completeness", partial(what_is_missing, study, circuit))


def save_effects(study: CircuitStudy, and_of: Callable[[Effects], None] | None) -> pd.DataFrame:
    """The tables ``audits``, of the methods that estimate, ``twins``, of the strongest edges, and
    last of all ``results``, the exact effects of edges, which are returned.

    Args:
        and_of: what else is saved that is found from these effects.
    """
    scores, kept = study.run.table("scores"), study.run.table("kept")
    effects = cache(partial(exact_effects, study, scores, kept))  # nothing is measured twice
    study.table("audits", lambda: audits(study, scores, effects()))
    study.table("twins", lambda: twins_of_strongest(study, effects()))
    if and_of:
        and_of(effects)
    return study.table("results", effects)


def what_is_needed(study: CircuitStudy, circuit: Sequence[str]) -> pd.DataFrame:
    """What the circuit loses without each of its edges."""
    judge, asked = study.judge, study.asked
    table = minimality(
        *(judge.model, judge.clean, judge.corrupted, circuit, answer_lead(judge)),
        replaced_by=asked.replaced_by,
        seed=asked.seed,
        run=study.run,
    )
    return table.assign(metric="logit_difference")


def what_is_missing(study: CircuitStudy, circuit: Sequence[str]) -> pd.DataFrame:
    """The circuit and the model, with the same parts cut from both; of few parts also two at a
    time."""
    judge, asked = study.judge, study.asked
    parts = {edge.partition(ARROW)[0] for edge in circuit}
    table = completeness(
        *(judge.model, judge.clean, judge.corrupted, circuit, answer_lead(judge)),
        pairs=len(parts) <= FEW_TO_PAIR,
        replaced_by=asked.replaced_by,
        seed=asked.seed,
        run=study.run,
    )
    return table.assign(metric="logit_difference")


def twins_of_strongest(study: CircuitStudy, effects: pd.DataFrame) -> pd.DataFrame:
    """The strongest edges by hook, and as edits of the source."""
    opened = effects[effects["meaning"] == "open"]
    strongest = opened.sort_values("delta", key=abs, ascending=False, kind="stable")
    find = study.find
    table = check_twins(
        *(find.model, find.clean, find.corrupted, answer_lead(find)),
        list(strongest["edge"].head(STRONGEST)),
    )
    return table.assign(metric="logit_difference")
