"""What does a function say of the trained model while a cut is made in it?

    rows = ask_all(study, [None, cut], ask, about={"tokens": 100})   # {"status", "answer"} each

As every surgery is judged: in processes of their own that may crash or hang, each answer kept at
once; None is the model as it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from interp.status import Status
from interp.surgery.cutting.modules import edited_names
from interp.surgery.judging import same_draws, weights_hash
from interp.surgery.judging.rebuilding import rebuild
from interp.surgery.judging.rows import Row, failure_row
from interp.surgery.source.edits import Surgery
from interp.surgery.studying.posthoc import graft, is_built_anew
from interp.surgery.studying.studies import Study
from interp.surgery.studying.trying import try_all
from interp.surgery.studying.uncut import Uncut

Ask = Callable[[nn.Module], Any]


def ask_all(
    study: Study, cuts: Sequence[Surgery | None], ask: Ask, about: Mapping[str, Any]
) -> list[Row]:
    """One row for each cut: ``status``, ``detail`` and, where the function came to its end, its
    ``answer``.

    Args:
        study: whose trained model is cut.
        cuts: one after the other; None is the model as it is.
        ask: is given the cut model; what it returns must be of JSON's kinds.
        about: what decides its answer, beside the model.
    """
    study.prepare_to_fork()
    prepared = study.prepare.identity if study.prepare else ""
    decided = {"weights": weights_hash(study.model), "prepared": prepared, "asked": dict(about)}
    return try_all(
        study,
        [partial(ask_cut, study, cut, ask) for cut in cuts],
        [study._identity("ask", cut=cut.identity if cut else "", **decided) for cut in cuts],
        study.store,
        study.limit_s,
        None,
    )


def ask_cut(uncut: Uncut, surgery: Surgery | None, ask: Ask) -> Row:
    """The row of one cut."""
    filenames = {str(source.path) for source in uncut.sources}
    if surgery is not None:
        filenames |= edited_names(uncut.with_preparation(surgery))
    try:
        with cut_model(uncut, surgery) as model, same_draws(model):
            return {"status": Status.CHANGED, "detail": "", "answer": ask(model)}
    except (Exception, SystemExit) as error:
        return failure_row("asked", error, filenames)


@contextmanager
def cut_model(uncut: Uncut, surgery: Surgery | None) -> Iterator[nn.Module]:
    """Inside the block, the trained model with a cut: the instance itself, or one built anew where
    the cut is in what building does."""
    if surgery is None:
        with uncut.operated(uncut.prepare):
            yield uncut.model
        return
    made, anew = uncut.with_preparation(surgery), is_built_anew(uncut, surgery)
    model = graft(uncut, made) if anew and made.layers is not None else uncut.model
    with uncut.operated(made, model):
        if anew and made.layers is None:
            model, _ = rebuild(uncut.rebuilding, uncut.build, model)
        yield model
