"""How is the ablation of a pipeline shown: figures, page, sentences, terminal?

All from the tables of a saved run, and from nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.support.cli import console, print_table
from experiments.support.curating.leaving_out import NOTHING, WHOLE
from experiments.support.curating.measuring import MEASURES
from experiments.support.pages.summary import counted, points_of, power
from experiments.support.pages.telling import (
    BEFORE,
    COLUMNS,
    LEFT_OUT,
    interval_over_seeds,
)
from interp import figures
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun
from interp.status import Status
from interp.verdicts import interval_words, verdict_of, verdict_words

LINES = 4  # of code that a bar names
PANELS: dict[str, Sequence[str]] = {
    "exposure of canaries\n(bits; 9.97 at most)": [
        "exposure_copied",
        "exposure_single",
        "exposure_never",
    ],
    "passages continued\nword for word (share)": ["extracted", "extracted_control"],
    "longest copy written\n(characters)": ["longest_copy"],
}
SHORT_NAMES = {
    "exposure_copied": "in 100 copies",
    "exposure_single": "in one document",
    "exposure_never": "nowhere: guessed",
    "extracted": "of its text",
    "extracted_control": "of the validation text",
    "longest_copy": "of eight texts, each 80 long",
}
SHOWN_MEASURES = (
    *("bits_per_byte", "exposure_copied", "exposure_single", "exposure_never"),
    *("longest_copy", "extracted", "extracted_control", "private", "private_control"),
)


def draw_ablation(run: Run) -> None:
    """Figures, from the saved tables alone."""
    summary = run.table("summary")
    steps = summary[summary["variant"] != WHOLE].reset_index(drop=True)
    steps["places"] = pd.Series(
        [lines_left_out(run, name) for name in steps["variant"]], dtype=object
    )
    run.save_figure(figures.pipeline_steps(steps, run.table("trainings")), "pipeline_steps")
    if len(memorised := run.table("memorised")):
        run.save_figure(figures.memorised(memorised, PANELS, SHORT_NAMES), "memorised")


def lines_left_out(run: SavedRun, variant: str) -> list[str]:
    """File, line and code of each step that a variant leaves out, a text each."""
    row = by_variant(run.table("variants"))[variant]
    found = [
        f"{file}:{line} {code if len(code) <= 56 else code[:55] + '…'}"
        for file, line, code in zip(row["file"], row["line"], row["code"], strict=True)
    ]
    return found if len(found) <= LINES else [f"all {len(found)} steps"]


def by_variant(table: pd.DataFrame) -> dict[Any, dict[Any, Any]]:
    return dict(table.set_index("variant", drop=False).to_dict("index"))


def ablation_parts(run: SavedRun) -> list[Part]:
    """What the page shows of an ablated pipeline."""
    summary, trainings = run.table("summary"), run.table("trainings")
    variants = by_variant(run.table("variants"))
    found: list[Part] = [
        Section(
            "Each step left out",
            "\n\n".join(step_reading(row, trainings) for row in summary.to_dict("records")),
            [
                Figure.saved(
                    "Validation loss where a step was left out before training, less that of the "
                    "whole pipeline, on the same validation documents. Hollow: no effect shown. "
                    "Hatched: a leak, for the training text holds validation documents.",
                    run.figure("pipeline_steps"),
                )
            ],
            ablation_table(run),
            saved=summary,
        )
    ]
    if len(run.table("memorised")):
        found.append(
            Section(
                "What is known by heart",
                memory_reading(run),
                [
                    Figure.saved(
                        "What each variant's models know by heart: means over seeds, and each seed "
                        "a small point.",
                        run.figure("memorised"),
                    )
                ],
                measures_table(run),
                saved=run.table("compared"),
            )
        )
    leaks = run.table("leaks")
    found.append(Section("Validation text in the training text", LEAKS, table=leak_table(leaks)))
    steps = [
        {
            "variant": name,
            "left out": step,
            "line": f"{file}:{line}",
            "code": code,
        }
        for name, row in variants.items()
        if name != NOTHING
        for step, file, line, code in zip(
            row["step"], row["file"], row["line"], row["code"], strict=True
        )
    ]
    found.append(Section("The pipeline's code", table=pd.DataFrame(steps)))
    if len(planted := run.table("planted")):
        whole = planted[planted["variant"] == WHOLE]
        columns = {"text": "canary", "planted": "planted", "times": "times in the whole pipeline's"}
        found.append(
            Section("Planted canaries", PLANTED, table=whole[[*columns]].rename(columns=columns))
        )
    return found


LEAKS = (
    "A validation document is known to a variant where its training text holds a near duplicate of "
    "it, or at least half of its characters in passages of 50 or more. A variant leaks where it "
    "knows documents that the whole pipeline's text does not: its loss on them says how well it "
    "remembers, not how well it predicts."
)
PLANTED = (
    "These sentences were made up and planted in the pile before any step ran, so that it can be "
    "measured what a model learns by heart: none of them is anybody's data. Those in 100 copies "
    "stand in 100 short documents that were added to the pile, each like the others."
)


def step_reading(row: Mapping[Any, Any], trainings: pd.DataFrame) -> str:
    """A row of the summary in plain sentences."""
    name = row["variant"]
    if name == WHOLE:
        return (
            f"Trained on what the whole pipeline makes, the model ends at {row['last']:.3f} nats "
            f"per character. {power(row)}"
        )
    if row["status"] == Status.EQUIVALENT:
        return (
            f"Without {name} the text is the same to the byte: on this pile the step does nothing "
            "for training, and there is nothing to train."
        )
    if row["status"] in (Status.ERROR, Status.NONFINITE, Status.LOST):
        return f"Without {name} no training came to a loss ({row['status']}): nothing is known."
    ends = f"Without {name} the model ends at {row['last']:.3f} nats per character"
    interval = interval_words(row, points=points_of(trainings, name))
    differs = f"{row['delta']:+.3f} against the whole pipeline ({counted(row)}: {interval})"
    if row["status"] == Status.LEAK:
        return (
            f"{ends}, {differs}; but that is a leak: {row['detail']}. This difference is no effect "
            "of the text's quality."
        )
    return f"{ends}, {differs}: {verdict_words(row)}."


def ablation_table(run: SavedRun) -> pd.DataFrame:
    """The summary as people read it."""
    variants = by_variant(run.table("variants"))
    memorised = by_variant(
        run.table("compared").query("measure == 'bits_per_byte'")[["variant", "mean"]]
    )
    rows = []
    for row in run.table("summary").to_dict("records"):
        name = row["variant"]
        known = not math.isnan(row["ci_low"])
        own = variants[name]
        bits = memorised.get(own["same_as"], {}).get("mean", math.nan)
        same = row["status"] == Status.EQUIVALENT
        rows.append(
            {
                "left out": "—" if name == WHOLE else name,
                "documents": own["documents"],
                "characters": own["characters"],
                "loss": f"{row['last']:.3f}"
                + ("" if math.isnan(row["last_sd"]) else f" ± {row['last_sd']:.3f}"),
                "against the whole": ""
                if name == WHOLE
                else "same text"
                if same
                else f"{row['delta']:+.3f}"
                + (f" ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})" if known else ""),
                "verdict": "" if name == WHOLE else verdict_in_table(row),
                "p (Holm)": "" if math.isnan(row["p_adjusted"]) else f"{row['p_adjusted']:.2g}",
                "bits per byte": f"{bits:.3f}",
            }
        )
    return pd.DataFrame(rows)


def verdict_in_table(row: Mapping[Any, Any]) -> str:
    if row["status"] == Status.LEAK:
        return "leak"
    if row["status"] == Status.EQUIVALENT:
        return ""
    return str(verdict_of(row))


def measures_table(run: SavedRun) -> pd.DataFrame:
    """Every measure of every variant: the mean, with what it differs by where that is an effect."""
    compared = run.table("compared")
    variants = run.table("variants")
    rows = []
    for name, same in zip(variants["variant"], variants["same_as"], strict=True):
        if name != same:
            continue
        own = compared[compared["variant"] == name].set_index("measure").to_dict("index")
        row = {"left out": "—" if name == WHOLE else name}
        for measure in SHOWN_MEASURES:
            if measure in own:
                one = own[measure]
                sure = name != WHOLE and verdict_of(one).is_effect
                row[MEASURES[measure]] = f"{one['mean']:.3g}" + (
                    f" ({one['delta']:+.2g}, an effect)" if sure else ""
                )
        rows.append(row)
    return pd.DataFrame(rows).fillna("—")


def memory_reading(run: SavedRun) -> str:
    """What is known by heart, in sentences; by the one rule for what is an effect."""
    compared = run.table("compared")
    whole = compared[compared["variant"] == WHOLE].set_index("measure")["mean"]
    said = []
    if "exposure_copied" in whole and "exposure_never" in whole:
        said.append(
            f"A canary that was planted nowhere has an exposure of {whole['exposure_never']:.2f} "
            f"bits, 1.44 on average where nothing is known of it. In the whole pipeline's models "
            f"one in a hundred copies has {whole['exposure_copied']:.2f} bits."
        )
    effects = []
    for row in compared[compared["variant"] != WHOLE].to_dict("records"):
        if verdict_of(row).is_effect and row["measure"] != "bits_per_byte":
            effects.append(
                f"{MEASURES[row['measure']]}, without {row['variant']}: {row['mean']:.3g}, "
                f"{row['delta']:+.3g} against the whole pipeline "
                f"({interval_words(row)}; {row['n']} seeds)"
            )
    if effects:
        said.append(
            "Known more or less by heart than with the whole pipeline: " + "; ".join(effects) + "."
        )
    else:
        said.append("No variant is shown to know more or less by heart than the whole pipeline's.")
    if "private" in whole:
        said.append(
            f"Asked by what stood before them, the whole pipeline's models give back "
            f"{100 * whole['private']:.1f} % of the private strings of the pile."
        )
    return "\n\n".join(said)


def leak_table(leaks: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "left out": leaks["variant"].replace(WHOLE, "—"),
            "shared characters": leaks["shared"],
            "share": [f"{100 * share:.1f} %" for share in leaks["share"]],
            "longest": leaks["longest"],
            "near duplicates": leaks["near"],
            "documents known": [
                f"{known} of {of}"
                for known, of in zip(leaks["known"], leaks["documents"], strict=True)
            ],
            "leak": leaks["leak"].map({True: "yes", False: ""}),
        }
    )


def ablation_effects(run: SavedRun) -> pd.DataFrame:
    """The effects of steps, to rank beside those of lines."""
    summary, trainings = run.table("summary"), run.table("trainings")
    variants = by_variant(run.table("variants"))
    rows = []
    for row in summary.to_dict("records"):
        if row["variant"] == WHOLE or row["status"] != Status.CHANGED:
            continue
        own = variants[row["variant"]]
        rows.append(
            {
                "name": row["variant"],
                "how": LEFT_OUT,
                "way": BEFORE,
                "line": " and ".join(
                    f"{file}:{line}" for file, line in zip(own["file"], own["line"], strict=True)
                )
                or "pipeline.py",
                "code": "; ".join(own["code"]),
                "delta": row["delta"],
                "verdict": verdict_of(row),
                "said": verdict_words(row),
                "interval": interval_over_seeds(row, trainings, ""),
                **{name: row[name] for name in ("ci_low", "ci_high", "n")},
                "also": "",
                "also_delta": math.nan,
                "also_shown": False,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def ablation_limits(run: SavedRun) -> list[str]:
    """What the ablation leaves open."""
    summary, config = run.table("summary"), run.description["config"]
    steps = config["train"]["steps"]
    said = [
        f"Models of {config['model']['n_layer']} layers, {config['model']['n_embd']} wide, trained "
        f"for {steps} steps: a larger model, or a longer training, may need other steps.",
        "All variants are judged on the documents that the whole pipeline puts aside, as it leaves "
        "them: a step that makes training text more like these can look good for that alone.",
        "p-values are corrected for the number of variants (Holm), intervals are not.",
    ]
    if leaks := list(summary.loc[summary["status"] == Status.LEAK, "variant"]):
        said.append(
            f"Leaks, whose losses say nothing of quality: {', '.join(leaks)}. How much lower "
            "a leak makes the loss depends on how often a training meets what leaks."
        )
    if config.get("planted"):
        said.append(
            f"{config['planted']} canaries were planted, some in copies that were added to the "
            "pile: what is left out of a pipeline changes what becomes of these too."
        )
    return said


def print_ablation(run: SavedRun) -> None:
    """On the terminal, what most will want to know."""
    table = ablation_table(run)
    print_table(table[["left out", "characters", "loss", "against the whole", "verdict"]])
    for row in run.table("summary").to_dict("records"):
        if row["status"] == Status.LEAK:
            console.print(f"leak: without {row['variant']}, {row['detail']}", soft_wrap=True)
    for paragraph in memory_reading(run).split("\n\n"):
        console.print(paragraph, soft_wrap=True, markup=False)
