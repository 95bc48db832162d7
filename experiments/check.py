"""Is everything in a finished run's folder as the run left it?

Every recorded row, table and weights file carries a checksum. This command reads them all, and says
in one line a file what is sound and what is not; it changes nothing.

    python -m experiments.check course/demo-python-docs
    python -m experiments.check runs/course/demo-python-docs runs/heads/demo-python-docs

How to read it: what is damaged is never shown as a result. A row that fails its checksum is
computed again, and a table, figure or page is made anew, when the run's own command, which is named
at the end, is started again; weights are trained again. A source or text that is no longer what the
run read does not make its numbers wrong: they are of another file than the one that is there now.

Exit status 0 where all is sound, 1 where something is not.
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import torch
import tyro
from PIL import Image

import gpt.model
from experiments.support.cli import console, launch
from experiments.support.grading.sound import (
    FileVerdict,
    folder_of_run,
    of_store,
    of_tables,
    of_weights,
)
from experiments.support.named.checkpoints import load_checkpoint
from experiments.support.named.kinds import Kind, kind_of
from experiments.support.named.reading import load_transformers
from experiments.support.retraining import hash_file
from experiments.support.trained import nothing_to_check
from gpt.errors import UsageError
from gpt.foreign import from_nanogpt
from gpt.text import load_corpus
from interp.errors import UsageError as InterpError
from interp.runs import SavedRun, holder
from interp.runs.saved import TABLES
from interp.surgery.judging import weights_hash


@dataclass(frozen=True)
class Config:
    """The checksums of runs."""

    run: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs, or their names under --runs: course/demo-python-docs."""
    runs: Path = Path("runs")
    """Where run folders are."""


def main(config: Config) -> None:
    if not config.run:
        raise UsageError("no run is given: name folders such as runs/course/demo-python-docs")
    folders = [folder_of_run(name, config.runs) for name in dict.fromkeys(config.run)]
    wrong = [folder for folder in folders if not is_sound(folder)]
    if wrong:
        sys.exit(1)


def is_sound(folder: Path) -> bool:
    """Whether a run's folder is sound; every file's verdict is printed."""
    console.print(f"[bold]{folder}[/bold]", soft_wrap=True)
    faulty = 0
    for verdict in verdicts(folder):
        faulty += bool(verdict.fault)
        said = f"WRONG: {verdict.fault}" if verdict.fault else verdict.told
        console.print(f"  {verdict.file:<34} {said}", soft_wrap=True, markup=False)
    if faulty:
        console.print(f"{faulty} not sound{advice(folder)}", soft_wrap=True, markup=False)
    return not faulty


def advice(folder: Path) -> str:
    try:
        return f"; the command that makes them anew: {SavedRun.at(folder).command}"
    except InterpError:
        return ""


def verdicts(folder: Path) -> Iterator[FileVerdict]:
    """What is true of each file of a run, one after another."""
    try:
        run = SavedRun.at(folder)
    except InterpError as error:
        yield FileVerdict("run.json", fault=str(error))
        return
    yield of_description(run)
    yield of_store(run)
    yield from of_tables(run)
    yield from of_figures(run)
    yield from of_weights(run)
    yield from of_inputs(run)
    yield from of_named_model(run)


def of_description(run: SavedRun) -> FileVerdict:
    """``run.json``, and whether the run is at its end."""
    if at_it := holder(run.folder):
        return FileVerdict("run.json", fault=f"the run is under way: {at_it} holds it")
    if not (run.folder / "report.html").exists() and not (run.folder / "data_card.html").exists():
        return FileVerdict("run.json", fault="the run is not finished: it has no page")
    return FileVerdict("run.json")


def of_figures(run: SavedRun) -> Iterator[FileVerdict]:
    """Every figure: whole, and of the tables that are there now."""
    now = run.digests()
    for path in sorted((run.folder / "figures").glob("*")):
        name = f"figures/{path.name}"
        content = path.read_bytes()
        found = TABLES.search(content)
        if found is None or not image_is_whole(path, content):
            yield FileVerdict(name, fault="it is damaged, or was not drawn by this run")
            continue
        made_of = dict(one.split("=") for one in found[1].decode().split())
        older = [table for table, digest in made_of.items() if now.get(table) != digest]
        fault = f"it was drawn from another {', '.join(older)} than is there" if older else ""
        yield FileVerdict(name, fault=fault)


def image_is_whole(path: Path, content: bytes) -> bool:
    """Whether an image's file can be read to its end."""
    try:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".svg":
            ElementTree.fromstring(content)
        else:
            return content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def of_inputs(run: SavedRun) -> Iterator[FileVerdict]:
    """The text and the source that the run read, against what is on disk now."""
    given, config = run.description["provenance"], run.description["config"]
    text = config.get("text") or config.get("subject", {}).get("text")
    if isinstance(text, dict):
        where = option(run.command, "--text") or str(text["name"])
        try:
            now = load_corpus(where).sha256
            fault = "" if now == text["sha256"] else "it is another text than the run read"
            yield FileVerdict(f"text {where}", "the one that the run read", fault)
        except UsageError:
            yield FileVerdict(f"text {where}", "not compared: it is not to be found from here")
    subject = config.get("subject", {})
    source = given.get("source_sha256") or (not subject.get("surgery") and subject.get("source"))
    if isinstance(source, str) and source:
        model = option(run.command, "--model").rpartition(":")[0]  # of FILE.py:Class
        path = Path(model or str(gpt.model.__file__))
        fault = "" if hash_file(path) == source else "it is another source than the run read"
        if path.is_file():
            yield FileVerdict(f"source {path.name}", "the one that the run read", fault)
        else:
            yield FileVerdict(f"source {path}", "not compared: it is not to be found from here")


def of_named_model(run: SavedRun) -> Iterator[FileVerdict]:
    """The weights of a model that a word names, against those that the run read."""
    subject = run.description["config"].get("subject", {})
    name = str(subject.get("named") or "")
    if not name or "weights" not in subject:
        return
    told = f"model {name}"
    try:
        now = hash_of_named(name, str(subject["dtype"]), run.folder.parents[1])
    except UsageError:
        now = None
    if now is None:
        yield FileVerdict(told, "not compared: it is not to be found from here")
    else:
        fault = "" if now == subject["weights"] else "its weights are others than the run read"
        yield FileVerdict(told, "the one that the run read", fault)


def hash_of_named(name: str, dtype: str, runs: Path) -> str | None:
    """The hash of the weights that a word names now; None of a class, which is built for a text."""
    kind, cpu = kind_of(name), torch.device("cpu")
    model: torch.nn.Module
    if kind is Kind.TRANSFORMERS:
        model = load_transformers(name, dtype, cpu, runs, nothing_to_check).model
    elif kind is Kind.CHECKPOINT:
        model = load_checkpoint(Path(name), nothing_to_check).model
    elif kind is Kind.NANOGPT:
        model = from_nanogpt(name.removeprefix("nanogpt:"))
    else:
        return None
    return weights_hash(model.to(getattr(torch, dtype)))


def option(command: str, name: str) -> str:
    """What a command gives an option; empty where it does not."""
    words = shlex.split(command)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


if __name__ == "__main__":
    launch(main, Config)
