"""What does a person ask to be cut, and what is known of it before anything is trained?

--cut 'model.py:189: x = attn_out'          what is to stand on a line
--cut 'x = x + attn_out => x = attn_out'    the text that goes, and the text that comes
--cut my_idea.diff                          a unified diff, of one file or of several
--cut edited_model.py                       a copy of the file, edited by hand
--cut edited_folder                         a copy of the folder, edited by hand: one cut
--cut 'no_residual=x = x + attn_out => x = attn_out'      any of them, with a name

cuts = own_cuts(config.cut, [source])
examined = say_before_training(lambda: study, cuts, folder_of_run, model=sizes, text=sha256)
examined.cuts                # as they are to be made
examined.keep(run)           # so that the same command started again need not find it out again
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tyro
from rich.table import Table

from experiments.support.cli import console
from experiments.support.keeping import hash_code
from gpt.errors import UsageError
from interp import errors, surgery
from interp.errors import SurgeryError
from interp.runs import Run, identity_of
from interp.runs.description import packages
from interp.runs.store import recorded_in
from interp.status import WITH_LOSS, Status
from interp.surgery import Source, Study, Surgery
from interp.surgery.source.edits import combine
from interp.surgery.source.own import to_text
from interp.surgery.source.syntax import parse
from interp.verdicts import interval_words, verdict_words

NAMED = re.compile(r"([A-Za-z_][\w.-]*)=(?![=>\s])(.+)", re.DOTALL)
AT_LINE = re.compile(r"(\S*\.py):(\d+):(.*)", re.DOTALL)
ARROW = "=>"
FORMS = (
    "'model.py:189: x = attn_out', 'x = x + attn_out => x = attn_out', my_idea.diff or "
    "edited_model.py"
)
Cuts = tyro.conf.UseAppendAction[tuple[str, ...]]
SAID = {
    Status.CHANGED: "it runs, and changes what the model computes",
    Status.EQUIVALENT: "it is the same function as before",
    Status.TRAIN_ONLY: "it changes only training",
    Status.RETRAIN_ONLY: "it is known by training alone",
    Status.LEAK: "it lets the model see the tokens that it is to predict: its loss will mean "
    "nothing",
    Status.DEAD: "it never runs",
}
STOPS = (Status.ERROR, Status.NONFINITE, Status.TIMEOUT, Status.LOST)


def own_cuts(
    asked: Sequence[str], sources: Sequence[Source], taken: Sequence[str] = ()
) -> dict[str, Surgery]:
    """The cuts that a command line asks for, by name, in its order.

    Args:
        asked: each in one of the four forms, with a name or without.
        sources: the files that can be cut; of the first where an edit does not say.
        taken: names that other variants have.

    Raises:
        UsageError: a form that is none of the four, an edit that cannot be made, two of one name.
    """
    found: dict[str, Surgery] = {}
    for text in asked:
        name, cut = own_cut(text, sources)
        if name in found or name in taken:
            raise UsageError(
                f"two cuts are called {name}: give this one another name, as in own_{name}=…"
            )
        found[name] = cut
    return found


def own_cut(text: str, sources: Sequence[Source]) -> tuple[str, Surgery]:
    """One cut and its name; where none is given, of its line. ``x=y => x=z`` is an edit without a
    name where the file says ``x=y``."""
    text = text.strip()
    named = NAMED.fullmatch(text)
    readings = [("", text)] + ([(named[1], named[2].strip())] if named else [])
    errors = []
    for name, what in readings:
        make = maker(what, sources)
        if make is None:
            continue
        try:
            cut = make(name)
        except SurgeryError as error:
            errors.append(str(error))
            continue
        return name or own_name(what, cut), cut
    if errors:
        raise UsageError(f"--cut {text!r}: {errors[-1]}")
    raise UsageError(f"--cut is {text!r}; write {FORMS}, or a name before it: my_cut=…")


def own_name(what: str, cut: Surgery) -> str:
    """What a cut is called where it is not said: after its file or its line."""
    path = Path(what)
    is_file = ARROW not in what and (path.suffix in (".diff", ".patch", ".py") or path.is_dir())
    return re.sub(r"[^\w.-]+", "_", path.stem) if is_file else f"line_{cut.line}"


def maker(what: str, sources: Sequence[Source]) -> Callable[[str], Surgery] | None:
    """What makes the cut of one reading; None where it has none of the forms."""
    if ARROW in what:
        old, _, new = what.partition(ARROW)
        return lambda name: cut_of_text(sources, old.strip(), new.strip(), name)
    if at := AT_LINE.fullmatch(what):
        return lambda name: surgery.at_line(
            source_named(at[1], sources), int(at[2]), at[3].strip(), name=name
        )
    path = Path(what)
    if path.suffix in (".diff", ".patch"):
        return lambda name: surgery.from_diff(sources, path, name=name)
    if path.suffix == ".py" or path.is_dir():
        return lambda name: cut_of_copy(sources, path, name)
    return None


def cut_of_text(sources: Sequence[Source], old: str, new: str, name: str) -> Surgery:
    """An edit of the one file that says ``old``; a ``pass`` where nothing comes."""
    saying = [source for source in sources if old and old in source.text]
    if len(saying) > 1:
        files = ", ".join(source.file for source in saying)
        raise SurgeryError(f"{files} say {old!r}: give its line, as in {saying[0].file}:12: {new}")
    return surgery.edit((saying or sources)[0], old, new or "pass", name=name)


def cut_of_copy(sources: Sequence[Source], path: Path, name: str) -> Surgery:
    """A copy that was edited by hand, of a file or of the folder of several."""
    if not path.exists():
        raise SurgeryError(f"there is no file {str(path)!r}: give the path of the edited copy")
    return surgery.between(sources, path, name=name)


def source_named(file: str, sources: Sequence[Source]) -> Source:
    """The file that a cut names, by its name or the end of its path."""
    wanted = Path(file).parts
    for source in sources:
        if source.path.parts[-len(wanted) :] == wanted:
            return source
    known = ", ".join(source.file for source in sources)
    raise SurgeryError(f"{file!r} is no file that can be cut; those are {known}")


@dataclass(frozen=True)
class KnownBefore:
    """What is known of cuts before anything is trained.

    Attributes:
        cuts: by name, as they are to be made: each in a branch where it runs.
        identity: of all that decides it.
        rows: what a run keeps of it under that identity.
    """

    cuts: dict[str, Surgery]
    identity: str
    rows: list[dict[str, str]]

    def keep(self, run: Run) -> None:
        """Let a run keep it, for ``say_before_training``."""
        if self.rows:
            run.record(self.identity, self.rows)


def say_before_training(
    make_study: Callable[[], Study], asked: Mapping[str, Surgery], folder: Path, **decided: Any
) -> KnownBefore:
    """Make each cut in a model that is not trained yet, run it on a text, and say what is known;
    where a run keeps what was found of the same, that is said.

    Args:
        make_study: of the model that is not trained yet; called where nothing is kept.
        folder: of the run, which need not have begun.
        decided: what decides the study, beside the code and the packages.

    Raises:
        UsageError: a cut with which the model does not run, or gives what is no number.
    """
    if not asked:
        return KnownBefore({}, "", [])
    made_by = {"code": hash_code(), "packages": packages()}
    identity = identity_of(what="cuts", cuts=identities(asked), decided=decided, **made_by)
    rows = kept_rows(folder / "tasks.sqlite", identity)
    if rows is None:
        rows = try_untrained(make_study(), asked)
    cuts = dict(asked)
    for row in rows:
        name, text = row["cut"], row["text"]
        if text:
            cuts[name] = to_text(asked[name].source, text, name)
        said = [f"cut     {name}: {cuts[name].label}", f"        {row['said']}"]
        if text:
            branch = "the branch that its line is in is taken, which alone is the same function"
            said.append(f"        {branch}")
        console.print(*said, sep="\n", soft_wrap=True, markup=False)
    return KnownBefore(cuts, identity, rows)


def kept_rows(store: Path, identity: str) -> list[dict[str, Any]] | None:
    """What a run's store keeps of a task; None where there is none, or it cannot be read, which is
    said when the run is opened."""
    with suppress(errors.UsageError):
        return recorded_in(store, identity) if store.exists() else None
    return None


def try_untrained(study: Study, asked: Mapping[str, Surgery]) -> list[dict[str, str]]:
    """What is known of each cut: ``cut said text``, the text of its file where it is made in a
    branch that is not taken otherwise."""
    rows = []
    cuts = take_branches(study, asked)
    for name, row in zip(cuts, study.posthoc(cuts.values()).to_dict("records"), strict=True):
        cut, status, detail = cuts[name], row["status"], row["detail"]
        if status in STOPS:
            what = "gives a loss that is no number" if status == Status.NONFINITE else "fails"
            raise UsageError(
                f"with the cut {name} ({cut.before} → {cut.after}) the model {what}: "
                f"{detail.replace('judge, ', '', 1)}; nothing was trained"
            )
        more = f" ({detail})" if detail and status != Status.LEAK else ""
        text = cut.text if cut != asked[name] else ""
        rows.append({"cut": name, "said": f"{SAID[status]}{more}", "text": text})
    return rows


def take_branches(study: Study, cuts: Mapping[str, Surgery]) -> dict[str, Surgery]:
    """The cuts; of one whose line does not run, the same edit with the branch taken in which it
    does, where there is one that computes the same function another way."""
    found = dict(cuts)
    waiting = [name for name, cut in cuts.items() if count_unreached(study, cut)]
    forced = [cut for cut in study.surgeries if cut.operator == "force-branch"]
    if not waiting or not forced:
        return found
    table = study.posthoc(forced)
    ways = [*(table.iloc[[row]] for row in range(len(table))), table]
    others = [other for other in map(study.spelled_out, ways) if other is not None]
    for name in waiting:
        cut = cuts[name]
        for other in others:
            branch = other.prepare
            if branch is None or branch.source != cut.source:
                continue
            if count_unreached(other, cut) < count_unreached(study, cut):
                found[name] = to_text(cut.source, combine([branch, cut]).text, name)
                break
    return found


def count_unreached(study: Study, cut: Surgery) -> int:
    """How many of the statements that a cut edits did not run in a study."""
    syntax, noted = parse(cut.source), study.observations[cut.source]
    edited = {syntax.statement_at(edit.start) for edit in cut.edits} | {
        node
        for node in syntax.statements
        for edit in cut.edits
        if edit.start <= syntax.span(node)[0] < edit.stop
    }
    return sum(node is not None and not noted.phases(node) for node in edited)


def identities(cuts: Mapping[str, Surgery]) -> dict[str, str]:
    """What decides each cut, for a run's settings."""
    return {name: cut.identity for name, cut in cuts.items()}


