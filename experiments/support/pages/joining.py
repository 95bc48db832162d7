"""What do runs show together: one source with every run's effects, one quiz?

Each run has saved the source that it cut (table ``source``, or ``lines`` with the effects of every
line); runs that trained with cuts have their curves. Only runs of the very same source are joined.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.listing import record_of
from experiments.support.pages.sources import by_source, title_of_part
from experiments.support.pages.summary import counted, reading, trainings_of
from experiments.support.pages.views import source_sha256
from experiments.support.sampling import texts_of_quiz, written_by_surgery
from experiments.support.variants import BASELINE
from interp.figures.source import name_files
from interp.report import Part
from interp.report.map import MapView
from interp.report.quiz import Curve, EffectBar, Question, Quiz
from interp.report.source import SourceView
from interp.runs import SavedRun
from interp.status import Status
from interp.surgery import headlines
from interp.verdicts import verdict_of, verdicts_of

HANDED_ON = r"= self\.hook_\w+\("  # a hook point hands a value on
QUESTIONS = 16
OF_LINES = 6  # questions on cuts of the trained model
OF_TEXTS = 4  # more, by what it then writes
ONE_IN = 3  # cuts before training is asked for by a text, the others by their curves
ALIKE = 3  # lines that may share an answer


def trained_with_cuts(runs: Sequence[SavedRun]) -> list[SavedRun]:
    return [run for run in runs if record_of(run).trains_cuts]


def cut_after_training(runs: Sequence[SavedRun]) -> list[SavedRun]:
    known = [(record_of(run), run) for run in runs]
    return [run for one, run in known if one.cuts_lines and not one.trains_cuts]


def source_lines_of(runs: Sequence[SavedRun]) -> pd.DataFrame | None:
    """The source that some runs of one source are about, a row for each line, with the effects of
    every line if one of the runs has them; None where no run has kept a source."""
    for name in ("lines", "source"):
        for run in runs:
            if run.holds(name):
                return run.table(name)
    return None


def source_view(runs: Sequence[SavedRun]) -> list[Part]:
    """The source, with what is known of each line."""
    lines = source_lines_of(runs)
    cut = [run for run in runs if record_of(run).cuts_lines]
    if lines is None or not cut:
        return []
    tables = [run.table() for run in cut_after_training(runs)]
    curves = [run.table() for run in trained_with_cuts(runs)]
    again, trainings = retrained_tables(runs)
    architecture = [run.table("architecture") for run in runs if run.holds("architecture")]
    return [
        SourceView(
            f"The source, line by line: {name_files(lines['file'])}",
            lines,
            table=tables[0] if tables else None,
            retrained=again,
            trainings=trainings,
            curves=pd.concat(curves, ignore_index=True) if curves else None,
            architecture=architecture[0] if architecture else None,
            command=command_without(cut[0]),
            written=written_by_surgery(cut_after_training(runs)),
            written_after=written_by_surgery(trained_with_cuts(runs)),
        )
    ]


def command_without(run: SavedRun) -> str:
    """What trains our model without one of its cuts; another's model is not trained so, nor ours as
    it was."""
    config, made_from = run.description["config"], run.description["provenance"]
    if config.get("file", "gpt.model") != "gpt.model":
        return ""
    if made_from.get("source_sha256") != source_sha256():
        return ""  # the id would name another line
    preset = config.get("preset", "demo")
    return f"python -m experiments.retrain --preset {preset} --surgeries '{{surgery}}'"


def map_view(runs: Sequence[SavedRun]) -> list[Part]:
    """The model as boxes, shaded by what the lines that call them are worth: to the trained model
    where that was measured, else to a training without them."""
    kept = [run for run in runs if run.holds("architecture")]
    lines = source_lines_of(runs)
    if not kept or lines is None:
        return []
    again, _ = retrained_tables(runs)
    if "delta" not in lines and again is not None:
        lines = with_effects(lines, again)
    layers = [run.table("layers") for run in runs if run.holds("layers")]
    boxes = kept[0].table("architecture")
    title = title_of_part(kept[0], "The map of the model")
    return [MapView(title, boxes, lines, layers[0] if layers else None)]


def with_effects(lines: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Lines with the effects of the cuts, made before training, that touch them."""
    columns = ["status", "delta", "ci_low", "ci_high", "p_adjusted", "n"]
    touched = again.assign(line=again["lines"]).explode("line")
    touched = touched.assign(line=touched["line"].astype(int)).drop_duplicates("line")
    touched["status"] = touched["status"].replace(Status.UNCHECKED, Status.CHANGED)
    return lines.merge(touched[["line", *columns]], on="line", how="left").fillna({"status": ""})


