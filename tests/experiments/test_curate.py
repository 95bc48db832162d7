"""A folder of documents becomes a text, and the run tells what each step of the pipeline did."""

import re
from pathlib import Path

import pytest

from experiments.curate import Config, main
from experiments.support.cli import launch
from interp.curation import Pipeline, make_document
from interp.runs import SavedRun
from tests.interp.curation.piles_of_tests import bytes_of, mixed_pile


@pytest.fixture(scope="module")
def pile(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for document in mixed_pile():
        path = folder / document.source
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(getattr(document, "text", "\0picture").encode())
    return folder


@pytest.fixture(scope="module")
def run(pile, tmp_path_factory) -> SavedRun:
    page = main(Config((pile,), runs=tmp_path_factory.mktemp("runs"), name="all"))
    return SavedRun.at(page.parent)


def test_a_run_holds_the_text_and_what_each_step_did(run, pile):
    table = run.table()
    assert table["step"].tolist() == Pipeline.default().names
    assert table["documents_in"].tolist()[1:] == table["documents_out"].tolist()[:-1]
    assert table["characters_in"].tolist()[1:] == table["characters_out"].tolist()[:-1]
    assert (table["documents_in"] - table["documents_out"]).equals(table["dropped"])
    raw = sum(
        len(path.read_bytes().decode()) for path in pile.rglob("*.*") if path.suffix != ".png"
    )
    assert table["characters_in"].iloc[0] == raw
    masked = table.set_index("step")["masked"]
    assert masked["private"] == 1 and masked.sum() == 1
    for step in Pipeline.default().steps:
        row = table.set_index("step").loc[step.name]
        assert Path(row["file"]).read_text().splitlines()[row["line"] - 1].startswith("def ")
    assert run.table("skipped").to_dict("records") == [
        {"source": "picture.png", "reason": "is no text: it holds zero bytes"}
    ]
    text = run.folder / "text"
    kept = table["characters_out"].iloc[-1]
    between = 2 * (table["documents_out"].iloc[-1] - 2)
    assert sum(len(part.decode()) for part in bytes_of(text).values()) == kept + between
    page = (run.folder / "report.html").read_text()
    assert "near_duplicates takes" in page or "markup takes" in page
    assert "picture.png" in page and (run.folder / "figures" / "steps.svg").exists()
    assert (text / "card.json").exists() and (text / "card.html").exists()


def test_the_same_command_makes_nothing_anew(run, pile, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in (run.folder / "text").glob("*.txt")}
    monkeypatch.setattr("experiments.curate.run_pipeline", None)
    main(Config((pile,), runs=run.folder.parents[1], name="all"))
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_text_that_was_damaged_is_made_again(run, pile):
    path = run.folder / "text" / "train.txt"
    made = path.read_bytes()
    path.write_bytes(made[:-5])
    main(Config((pile,), runs=run.folder.parents[1], name="all"))
    assert path.read_bytes() == made


def test_results_inside_the_folder_are_not_read(pile, tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for path in pile.rglob("*.txt"):
        (folder / path.name).write_bytes(path.read_bytes())
    first = main(Config((folder,), runs=folder / "runs"))
    again = main(Config((folder,), runs=folder / "runs", name="again"))
    assert bytes_of(first.parent / "text") == bytes_of(again.parent / "text")


def test_the_pipeline_is_printed_as_it_can_be_given(pile, tmp_path, capsys, run):
    main(Config(show_pipeline=True))
    own = tmp_path / "mine.toml"
    own.write_text(capsys.readouterr().out)
    assert Pipeline.from_toml(own).names == Pipeline.default().names
    page = main(Config((pile,), own, runs=tmp_path / "runs"))
    assert bytes_of(page.parent / "text") == bytes_of(run.folder / "text")
    less = main(Config((pile,), own, without=("markup",), runs=tmp_path / "runs"))
    assert less.parent.name.endswith("without-markup")
    assert "<nav>" in "".join(map(bytes.decode, bytes_of(less.parent / "text").values()))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nowhere"], r"'nowhere' is given to read, and there is no such file or folder"),
        (["."], r"there is no file in '\.'"),
        (["--without", "near"], r"no step 'near'; nearest: near_duplicates"),
        (["--pipeline", "none.toml"], r"the pipeline 'none.toml' cannot be read"),
        (["--at-most", "0"], r"--at-most is 0; it must be from 1"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        launch(main, Config, argv)
    assert ended.value.code == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


def test_a_pile_that_changed_is_another_run(tmp_path, pile):
    folder = tmp_path / "documents"
    folder.mkdir()
    for document in mixed_pile()[:20]:
        (folder / document.source.replace("/", "-")).write_text(document.text)
    main(Config((folder,), runs=tmp_path / "runs", name="one"))
    (folder / "more.txt").write_text(make_document("x", "y" * 300).text)
    with pytest.raises(ValueError, match="begun"):
        main(Config((folder,), runs=tmp_path / "runs", name="one"))
