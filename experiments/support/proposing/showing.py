"""What does the page of a proposal show, from the tables that its run has saved?"""

import pandas as pd

from experiments.support.proposing.numbers import form_of
from experiments.support.proposing.skeleton import (
    ABILITIES,
    COSTS,
    DATA,
    FAILURES,
    GUARDS,
    HEART,
    PROBES,
    WRITING,
)
from interp.characters import shorten_text
from interp.curation.card import DataCard
from interp.report import Figure, Part, Section
from interp.runs import SavedRun

SHOWN = 40  # rows of a table on the page
WIDTH = 300  # characters of a text


def proposal_parts(run: SavedRun) -> list[Part]:
    """The parts, in the order of the document."""
    documents = run.table("documents").drop(columns="document")
    probes = run.table("probes")
    asked = probes[probes["refused"] == ""]
    refused = probes[probes["refused"] != ""].to_dict("records")
    return [
        Section(DATA, table=run.table("data")),
        Section(
            ABILITIES,
            "Of each kind and language the documents are weighted by their tokens. Reference lines "
            "are of models that only counted the training text.",
            figures=[
                Figure.saved(
                    "Loss on validation documents, with 95 % intervals over documents, and the "
                    "losses of models that only counted the training text.",
                    run.figure("losses"),
                )
            ],
            table=pretty(losses_shown(run)),
            saved=documents,
        ),
        Section(
            WRITING,
            "After beginnings of documents that it was not trained on; temperature 0 takes the "
            "likeliest token. Longest copy: characters that stand so in the training text too, and "
            "beside it as a control those of a stretch of the validation text of that length.",
            table=samples_shown(run.table("samples")),
        ),
        Section(
            HEART,
            "A passage is asked for by what stands before it. Passages of the validation text that "
            "the training text holds too are counted apart.",
            table=pretty(run.table("heart")),
        ),
        Section(
            FAILURES,
            "Shares of prompts, with Wilson's 95 % intervals.",
            table=pretty(run.table("failures")),
        ),
        Section(
            PROBES,
            "Nats that the second term of a pair costs more than the first, in the same stretches "
            "of text. There is a difference where the 95 % interval lies on one side of zero and "
            "p, corrected for all that was asked (Holm), is below 0.05."
            + "".join(
                f"\n\n{row['pair']} cannot be measured: {row['refused']}." for row in refused
            ),
            table=pretty(asked.drop(columns=["p", "refused"])).head(SHOWN) if len(asked) else None,
            saved=probes if len(asked) else None,
        ),
        Section(
            GUARDS,
            "private stops what looks private, on sentences planted by the generator that its "
            "finders were tested with: what people write elsewhere will fool it more often. "
            "repetition stops a text that ends in a loop, symbols one with a character that the "
            "training text lacks; both on stretches of validation documents, as they are and with "
            "what should be stopped put in.",
            table=pretty(run.table("guards")),
        ),
        Section(
            COSTS,
            "Operations by 2 N + 2 n_layer n_ctx n_embd for a token (Kaplan et al. 2020), three "
            "times that in training. Seconds were measured on this machine. Energy is an estimate.",
            table=costs_shown(run.table("costs")),
        ),
    ]


def losses_shown(run: SavedRun) -> pd.DataFrame:
    """Groups and reference lines in one table."""
    losses = run.table("losses")
    lines = run.table("counted").drop(columns="n").rename(columns={"line": "name"})
    return pd.concat([losses, lines.assign(group="reference line")], ignore_index=True).astype(
        {"documents": "Int64", "tokens": "Int64"}
    )


def samples_shown(samples: pd.DataFrame) -> pd.DataFrame:
    shown = samples.assign(
        temperature=[f"{value:g}" for value in samples["temperature"]],
        prompt=[shorten_text(" ".join(text.split()), WIDTH) for text in samples["prompt"]],
        text=[shorten_text(" ".join(text.split()), WIDTH) for text in samples["text"]],
    )
    columns = ["temperature", "prompt", "text", "longest", "control_longest"]
    return pretty(shown[[name for name in columns if name in shown]])


def costs_shown(costs: pd.DataFrame) -> pd.DataFrame:
    values = ["—" if value != value else format(value, form_of(value)) for value in costs["value"]]
    return costs.assign(value=values)


def pretty(table: pd.DataFrame) -> pd.DataFrame:
    """A table with its columns named in words."""
    return table.rename(columns=lambda name: str(name).replace("_", " "))


def proposal_readings(run: SavedRun) -> list[str]:
    """The main numbers, a sentence each."""
    said = run.table().set_index(["part", "row"])["said"]
    value = run.table().set_index(["part", "row"])["value"]
    better = [
        words for line, words in COUNTED.items() if value["loss", "all"] < value["loss", line]
    ]
    worse = [words for words in COUNTED.values() if words not in better]
    compared = [
        f"{how} than a model that counted {' and '.join(lines)}"
        for how, lines in (("better", better), ("no better", worse))
        if lines
    ]
    return [
        f"It loses {said['loss', 'all']} nats per token on the validation documents, "
        f"{', and '.join(compared)} in the training text.",
        f"It continues {said['heart', 'train']} of the passages of the training text word for "
        f"word, and {said['heart', 'val']} of passages of the validation text.",
        f"Of {said['probe', 'pairs']} pairs of terms {said['probe', 'pairs refused']} cannot be "
        f"measured on this text, and {said['probe', 'pairs that differ']} show a difference.",
        worst_guard(run.table()),
    ]


COUNTED = {"unigram": "single tokens", "bigram": "pairs", "trigram": "triples"}


def worst_guard(numbers: pd.DataFrame) -> str:
    """Which guardrail errs most: the largest share, and of equal ones that which may be larger."""
    guards = numbers[numbers["part"] == "guard"]
    worst = guards.sort_values(["value", "high"]).iloc[-1]
    guard, _, side = str(worst["row"]).partition(", ")
    if worst["value"] == 0:
        return (
            f"No guardrail erred on its texts; of {worst['n']} texts none was wrong for {guard}, "
            f"and up to {worst['high']:.1%} may be."
        )
    return f"The guardrail {guard} errs most: {worst['said']} {side}."


def proposal_limits(_: SavedRun) -> list[str]:
    return [
        "Guardrails were measured on planted texts; people find others.",
        "Bias probes see two terms in the same stretch of text, and nothing of what the model "
        "would do in a conversation.",
        "Energy is an estimate from an assumed power, and seconds are those of this machine.",
    ]


def data_table(card: DataCard) -> pd.DataFrame:
    """Kinds, languages and licences of the documents that are kept, and what was masked in them, a
    row each: ``what name documents characters share strings``."""
    named = (("kind", card.kinds), ("language", card.languages), ("licence", card.licences))
    rows = [{"what": what, **row} for what, counted in named for row in counted]
    rows += [
        {"what": "masked", "name": one["kind"], "documents": one["documents"]}
        | {"strings": one["count"]}
        for one in card.masked
    ]
    columns = ["what", "name", "documents", "characters", "share", "strings"]
    table = pd.DataFrame(rows).reindex(columns=columns)
    return table.astype({"characters": "Int64", "strings": "Int64"})
