"""A page shows texts beside each other, marks where they part, and acts on nothing in them."""

from dataclasses import replace

import pandas as pd
import pytest

from interp.report import Page, WritingView, write_report
from interp.report.markdown import write_markdown
from interp.samples import KnownText, compare_samples, measure_texts

NASTY = "<script>alert(1)</script>&\x1b[31m ```"


def view(**changes) -> WritingView:
    texts = {
        "none": ["the cat sat", "on the mat", "a big cat"],
        "cut": ["the dog sat", "on the mat", NASTY],
        "same": ["the cat sat", "on the mat", "a big cat"],
    }
    samples = pd.DataFrame(
        {"variant": name, "prompt": f"p{at} ", "seed": 0, "text": text, "detail": ""}
        for name, written in texts.items()
        for at, text in enumerate(written)
    )
    measured = measure_texts(samples, KnownText("the cat sat on the mat, a big cat"))
    compared = compare_samples(measured, "none")
    given = {"labels": {"cut": "model.py:7"}, **changes}
    return WritingView("What each writes", measured, compared, "none", **given)


def test_what_differs_at_its_place_is_marked():
    _, cut, same = view().continued("p0 ").texts
    assert cut.pieces == [(True, "the "), (False, "dog"), (True, " sat")]
    assert cut.said == "parts from the original at character 5"
    assert (same.pieces, same.said) == ([(True, "the cat sat")], "the same text")
    shorter = view().continued("p2 ").texts[1]
    assert "".join(piece for _, piece in shorter.pieces) == NASTY


def test_numbers_stand_beside_the_text_with_their_interval_and_verdict():
    one = view()
    cells = {cell.name: cell for cell in one.cells_of("cut")}
    row = one.compared.set_index(["variant", "measure"]).loc[("cut", "trigram_loss")]
    assert cells["trigram_loss"].value == f"{row['value']:.3f}"
    assert f"{row['delta']:+.3f}" in cells["trigram_loss"].difference
    assert cells["known_words"].value.endswith(" %")
    assert all(cell.verdict == "" for cell in one.cells_of("none"))
    assert {cell.verdict for cell in one.cells_of("same")} <= {"no difference shown", ""}
    assert "over 3 prompts, with" in one.over and "all texts are of one training" in one.over


def test_the_page_says_what_its_intervals_are_over():
    one = view()
    trained = [one.samples.assign(training=number, seed=number) for number in range(3)]
    for count, said in ((3, "interval over trainings, of which each counts once"), (2, "2 give")):
        samples = pd.concat(trained[:count])
        several = replace(one, samples=samples, compared=compare_samples(samples, "none"))
        assert f"over 3 prompts and {count} trainings" in several.over and said in several.over
    seeds = pd.concat([frame.drop(columns="training") for frame in trained])
    sampled = replace(one, samples=seeds, compared=compare_samples(seeds, "none"))
    assert "3 prompts and 3 seeds of the random numbers" in sampled.over


def test_models_of_other_kinds_are_not_marked(tmp_path):
    page = Page("T", "Q?", [view(original="the lowest rung")])
    text = write_report(tmp_path / "page.html", page).read_text()
    assert "difference to the lowest rung" in text and "the model as it is" not in text
    assert "<mark>" not in text and "parts from the original" not in text


@pytest.mark.parametrize("write", [write_report, write_markdown])
def test_a_page_shows_all_of_it_as_text(tmp_path, write):
    learning = pd.DataFrame({"variant": "cut", "step": [0, 50], "sample": ["xq", NASTY]})
    page = Page("Title", "Question?", [view(learning=learning)], [])
    text = write(tmp_path / "page", page).read_text()
    assert "known words" in text and "Short words are often known by chance" in text
    if write is write_report:
        assert "<mark>dog</mark>" in text and "model.py:7" in text
        assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text
        assert "\x1b" not in text and '<th scope="row">50</th>' in text
    else:
        assert "parts from the original at character 5" in text


def test_a_variant_that_wrote_nothing_says_why(tmp_path):
    one = view()
    silent = pd.DataFrame(
        [{"variant": "nan", "prompt": "p0 ", "seed": 0, "text": "", "detail": "logits are NaN"}]
    )
    both = pd.concat([one.samples, silent], ignore_index=True)
    page = Page("T", "Q?", [WritingView("W", both, one.compared, "none")], [])
    text = write_report(tmp_path / "page.html", page).read_text()
    assert "It wrote nothing: logits are NaN" in text
