"""What does a model lose that never had an edge, beside what a trained one loses without it?

    twins = [edge_twin(model, edge, tokens, lines=lines) for edge in strongest]
    table, trainings = cut_before_training(study, twins, seeds=[0, 1, 2])
    figures.damage_and_lasting_cost(table, trainings)

An edge is cut by its twin in the source: the reader reads the stream less what the writer wrote in
the same run, and nothing in its place. So it is cut while the model is built and trained too. With
dropout behind attention a head's share is taken away as it was before that.
"""

from collections.abc import Sequence

import pandas as pd

from interp.circuits.twins import EdgeTwin
from interp.errors import UsageError
from interp.status import WITH_LOSS
from interp.surgery.judging.rows import over_seeds
from interp.surgery.studying.studies import Retrain, Study
from interp.surgery.studying.trying import Progress
from interp.verdicts import correct, verdicts_of

AGAIN = ["delta", "ci_low", "ci_high", "p", "p_adjusted", "noise", "n", "status"]


def cut_before_training(
    study: Study,
    twins: Sequence[EdgeTwin],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    limit_s: float = 3600.0,
    progress: Progress | None = None,
    elsewhere: Retrain | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each edge cut in the trained model, and in models that are trained without it.

    Args:
        study: of the trained model and its files, from ``interp.surgery.study``; it says how a
            model is built, trained and judged.
        twins: of the edges.
        seeds: one training each of the model as it is, and without each edge.
        limit_s, progress, elsewhere: as for ``Study.trainings``.

    Returns:
        One row per edge: ``edge writer reader``; ``file line code after`` of its reader;
        ``surgery``, the cut's id; the damage ``delta`` with its interval over examples, as
        ``Study.posthoc`` has it, and its ``verdict``; the lasting cost ``retrained_delta`` with its
        interval over seeds, ``retrained_p_adjusted retrained_n retrained_noise retrained_status``
        and ``retrained_verdict``; and ``diff``. And one row per training: ``surgery edge seed
        status detail value delta``, that of the model as it is with an empty surgery; ``delta`` is
        what it differs by from their mean.

    Raises:
        UsageError: no twins, or two of one edge.
        SurgeryError: what ``Study.trainings`` raises; a twin of another file than those studied.
    """
    names = [str(twin.edge) for twin in twins]
    if not names or len({*names}) < len(names):
        raise UsageError(
            f"the edges are {names}: give at least one, and each once, to be cut before training"
        )
    cuts = [twin.surgery for twin in twins]
    by_cut = dict(zip([cut.id for cut in cuts], names, strict=True))
    damage = correct(study.posthoc(cuts))
    trained = study.trainings(
        *(cuts,), seeds=seeds, limit_s=limit_s, progress=progress, elsewhere=elsewhere
    )
    again = correct(over_seeds(trained)).set_index("id")[AGAIN].add_prefix("retrained_")
    table = pd.DataFrame(
        {
            "edge": names,
            "writer": [str(twin.edge.writer) for twin in twins],
            "reader": [str(twin.edge.reader) for twin in twins],
            "file": [twin.file for twin in twins],
            "line": [twin.line for twin in twins],
            "code": [twin.place.reader_code for twin in twins],
            "after": [f"without {twin.edge.writer}" for twin in twins],
        }
    )
    known = ["id", "surgery", "status", "detail", "baseline", "value", "delta"]
    known += ["ci_low", "ci_high", "p", "p_adjusted", "n"]
    table = table.join(damage[[name for name in known if name in damage]])
    table["verdict"] = verdicts_of(table)
    table = table.join(again, on="id")
    table["retrained_verdict"] = verdicts_of(table, "retrained_")
    table["diff"] = [twin.diff for twin in twins]
    whole = trained.loc[(trained["id"] == "") & trained["status"].isin(WITH_LOSS), "value"].mean()
    trainings = trained[["surgery", "seed", "status", "detail", "value"]].assign(
        edge=[by_cut.get(id, "") for id in trained["id"]], delta=trained["value"] - whole
    )
    return table.drop(columns="id"), trainings
