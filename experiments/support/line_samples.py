"""What does the trained model write with one of its lines cut?

save_line_samples(run, study, data, tokenizer, block_size=64, seed=0)
"""

from typing import Any

import pandas as pd

from experiments.support.pages.joining import HANDED_ON
from experiments.support.sampling import (
    DECIDED_BY,
    known_text,
    prompts_of,
    save_samples,
    write_samples,
)
from experiments.support.variants import BASELINE
from gpt.text import CharTokenizer, Data
from interp import surgery
from interp.runs import Run
from interp.surgery.studying.asking import ask_all
from interp.surgery.studying.studies import Study
from interp.verdicts import verdicts_of


def save_line_samples(
    run: Run, study: Study, data: Data, tokenizer: CharTokenizer, block_size: int, seed: int
) -> None:
    """Save what the model writes as it is and without each line that has an effect.

    Args:
        run: holds the effects of all cuts as its results.
        block_size: how many characters the model reads at once.
        seed: of the random numbers.
    """
    samples = without_lines(study, run.table(), data, tokenizer, block_size, seed)
    save_samples(run, samples, known_text(data, tokenizer), BASELINE)


def without_lines(
    study: Study,
    table: pd.DataFrame,
    data: Data,
    tokenizer: CharTokenizer,
    block_size: int,
    seed: int,
) -> pd.DataFrame:
    """What the trained model writes as it is, and with the headline cut of each line that has an
    effect: the largest first, but those of hook points and those that are another's function last,
    for they write what another cut writes."""
    found = surgery.headlines(table[table["prepared"] == ""])
    found = found[verdicts_of(found).map(lambda one: one.is_effect).astype(bool)]
    found = found.loc[found["delta"].abs().sort_values(ascending=False, kind="stable").index]
    own = surgery.one_per_function(found[~found["code"].str.contains(HANDED_ON)]).index
    found = pd.concat([found[found.index.isin(own)], found[~found.index.isin(own)]])

    def ask(model: Any) -> Any:
        return write_samples(model, data, tokenizer, seed, block_size)

    cuts = [None, *map(study.find, found["id"])]
    answers = ask_all(study, cuts, ask, {**DECIDED_BY, "seed": seed})
    prompts = [tokenizer.decode(row) for row in prompts_of(data, block_size)]
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
