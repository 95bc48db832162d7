"""How do the runs of experiments become one page?

Each experiment tells of its own run, from what it has saved and from nothing else:

| in its module  | gives                                                                     |
|----------------|---------------------------------------------------------------------------|
| the docstring  | the question, in its first line                                           |
| ``TITLE``      | what its page is called                                                   |
| ``parts``      | what the page shows                                                       |
| ``effects``    | a table to rank (``experiments.telling``); or else                        |
| ``readings``   | sentences                                                                 |
| ``limits``     | what its numbers leave open, where there is more to say than of any run   |

    write_report(path, page_of([SavedRun.at(folder), SavedRun.at(another)]))
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd

from experiments.first_screen import first_screen
from experiments.joining import experiment, map_view, parts_of_quiz, source_view
from experiments.telling import told
from gpt.errors import UsageError, nearest
from interp.report import Page, Part, Section, write_report
from interp.report.attention import AttentionView
from interp.runs import SavedRun

# The order in which experiments are told together: the whole before its parts.
ORDER = (
    "course",
    "retrain",
    "lines",
    "components",
    "heads",
    "attribution",
    "attention",
    "patching",
    "neurons",
    "ladder",
)


def write_page(run: SavedRun) -> Path:
    """A run's own page, in its folder."""
    return write_report(run.folder / "report.html", page_of([run]))


def page_of(runs: Sequence[SavedRun], title: str = "") -> Page:
    """One page of some runs.

    Raises:
        UsageError: a run has not come to its end, or is of an experiment that is not known here;
            a table is damaged; two runs show different sources of the same name.
    """
    runs = sorted(runs, key=lambda run: place(experiment(run)))
    modules = [module_of(run) for run in runs]
    own: list[Part] = []
    for run, module in zip(runs, modules, strict=True):
        require_finished(run)
        own += module.parts(run)
    first, own = first_screen(runs, modules, own)
    shown = [*source_view(runs), *map_view(runs), *attention(runs), *own, *parts_of_quiz(runs)]
    warnings = mixed(runs)
    return Page(
        title=title or " · ".join(dict.fromkeys(module.TITLE for module in modules)),
        question=(modules[0].__doc__ or "").partition("\n")[0],
        parts=[*shown, made_again(runs)],
        first=first,
        provenance=[run.description for run in runs],
        summary=[*warnings, *studied(runs), *findings(runs, modules)],
        limitations=[*warnings, *limitations(runs, modules)],
    )


def called(run: SavedRun) -> str:
    return f"{experiment(run)}/{run.description.get('name', run.folder.name)}"


def place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def module_of(run: SavedRun) -> ModuleType:
    """The experiment that made a run."""
    name = experiment(run)
    known = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    if name in known:
        module = importlib.import_module(f"experiments.{name}")
        if hasattr(module, "parts"):
            return module
    near = nearest(name, [other for other in known if other in ORDER])
    raise UsageError(f"{run.folder} is of an experiment {name!r} that has no page; nearest: {near}")


def require_finished(run: SavedRun) -> None:
    """Raises ``UsageError`` where the run has not come to its table."""
    if not run.holds("results"):
        raise UsageError(
            f"{run.folder} has no table yet: its run is not finished. Start its command again and "
            f"it goes on: {run.command}"
        )


def attention(runs: Sequence[SavedRun]) -> list[Part]:
    """The patterns of the model under study, from whichever run has looked at them first."""
    for name in ("attention", *ORDER):
        for run in runs:
            if experiment(run) == name != "patching" and run.holds("patterns"):
                chosen = getattr(module_of(run), "chosen_head", None)
                return [AttentionView.of(run.table("patterns"), chosen and chosen(run))]
    return []


def studied(runs: Sequence[SavedRun]) -> list[str]:
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


def findings(runs: Sequence[SavedRun], modules: Sequence[ModuleType]) -> list[str]:
    """The largest effects of all runs together; of runs without effects, what they read."""
    tables, said = [], []
    for run, module in zip(runs, modules, strict=True):
        if hasattr(module, "effects"):
            tables.append(module.effects(run))
        elif hasattr(module, "readings"):
            said += module.readings(run)
    tables = [table for table in tables if len(table)]
    return (told(pd.concat(tables, ignore_index=True)) if tables else []) + said


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
            "line's number in one may be another line in the other."
        )
    return said


def source_of(run: SavedRun) -> str:
    """The hash of the model's source; empty where the run does not say."""
    given = run.description.get("provenance", {}).get("source_sha256")
    return str(given or run.description["config"].get("subject", {}).get("source", ""))


def limitations(runs: Sequence[SavedRun], modules: Sequence[ModuleType]) -> list[str]:
    """What the runs leave open; what is true of all is said once."""
    found: dict[str, list[str]] = {}
    for run, module in zip(runs, modules, strict=True):
        for sentence in [*(module.limits(run) if hasattr(module, "limits") else []), *of_any(run)]:
            found.setdefault(sentence, []).append(called(run))
    return [
        sentence if len(names) == len(runs) else f"{', '.join(names)}: {sentence}"
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


def made_again(runs: Sequence[SavedRun]) -> Section:
    """The command behind every figure."""
    rows = [
        {"figure": path.stem.replace("_", " "), "of": called(run), "command": run.command}
        for run in runs
        for path in sorted((run.folder / "figures").glob("*.svg"))
    ]
    text = (
        "Each figure comes from its run's saved tables; its command makes the run and the figure."
    )
    return Section("How to make each figure", text=text, table=pd.DataFrame(rows))
