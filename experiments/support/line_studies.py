"""How are the lines of a model studied, and what must a reader know of how they were?

study = make_study(run, told=[], build=build, judge=judge, files=modules, model=model)
note_layers(run, study)      # once its cuts are in the run
"""

import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.support.cli import console
from interp import surgery
from interp.errors import SurgeryWarning
from interp.runs import Run
from interp.surgery.studying.single_layers import BY_WHOLE_RUN
from interp.surgery.studying.studies import Study


def note_layers(run: Run, study: Study) -> None:
    """Keep with a run's notes how its cuts in one layer were measured, where that is not as those
    in all layers were."""
    table, plan = run.table(), study.layer_plan
    single = table[table["layer"] != "all"]
    if not plan or single.empty:
        return
    if isinstance(plan, str):
        note = (
            f"A cut in one layer alone is a run of the whole model, for its blocks do not run "
            f"alone: {plan}."
        )
    else:
        whole = single[single["detail"].str.contains(BY_WHOLE_RUN, regex=False)]
        lines = single["surgery"].nunique() - whole["surgery"].nunique()
        note = (
            "For a cut in one layer alone the blocks before it were not run again: the cut block "
            "ran on what enters it in the model as it is, and what came out was carried on. Of "
            f"{lines} cuts one layer each was run whole too, with the same result to 1e-5."
        )
        if len(whole):
            note += f" Of {whole['surgery'].nunique()} it was not, and all layers were run whole."
    console.print(note, soft_wrap=True, markup=False)
    notes = pd.concat([run.table("notes"), pd.DataFrame({"note": [note]})], ignore_index=True)
    run.save_table(notes, "notes")


def make_study(run: Run, told: Sequence[str], **settings: Any) -> Study:
    """A study; what a reader must know of the model as it is, is said and kept, and what was said
    of how it was taken from its file."""
    with warnings.catch_warnings(action="ignore", category=SurgeryWarning):
        study = surgery.study(**settings, store=run)
    notes = [*study.notes, *study.training_notes]
    for note in notes:
        console.print(note)
    kept = [*map(as_sentence, told), *notes]
    run.save_table(pd.DataFrame({"note": pd.Series(kept, dtype=str)}), "notes")
    return study


def as_sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:].rstrip('.')}."
