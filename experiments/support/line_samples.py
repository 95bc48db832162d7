"""What does the trained model write with one of its lines cut?

save_line_samples(run, study, studied, seed=0)
"""

from typing import Any

import pandas as pd

from experiments.support.line_models import StudiedModel
from experiments.support.pages.joining import HANDED_ON
from experiments.support.sampling import (
    DECIDED_BY,
    FEW_PROMPTS,
    FEW_TOKENS,
    LONG_ENOUGH,
    SAMPLE,
    attempt_samples,
    known_text,
    prompts_of,
    save_samples,
)
from experiments.support.variants import BASELINE
from interp import surgery
from interp.runs import Run
from interp.surgery.studying.asking import ask_all
from interp.surgery.studying.studies import Study
from interp.verdicts import verdicts_of

FEW_LINES = 8
"""Without which a large model writes."""


def save_line_samples(run: Run, study: Study, studied: StudiedModel, seed: int) -> None:
    """Save what the model writes as it is and without each line that has an effect; a large one
    writes little, without few of its lines.

    Args:
        run: holds the effects of all cuts as its results.
        seed: of the random numbers.
    """
    samples = without_lines(study, run.table(), studied, seed)
    save_samples(run, samples, known_text(studied.data, studied.tokenizer), BASELINE)


def without_lines(
    study: Study, table: pd.DataFrame, studied: StudiedModel, seed: int
) -> pd.DataFrame:
    """What the trained model writes as it is, and with the headline cut of each line that has an
    effect: the largest first, but those of hook points and those that are another's function last,
    for they write what another cut writes."""
    found = surgery.headlines(table[table["prepared"] == ""])
    found = found[verdicts_of(found).map(lambda one: one.is_effect).astype(bool)]
    found = found.loc[found["delta"].abs().sort_values(ascending=False, kind="stable").index]
    own = surgery.one_per_function(found[~found["code"].str.contains(HANDED_ON)]).index
    others = found[~found.index.isin(own)]
    found = found[found.index.isin(own)]
    data, tokenizer = studied.data, studied.tokenizer
    asked, length, context = prompts_of(data, studied.context), SAMPLE, studied.context
    if studied.subject is not None:
        asked = studied.subject.with_special(asked)
        if studied.subject.is_large:
            asked, length, context = asked[:FEW_PROMPTS], FEW_TOKENS, LONG_ENOUGH
            found, others = found.head(FEW_LINES), others.head(0)
    found = pd.concat([found, others])

    def ask(model: Any) -> Any:
        return attempt_samples(model, asked, length, context, tokenizer, seed)

    cuts = [None, *map(study.find, found["id"])]
    decided = {**DECIDED_BY, "seed": seed, "length": length, "context": context}
    answers = ask_all(study, cuts, ask, decided)
    prompts = [tokenizer.decode(row) for row in asked]
    rows = [
        {
            "variant": cut.id if cut else BASELINE,
            "label": cut.label if cut else "",
            "line": cut.line if cut else 0,
            "seed": seed,
            **written,
        }
        for cut, answer in zip(cuts, answers, strict=True)
        for written in answer.get("answer")
        or [{"prompt": one, "text": "", "detail": answer["detail"]} for one in prompts]
    ]
    return pd.DataFrame(rows)