def names_of_cuts(cuts: Mapping[str, Surgery]) -> list[str]:
    """For a run's name: two edits under one name are two runs."""
    return [f"{name}-{cut.identity[:6]}" for name, cut in cuts.items()]


def list_cuts(study: Study) -> Path:
    """Print every cut that applies, by line; returns the path of the file."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("id, for --surgeries", "line", "becomes"):
        table.add_column(name, overflow="fold")
    for cut in study.surgeries:
        table.add_row(cut.id, cut.before, cut.after)
    console.print(table, markup=False)
    console.print("of your own: --cut with " + FORMS, soft_wrap=True, markup=False)
    return study.sources[0].path


def of_own_cuts(table: pd.DataFrame, cuts: Mapping[str, Surgery]) -> list[str]:
    """What each cut of one's own does to the trained model, in all layers: a sentence each."""
    rows = table[table["layer"] == "all"].drop_duplicates("id").set_index("id")
    found = {name: rows.loc[cut.id].to_dict() for name, cut in cuts.items() if cut.id in rows.index}
    return [f"{name}: {of_damage(row)}" for name, row in found.items()]


def of_damage(row: Mapping[Any, Any]) -> str:
    """What a cut does to the trained model, in a sentence."""
    if row["status"] not in WITH_LOSS:
        said = row["detail"] or SAID.get(row["status"], row["status"])
        return f"Cut from the trained model: {said}."
    return (
        f"Cut from the trained model, the loss changes by {row['delta']:+.3f} nats "
        f"({interval_words(row)}): {verdict_words(row)}."
    )
