"""A pipeline is read from a file, and what is wrong in it is said in a sentence."""

import pytest

from interp.curation import Pipeline, make_document, run_pipeline
from interp.errors import UsageError
from tests.interp.curation.piles_of_tests import sentences


def written(tmp_path, text: str):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_default_pipeline_is_the_same_after_it_was_written_and_read(tmp_path):
    default = Pipeline.default()
    again = Pipeline.from_toml(written(tmp_path, default.to_toml()))
    assert again.names == default.names
    assert again.to_toml() == default.to_toml()


def test_a_step_of_ones_own_runs_beside_the_others(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def drop_word(documents, *, word='boats'):\n"
        "    for document in documents:\n"
        "        if word in document.source:\n"
        "            yield document.drop(f'is called {word}')\n"
        "        else:\n"
        "            yield document\n"
    )
    path = written(
        tmp_path, '[[step]]\nname = "mine.py:drop_word"\nword = "b"\n[[step]]\nname = "split"\n'
    )
    pipeline = Pipeline.from_toml(path)
    own = pipeline.steps[0]
    assert (own.file, own.line) == (str(tmp_path / "mine.py"), 1)
    assert own.code == "def drop_word(documents, word)"
    pile = [make_document(f"{name}{n}", sentences(3, n)) for n in range(5) for name in "ab"]
    curated = run_pipeline(pipeline, pile, tmp_path / "out")
    dropped = curated.histories[curated.histories["dropped"]]
    assert set(dropped["source"]) == {f"b{n}" for n in range(5)}


def test_steps_and_options_decide_the_identity():
    default = Pipeline.default()
    changed = default.with_options("lengths", at_least=10)
    same = default.with_options("lengths", at_least=10)
    ids = [step.identity for step in default.steps]
    assert len(set(ids)) == len(ids)
    assert [
        a.identity == b.identity for a, b in zip(default.steps, changed.steps, strict=True)
    ] == [step.name != "lengths" for step in default.steps]
    assert [s.identity for s in same.steps] == [s.identity for s in changed.steps]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[step]\n", "is no TOML"),
        ("a = 1\n", r"names a; it must hold \[\[step\]\] tables"),
        ("[[step]]\nunicode = 'NFC'\n", "has no name"),
        ("[[step]]\nname = 'length'\n", "'length' is no step; nearest: lengths"),
        ("[[step]]\nname = 'lengths'\natleast = 3\n", "no option 'atleast'; nearest: at_least"),
        (
            "[[step]]\nname = 'lengths'\nat_least = 'x'\n",
            "is 'x'; it must be like its default, 200",
        ),
        ("[[step]]\nname = 'lengths'\nat_least = true\n", "is True; it must be like its default"),
        ("[[step]]\nname = 'normalise'\nunicode = 'NFX'\n", "'NFC' or 'NFC', 'NFKC'"),
        ("[[step]]\nname = 'language'\nkeep = 'en'\n", "is 'en'; it must be like its default"),
        ("[[step]]\nname = 'none.py:f'\n", "there is no file"),
        ("[[step]]\nname = 'bad.py:f'\n", "fails: SyntaxError"),
        ("[[step]]\nname = 'good.py:f'\n", "has no function 'f'; nearest: ff"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, text, said):
    (tmp_path / "bad.py").write_text("def f(:\n")
    (tmp_path / "good.py").write_text("def ff(documents):\n    return documents\n")
    with pytest.raises(UsageError, match=said):
        Pipeline.from_toml(written(tmp_path, text))


def test_a_file_that_is_not_there_and_a_step_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: no such file"):
        Pipeline.from_toml(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="no step 'qualty'; nearest: quality"):
        Pipeline.default().without("qualty")
