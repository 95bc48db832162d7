import base64
import io
import itertools

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from interp.characters import width_of
from interp.errors import UsageError
from interp.heads import attention_patterns
from interp.report import Page, write_report
from interp.report.attention import AttentionView, Token, grey_png, quantised


def patterns_of(layers, heads, length, seed=0):
    generator = np.random.default_rng(seed)
    scores = np.exp(3 * generator.standard_normal((layers, heads, length, length)))
    weights = np.tril(scores)
    weights /= weights.sum(axis=-1, keepdims=True)
    return {(i, j): weights[i, j] for i, j in itertools.product(range(layers), range(heads))}


def unpacked(data):
    """The patterns as a reader of the page's data has them."""
    length = len(data["tokens"])
    weights = np.frombuffer(base64.b64decode(data["weights"]), dtype=np.uint8) / data["levels"]
    for name, packed in zip(data["heads"], np.split(weights, len(data["heads"])), strict=True):
        pattern = np.zeros((length, length))
        pattern[np.tril_indices(length)] = packed
        yield name, pattern


def test_the_page_holds_the_patterns_of_a_real_model_to_half_a_level(model, text_tokens):
    table = attention_patterns(model, text_tokens[0], [str(t) for t in text_tokens[0].tolist()])
    view = AttentionView.of(table.sample(frac=1, random_state=0))
    _, cache = model.run_with_cache(text_tokens[:1])
    found = dict(unpacked(view.context()["data"]))
    assert len(found) == 3 * 4
    for name, pattern in found.items():
        layer, head = map(int, name.split("."))
        exact = cache[f"blocks.{layer}.attn.hook_pattern"][0, head].numpy()
        assert np.abs(pattern - exact).max() < 0.5 / 255 + 1e-6
    assert view.tokens == [str(t) for t in text_tokens[0].tolist()]


def test_thirty_six_heads_on_128_characters_take_less_than_a_megabyte(tmp_path):
    view = AttentionView(["x"] * 128, patterns_of(6, 6, 128))
    path = write_report(tmp_path / "page.html", Page("Heads", "Where?", [view]))
    empty = write_report(tmp_path / "empty.html", Page("Heads", "Where?", []))
    assert path.stat().st_size - empty.stat().st_size < 1_000_000


def test_a_small_pattern_is_a_picture_of_its_greys():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    picture = matplotlib.image.imread(io.BytesIO(grey_png(pixels)), format="png")
    assert np.rint(picture * 255).astype(int).tolist() == pixels.tolist()


def test_what_is_no_weight_is_none():
    assert quantised(np.array([[np.nan, -0.1], [1.2, 0.5]])).tolist() == [[0, 0], [255, 128]]


def test_characters_that_act_or_hide_are_shown(tmp_path):
    tokens = ["</script><script>alert(1)</script>", "\u202e", "\n", '"']
    view = AttentionView(tokens, patterns_of(1, 1, 4))
    html = write_report(tmp_path / "page.html", Page("Heads", "Where?", [view])).read_text("utf-8")
    assert "<script>alert" not in html
    assert "\u202e" not in html
    assert "\\u202e" in html


def test_long_tokens_are_shortened_by_the_room_they_take():
    assert Token.of("Ġthe") == ("Ġthe", "Ġthe")
    assert Token.of("Ġinternationalization") == ("Ġinternationalization", "Ġinternat…")
    assert Token.of("日本語日本語").label == "日本語日…"
    assert Token.of("a" * 10).label == "a" * 10
    for text in ("🦊" * 5, "日x" * 9, "\n\n\t" * 9, "\u202e\u202e", "e" * 300):
        assert width_of(Token.of(text).label) <= 10


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"tokens": ["a"], "patterns": {}}, "1 characters need patterns"),
        ({"tokens": ["a"], "patterns": patterns_of(1, 1, 2)}, "1 characters need patterns"),
        (
            {"tokens": ["a", "b"], "patterns": patterns_of(1, 1, 2), "chosen": (0, 3)},
            "no pattern of head 0.3",
        ),
    ],
)
def test_patterns_that_do_not_fit_are_refused(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        AttentionView(**arguments)


def test_the_head_asked_for_is_large_at_first():
    table = pd.DataFrame(
        {"layer": layer, "head": 0, "query": q, "key": k, "query_character": "ab"[q], "value": 0.5}
        for layer in (0, 1)
        for q, k in ((0, 0), (1, 0), (1, 1))
    )
    assert AttentionView.of(table).context()["data"]["chosen"] == 0
    assert AttentionView.of(table, (1, 0)).context()["data"]["chosen"] == 1
