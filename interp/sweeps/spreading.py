"""How is a sweep spread over workers, so that it ends with the same table?

Questions that lie near each other make a part. A part is a sweep of its own, with the savings and
proofs of one, in whatever process does it; its answers come back and are recorded as soon as they
are there, so that a sweep that was interrupted takes them from the record.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interp.runs.workers import Elsewhere
from interp.sweeps.answering import Effects
from interp.sweeps.plans import Plan
from interp.sweeps.request import Request, Routes
from interp.sweeps.resuming.answers import Recorder, RowStore

Rows = list[dict[str, Any]]
LEAST = 8  # questions of a part: below, its proofs cost more than its answers


def effects_in_parts(
    request: Request,
    questions: Sequence[tuple[Any, Any]],
    answer: Callable[..., Effects],
    elsewhere: Elsewhere,
    parts: int,
    store: RowStore | None,
    advance: Callable[[int], None],
) -> Effects:
    """The effects of all questions, of parts that were answered elsewhere.

    Args:
        answer: what answers a part: ``effects_of``.
        parts: how many there are to be, at most.
        advance: told how many questions were answered, each time that some were.
    """
    shared = (
        *(answer, request.model, request.tokens, questions),
        *(request.metric, request.metric_tokens, request.memory),
    )
    divided = divide(request, parts)
    recorder, identities = None, [""] * len(divided)
    if store is not None:
        decisive = [request.tokens, request.metric_tokens, request.metric]
        recorder = Recorder(store, request.model, decisive)
        asked = [[request.trials[number] for number in part] for part in divided]
        identities = [recorder.identity(("part",), trials) for trials in asked]
    rows: dict[int, Rows] = {}
    for number, identity in enumerate(identities):
        if store is not None and (kept := store.task(identity)) is not None:
            rows[number] = kept
            advance(len(divided[number]))
    missing = [number for number in range(len(divided)) if number not in rows]

    def done(task: int, found: Rows) -> None:
        number = missing[task]
        rows[number] = found if store is None else store.record(identities[number], found)
        advance(len(found))

    tasks = [divided[number] for number in missing]
    if tasks:
        elsewhere.run(answer_part, shared, tasks, lambda number, what: None, done)
    return merged(request, divided, rows)


def divide(request: Request, parts: int) -> list[list[int]]:
    """The questions' numbers, layer by layer, in parts of nearly one size."""
    trials = request.trials
    ordered = sorted(range(len(trials)), key=lambda each: (trials[each].site.layer or 0, each))
    count = max(1, min(parts, len(ordered) // LEAST))
    return [part.tolist() for part in np.array_split(np.array(ordered), count)]


def answer_part(shared: Any, numbers: Sequence[int], tell: Any) -> Rows:
    """The questions of these numbers, in the process that does it: a row for each."""
    answer, model, tokens, questions, metric, metric_tokens, memory = shared
    effects = answer(
        *(model, tokens, [questions[number] for number in numbers], metric),
        metric_tokens=metric_tokens,
        memory=memory,
        progress=False,
        allow_no_effect=True,
    )
    columns = zip(effects.values, effects.changed, effects.skipped, strict=True)
    return [
        {
            "values": values.tolist(),
            "changed": int(changed),
            "skipped": bool(skipped),
            "baseline": effects.baseline.tolist(),
        }
        for values, changed, skipped in columns
    ]


def merged(request: Request, divided: Sequence[Sequence[int]], rows: dict[int, Rows]) -> Effects:
    """The parts' rows in the order of the questions."""
    found = {
        each: row
        for number, part in enumerate(divided)
        for each, row in zip(part, rows[number], strict=True)
    }
    ordered = [found[number] for number in range(len(request.trials))]
    note = f"{len(ordered)} answered in {len(divided)} parts by workers, each as a sweep of its own"
    untouched = [number for number, row in enumerate(ordered) if row["skipped"]]
    return Effects(
        request.trials,
        np.array([row["values"] for row in ordered]),
        np.array(ordered[0]["baseline"]),
        [row["changed"] for row in ordered],
        Plan(request, Routes(None, None, [], [note]), None, [], [], untouched),
    )