def retrained_tables(runs: Sequence[SavedRun]) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """What became of cuts made before training, one row for each surgery, and the trainings behind
    it, one for each seed: of a surgery that several runs trained, those of the first; of the model
    as it is, every seed that any of them trained."""
    found = [
        (run, of_variants(run), trainings_of(run.table()).rename(columns={"last": "value"}))
        for run in trained_with_cuts(runs)
    ]
    found += [
        (run, run.table("retrained"), run.table("trainings"))
        for run in runs
        if run.holds("retrained") and run.holds("trainings")
    ]
    rows: list[pd.DataFrame] = []
    trainings: list[pd.DataFrame] = []
    whole: list[pd.DataFrame] = []
    known: set[str] = set()
    for run, table, trained in found:
        new = set(table["surgery"]) - known if len(table) else set()
        if new:
            rows.append(table[table["surgery"].isin(new)])
            trainings.append(trained[trained["surgery"].isin(new)])
        if recipe(run) == recipe(found[0][0]):  # one model has one noise
            whole.append(trained[trained["surgery"] == ""])
        known |= new
    if not known:
        return None, None
    uncut = pd.concat(whole).drop_duplicates("seed")
    uncut = uncut.assign(delta=uncut["value"] - uncut["value"].mean())
    every = pd.concat([uncut, *trainings], ignore_index=True)
    return pd.concat(rows, ignore_index=True), every[["surgery", "seed", "value", "delta"]]


def recipe(run: SavedRun) -> list[Any]:
    """What decides how the model as it is was trained."""
    return [run.description["config"].get(part) for part in ("model", "train", "text")]


def of_variants(run: SavedRun) -> pd.DataFrame:
    """The variants of a run that trained with cuts, as the source's view takes them."""
    cuts = run.table().drop_duplicates("variant").set_index("variant")
    summary, entropies = run.table("summary"), run.table("entropies")
    trainings = trainings_of(run.table())
    rows = []
    for row in summary[summary["variant"] != BASELINE].to_dict("records"):
        cut = cuts.loc[row["variant"]]
        rows.append(
            {
                "surgery": cut["surgery"],
                "section": title_of_part(run, row["variant"].replace("_", " ")),
                "file": cut["file"],
                "line": int(cut["line"]),
                "lines": row["lines"],
                "code": "\n".join(row["before"]),
                "after": "\n".join(row["after"]),
                "diff": cut["diff"],
                "reading": reading(row, entropies, trainings),
                "status": row["status"],
                "delta": row["delta"],
                "ci_low": row["ci_low"],
                "ci_high": row["ci_high"],
                "p_adjusted": row["p_adjusted"],
                "n": row["n"],
            }
        )
    return pd.DataFrame(rows)


