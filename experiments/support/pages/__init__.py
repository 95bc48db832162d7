"""How do the runs of experiments become one page?

Each experiment tells of its own run, from what it has saved and from nothing else; its record
(``experiments.support.record``) says how.

    write_report(path, page_of([SavedRun.at(folder), SavedRun.at(another)]))
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.support.listing import questions, record_of
from experiments.support.pages.first_screen import first_screen
from experiments.support.pages.joining import map_view, quiz_of, source_view
from experiments.support.pages.sources import by_source, name_part
from experiments.support.pages.telling import tell
from experiments.support.record import Experiment
from experiments.support.sampling import writing_parts
from gpt.errors import UsageError
from interp.report import Page, Part, write_report
from interp.report.attention import AttentionView
from interp.runs import SavedRun

Told = tuple[Experiment, SavedRun]


def write_page(run: SavedRun) -> Path:
    """A run's own page, in its folder."""
    return write_report(run.folder / "report.html", page_of([run]))


def page_of(runs: Sequence[SavedRun], title: str = "") -> Page:
    """One page of some runs.

    Raises:
        UsageError: a run has not come to its end, or is of an experiment that is not known here;
            a table is damaged.
    """
    for run in runs:
        record_of(run)
        require_finished(run)
    groups = [sorted(group, key=lambda run: record_of(run).rank) for group in by_source(runs)]
    told = sorted(
        ((record_of(run), run) for group in groups for run in group),
        key=lambda pair: pair[0].rank,
    )
    runs = [run for _, run in told]
    own = [name_part(run, part) for experiment, run in told for part in experiment.parts(run)]
    effects = joint_effects(told)
    first, own = first_screen(effects, own)
    shown = [
        *(part for group in groups for part in source_view(group)),
        *(part for group in groups for part in map_view(group)),
        *writing_parts(runs),
        *attention_parts(told),
        *own,
        *(quiz for group in groups if (quiz := quiz_of(group))),
    ]
    warnings = mixed(runs)
    return Page(
        title=title or " · ".join(dict.fromkeys(experiment.title for experiment, _ in told)),
        question=questions()[told[0][0].name],
        parts=shown,
        first=first,
        provenance=[run.description | figures_of(run) for run in runs],
        summary=[*warnings, *subject_sentences(runs), *findings(told, effects)],
        limitations=[*warnings, *limitations(told)],
    )


def called(run: SavedRun) -> str:
    return f"{run.description.get('experiment', '')}/{run.description.get('name', run.folder.name)}"


def require_finished(run: SavedRun) -> None:
    """Raises ``UsageError`` where the run has not come to its table."""
    if not run.holds("results"):
        raise UsageError(
            f"{run.folder} has no table yet: its run is not finished. Start its command again and "
            f"it goes on: {run.command}"
        )


def attention_parts(told: Sequence[Told]) -> list[Part]:
    """The patterns of the model under study, from a run that chose a head if there is one."""
    kept = [one for one in told if one[0].shows_attention and one[1].holds("patterns")]
    for experiment, run in sorted(kept, key=lambda one: one[0].chosen_head is None):
        chosen = experiment.chosen_head and experiment.chosen_head(run)
        return [AttentionView.of(run.table("patterns"), chosen)]
    return []


def subject_sentences(runs: Sequence[SavedRun]) -> list[str]:
    """Which models and texts these are, one sentence for each that differs."""
    said: dict[str, None] = {}
    for run in runs:
        config = run.description["config"]
        about = config.get("subject", config)
        size, recipe = about.get("model"), about.get("train")
        if not isinstance(size, dict) or "n_layer" not in size:
            continue
        sentence = (
            f"The model: {size['n_layer']} layers of {size['n_head']} heads, {size['n_embd']} "
            f"wide, on {size['block_size']} characters at a time"
        )
        if recipe:
            sentence += f", trained for {recipe['steps']} steps of {recipe['batch_size']} blocks"
        if text := text_of(run):
            sentence += f" on {text[0]} (sha256 {text[1][:12]})"
        said[f"{sentence}."] = None
    return list(said)


def text_of(run: SavedRun) -> tuple[str, str] | None:
    """Name and hash of the text a run read."""
    config, given = run.description["config"], run.description.get("provenance", {})
    text = config.get("text") or config.get("subject", {}).get("text")
    if isinstance(text, dict):
        return str(text["name"]), str(text["sha256"])
    if "text_sha256" in given:
        return "a text", str(given["text_sha256"])
    return None


def joint_effects(told: Sequence[Told]) -> pd.DataFrame | None:
    """The effects of all runs together; None where there are none."""
    tables = [one.effects(run) for one, run in told if one.effects is not None]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else None


def findings(told: Sequence[Told], effects: pd.DataFrame | None) -> list[str]:
    """The largest effects of all runs together; of runs without effects, what they read."""
    said = [] if effects is None else tell(effects)
    for experiment, run in told:
        if experiment.effects is None and experiment.readings is not None:
            said += experiment.readings(run)
    return said


def mixed(runs: Sequence[SavedRun]) -> list[str]:
    """Warnings where runs are put together that do not belong together."""
    said = []
    texts = {text[1]: f"{text[0]} ({called(run)})" for run in runs if (text := text_of(run))}
    if len(texts) > 1:
        said.append(
            f"Careful: these runs read different texts, {' and '.join(texts.values())}; their "
            "losses cannot be compared."
        )
    sources = {given: called(run) for run in runs if (given := source_of(run))}
    if len(sources) > 1:
        said.append(
            f"Careful: these runs are of different sources ({', '.join(sources.values())}); a "
            "line's number in one may be another line in the other, so each line is called after a "
            "run of its source."
        )
    return said


def source_of(run: SavedRun) -> str:
    """The hash of the model's source; empty where the run does not say."""
    given = run.description.get("provenance", {}).get("source_sha256")
    return str(given or run.description["config"].get("subject", {}).get("source", ""))


def limitations(told: Sequence[Told]) -> list[str]:
    """What the runs leave open; what is true of all is said once."""
    found: dict[str, list[str]] = {}
    for experiment, run in told:
        own = experiment.limits(run) if experiment.limits is not None else []
        for sentence in [*own, *of_any(run)]:
            found.setdefault(sentence, []).append(called(run))
    return [
        sentence if len(names) == len(told) else f"{', '.join(names)}: {sentence}"
        for sentence, names in found.items()
    ]


def of_any(run: SavedRun) -> list[str]:
    """What any run leaves open."""
    said = []
    config, commit = run.description["config"], str(run.description.get("commit") or "")
    if isinstance(config.get("seed"), int) or "subject" in config:
        said.append("One trained model of one seed: another seed may give other numbers.")
    if "examples" in config:
        said.append(
            f"Measured on {config['examples']} texts; intervals are over these, not over models."
        )
    if text_of(run):
        said.append("One text: nothing here says what another would show.")
    changes = [
        change for change in run.description.get("resumed", []) if {*change} - {"at", "command"}
    ]
    if changes:
        said.append(f"Computed in {len(changes) + 1} sittings, of which later ones differ (below).")
    if "uncommitted" in commit:
        said.append("The code had uncommitted changes: the commit alone does not say what ran.")
    return said


def figures_of(run: SavedRun) -> dict[str, list[str]]:
    """What the figures are called that the run's command makes."""
    names = [path.stem.replace("_", " ") for path in sorted((run.folder / "figures").glob("*.svg"))]
    return {"figures": names} if names else {}
