"""A pipeline keeps account of every character, and its text depends on nothing but documents and
steps."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice

import pandas as pd
import pytest

from experiments.support.trainings.executors import InProcess, Processes
from interp.curation import Document, Pipeline, Skipped, Step, make_document, run_pipeline
from interp.curation import stages as curation_stages
from interp.curation.running import BETWEEN
from interp.errors import UsageError
from tests.interp.curation.piles_of_tests import bytes_of, mixed_pile, pipeline_of, sentences


def test_histories_account_for_every_character(tmp_path):
    pile = mixed_pile()
    curated = run_pipeline(Pipeline.default(), pile, tmp_path / "out")
    histories = curated.histories
    for _, steps in histories.groupby("document"):
        rows = steps.sort_values("order")
        assert rows["order"].tolist() == list(range(len(rows)))
        after = rows["characters_after"].tolist()[:-1]
        assert rows["characters_before"].tolist()[1:] == after
        assert not rows["dropped"].iloc[:-1].any()
    raw = sum(len(document.text) for document in pile if isinstance(document, Document))
    first, last = histories["order"] == 0, histories["step"] == "split"
    assert histories.loc[first, "characters_before"].sum() == raw
    change = histories["characters_after"] - histories["characters_before"]
    assert raw + change.sum() == histories.loc[last, "characters_after"].sum()
    kept = histories.loc[last].set_index("document")["characters_after"]
    assert curated.table.set_index("document")["characters"].to_dict() == kept.to_dict()
    for part, text in (("train", curated.train), ("val", curated.val)):
        documents = curated.table[curated.table["split"] == part]
        between = len(BETWEEN) * (len(documents) - 1)
        assert len(text) == documents["characters"].sum() + between
        assert text == BETWEEN.join(document.text for document in curated.documents(part))


def test_each_fault_is_dropped_by_the_step_that_is_there_for_it(tmp_path):
    curated = run_pipeline(Pipeline.default(), mixed_pile(), tmp_path / "out")
    dropped = curated.histories[curated.histories["dropped"]].set_index("source")
    assert dropped["step"].to_dict() == {
        "prose/03.txt": "exact_duplicates",
        "prose/04.txt": "near_duplicates",
        "short.txt": "lengths",
    }
    assert dropped["reason"]["prose/03.txt"] == "the same as copy.txt"
    notes = curated.notes.groupby(["step", "what"])["count"].sum()
    assert notes["private", "e-mail address"] == 1
    assert curated.skipped.to_dict("records") == [
        {"source": "picture.png", "reason": "is a picture"}
    ]
    whole = curated.train + curated.val
    assert "ann.lee" not in whole and "<EMAIL>" in whole
    assert "Shop" not in whole and "http://x.org" not in whole


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_neither_the_order_of_files_nor_the_size_of_chunks_shows_in_the_text(
    tmp_path, monkeypatch, chunk
):
    pile = mixed_pile()
    first = run_pipeline(Pipeline.default(), pile, tmp_path / "a")
    expected = bytes_of(first.folder)
    shuffled = random.Random(chunk).sample(pile, len(pile))
    monkeypatch.setattr(curation_stages, "CHUNK", chunk)
    again = run_pipeline(Pipeline.default(), shuffled, tmp_path / "b")
    assert bytes_of(again.folder) == expected
    same_order = run_pipeline(Pipeline.default(), pile, tmp_path / "d")
    assert tables_of(same_order.folder) == tables_of(first.folder)
    other_seed = run_pipeline(Pipeline.default(), pile, tmp_path / "c", seed=1)
    assert bytes_of(other_seed.folder) != expected


@pytest.mark.parametrize("elsewhere", [InProcess(), Processes(2)])
def test_workers_leave_the_same_bytes(tmp_path, monkeypatch, elsewhere):
    pile = mixed_pile()
    alone = run_pipeline(Pipeline.default(), pile, tmp_path / "alone")
    monkeypatch.setattr(curation_stages, "CHUNK", 4)
    monkeypatch.setattr(curation_stages, "WINDOW", 3)
    shared = run_pipeline(Pipeline.default(), pile, tmp_path / "shared", elsewhere=elsewhere)
    assert bytes_of(shared.folder) == bytes_of(alone.folder)
    assert tables_of(shared.folder) == tables_of(alone.folder)


def test_a_run_that_was_killed_goes_on_where_it_was_and_leaves_the_same_bytes(tmp_path):
    pile, seen = mixed_pile(), []

    def counting(documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            seen.append(document.id)
            yield document

    def dying(documents: Iterable[Document]) -> Iterator[Document]:
        yield from islice(documents, 3)
        raise KeyboardInterrupt

    default, count = Pipeline.default().steps, Step("counting", counting)
    whole = Pipeline((count, *default))
    expected = run_pipeline(whole, pile, tmp_path / "expected", identity="pile")
    read, out = len(seen), tmp_path / "out"
    killed = Pipeline((count, *default[:-2], Step("dying", dying), default[-1]))
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(killed, pile, out, identity="pile")
    assert len(seen) == 2 * read and not (out / "train.txt").exists()
    again = run_pipeline(whole, pile, out, identity="pile")
    assert len(seen) == 2 * read
    assert bytes_of(again.folder) == bytes_of(expected.folder)
    assert tables_of(again.folder) == tables_of(expected.folder)
    assert not (out / "unfinished").exists()
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(killed, pile, out, identity="pile")
    run_pipeline(whole, pile, out, identity="another pile")
    assert len(seen) == 4 * read  # another pile is read anew


def tables_of(folder):
    names = ("histories", "notes", "documents", "skipped")
    return {name: pd.read_parquet(folder / f"{name}.parquet").to_dict("list") for name in names}


def test_leaving_out_a_step_that_does_nothing_changes_no_byte(tmp_path):
    pile = [make_document(f"{n}.txt", sentences(12, n)) for n in range(12)]
    whole = run_pipeline(Pipeline.default(), pile, tmp_path / "whole")
    for step in ("private", "quality", "markup", "exact_duplicates"):
        assert not whole.histories.query("step == @step")[["changed", "dropped"]].any(axis=None)
        left_out = run_pipeline(Pipeline.default().without(step), pile, tmp_path / step)
        assert bytes_of(left_out.folder) == bytes_of(whole.folder)


def test_a_document_given_twice_counts_once(tmp_path):
    pile = mixed_pile()
    twice = run_pipeline(Pipeline.default(), [*pile, pile[0]], tmp_path / "twice")
    once = run_pipeline(Pipeline.default(), pile, tmp_path / "once")
    assert bytes_of(twice.folder) == bytes_of(once.folder)
    assert twice.skipped["reason"].tolist() == ["is a picture", "was given twice"]


def losing(documents: Iterable[Document]) -> Iterator[Document]:
    return (document for document in documents if document.source != "3")


def repeating(documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        yield document
        yield document


def inventing(documents: Iterable[Document]) -> Iterator[Document]:
    yield from documents
    yield make_document("new", "text")


def failing(documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        yield document.with_text(document.text[int(document.source) - 3] * 9)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (losing, "yields '4' where '3' is due"),
        (repeating, "yields '0' where '1' is due"),
        (inventing, "yields 'new' when all documents have been"),
        (failing, "fails at the document '9': IndexError"),
    ],
)
def test_a_step_that_does_not_give_back_what_it_got_is_refused(tmp_path, step, said):
    pile = [make_document(str(n), "abcdef") for n in range(10)]
    with pytest.raises(UsageError, match=said):
        run_pipeline(pipeline_of(step), pile, tmp_path / "out")


@pytest.mark.parametrize(
    ("pile", "pipeline", "said"),
    [
        ([], Pipeline.default(), "no document is left: none came in"),
        ([Skipped("a", "is empty")], Pipeline.default(), "no document is left: none came in"),
        (
            [make_document(name, "too short") for name in ("a.txt", "b.txt")],
            Pipeline.default().without("exact_duplicates").without("near_duplicates"),
            r"lengths dropped 2 of 2, such as a.txt \(has 9 characters, fewer than 200\)",
        ),
        (
            [make_document("a", sentences(12, 0))],
            Pipeline.default(),
            "one document is left, and none of them to train on",
        ),
        (mixed_pile(), Pipeline.default().without("split"), "put the step split at the end"),
    ],
)
def test_a_pile_that_makes_no_text_is_refused_in_a_sentence(tmp_path, pile, pipeline, said):
    with pytest.raises(UsageError, match=said):
        run_pipeline(pipeline, pile, tmp_path / "out")