def quiz_of(runs: Sequence[SavedRun]) -> Quiz | None:
    """Questions on the cuts that the runs made, each line the answer of one alone: two that lead to
    one line would answer each other. None where they made none or kept no source."""
    lines = source_lines_of(runs)
    if lines is None:
        return None
    file = str(lines["file"].iloc[0])
    questions: list[Question] = []
    for run in trained_with_cuts(runs):
        of_cuts = on_trainings(run, file)
        by_text = on_texts(of_cuts, run)[: len(of_cuts) // ONE_IN]
        questions = answered_once([*questions, *by_text, *of_cuts])
    for run in cut_after_training(runs):
        of_lines = answered_once([*questions, *on_trained_model(run.table(), file)])
        of_lines = of_lines[len(questions) :]
        by_text = on_texts(of_lines[OF_LINES:], run)[:OF_TEXTS]
        questions = [*questions, *of_lines[:OF_LINES], *by_text]
    questions = questions[:QUESTIONS]
    if not questions:
        return None
    telling = lines["sites"].map(len) > 0
    if "status" in lines:
        telling |= lines["status"] == Status.CHANGED
    telling &= ~lines["code"].str.contains(HANDED_ON)  # cutting it cuts what the line above made
    title = title_of_part(runs[0], Quiz.title)
    return Quiz(questions, file, list(lines["code"]), list(lines.loc[telling, "line"]), title)


def on_trainings(run: SavedRun, file: str) -> list[Question]:
    """A question for each cut that was made before training: its learning curve."""
    table, entropies = run.table(), run.table("entropies")
    val = table[table["split"] == "val"]
    levels = entropies[entropies["split"] == "val"]
    whole = curve_of(val[val["variant"] == BASELINE])
    trainings = trainings_of(table)
    questions = []
    for row in run.table("summary").to_dict("records"):
        rows = val[val["variant"] == row["variant"]]
        if row["variant"] == BASELINE or row["file"] != file:
            continue
        questions.append(
            Question(
                lines=list(row["lines"]),
                why=reading(row, entropies, trainings),
                diff=rows["diff"].iloc[0],
                surgery=str(rows["surgery"].iloc[0]),
                curve=curve_of(rows),
                whole=whole,
                levels=list(zip(levels["name"], levels["nats"].astype(float), strict=True)),
                bars=[
                    effect_bar(row, f"{loss} loss, {counted(row)}", kind)
                    for kind, loss in (("", "last"), ("best_", "best"))
                ],
            )
        )
    return questions


def answered_once(questions: Sequence[Question]) -> list[Question]:
    """Those of which no line is an answer of one before."""
    kept: list[Question] = []
    for one in questions:
        if not {*one.lines} & {line for before in kept for line in before.lines}:
            kept.append(one)
    return kept


def on_texts(questions: Sequence[Question], run: SavedRun) -> list[Question]:
    """The same questions, asked by what the cut model wrote, where the run has kept that; those
    first of which the text tells most."""
    by_surgery = {one.surgery: one for one in questions}
    return [
        replace(by_surgery[id], curve=None, whole=None, levels=(), bars=(), wrote=wrote)
        for id, wrote in texts_of_quiz(run).items()
        if id in by_surgery
    ]


def effect_bar(row: dict[Any, Any], name: str, kind: str = "") -> EffectBar:
    """An effect as the quiz draws it."""
    said = "" if row["status"] == Status.LEAK else str(verdict_of(row, kind))
    value, low, high = (float(row[f"{kind}{part}"]) for part in ("delta", "ci_low", "ci_high"))
    return EffectBar(name, value, low, high, said)


def curve_of(rows: pd.DataFrame) -> Curve:
    """Mean over seeds, from the lowest to the highest."""
    by_seed = rows.pivot_table(index="step", columns="seed", values="loss", dropna=False)
    mean = by_seed.mean(axis=1, skipna=False)
    kept = np.isfinite(mean.to_numpy())
    by_seed, mean = by_seed[kept], mean[kept]
    several = by_seed.shape[1] > 1
    return Curve(
        steps=by_seed.index.astype(float).tolist(),
        losses=mean.tolist(),
        low=by_seed.min(axis=1).tolist() if several else (),
        high=by_seed.max(axis=1).tolist() if several else (),
    )


def on_trained_model(table: pd.DataFrame, file: str) -> list[Question]:
    """Questions on the lines whose cut costs the trained model most: bars, layer by layer. A cut
    that many lines share, as of all that is read from nothing, is no question."""
    together = table[(table["layer"] == "all") & (table["status"] == Status.CHANGED)]
    found = headlines(table[table["file"] == file])
    sure = found[verdicts_of(found).map(lambda verdict: verdict.is_effect).astype(bool)]
    sure = sure.loc[sure["delta"].abs().sort_values(ascending=False).index]
    questions: list[Question] = []
    asked: set[int] = set()
    for row in sure.to_dict("records"):
        alike = together[np.isclose(together["delta"], row["delta"], rtol=0, atol=1e-9)]
        lines = sorted({int(row["line"]), *alike["line"].astype(int)})
        if len(lines) <= ALIKE and not asked & {*lines} and len(questions) < OF_LINES + OF_TEXTS:
            questions.append(on_line(row, lines, table))
            asked |= {*lines}
    return questions


def on_line(row: dict[Any, Any], lines: list[int], table: pd.DataFrame) -> Question:
    single = table[(table["surgery"] == row["surgery"]) & table["layer"].str.isdigit()]
    bars = [effect_bar(row, "trained model, all layers")]
    bars += [effect_bar(one, f"layer {one['layer']} alone") for one in single.to_dict("records")]
    return Question(
        lines=lines,
        why=f"{row['reading'].capitalize()}: {row['delta']:+.3f} nats on the trained model.",
        diff=f"-{row['code']}\n+{row['after']}\n",
        surgery=str(row["surgery"]),
        bars=bars,
    )


def quizzes_of(runs: Sequence[SavedRun]) -> list[Quiz]:
    """The questions on each source."""
    return [quiz for group in by_source(runs) if (quiz := quiz_of(group))]
