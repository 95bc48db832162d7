import io
import re
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib.figure import Figure
from matplotlib.text import Text

from interp.characters import visible
from interp.errors import UsageError
from interp.figures import learning_curves, loss_bars, variant_curves

CUTS = {
    "none": ("none", ""),
    "no residual": (
        "model.py:189  x = x + attn_out → x = attn_out\n"
        "model.py:195  x = x + mlp_out → x = mlp_out",
        "--- a/model.py\n+++ b/model.py\n@@ -189 +189 @@\n-x = x + attn_out\n+x = attn_out\n",
    ),
    "one head": (
        "model.py:82  self.n_head = config.n_head → self.n_head = 1",
        "--- a/model.py\n+++ b/model.py\n@@ -82 +82 @@\n-self.n_head = config.n_head\n"
        "+self.n_head = 1\n",
    ),
}
ENTROPIES = pd.DataFrame(
    {
        "n": [1, 2, 1, 2],
        "name": ["unigram", "bigram", "unigram", "bigram"],
        "split": ["train", "train", "val", "val"],
        "nats": [3.30, 2.45, 3.35, 2.48],
    }
)


def curves(seeds=3, cuts=CUTS):
    return pd.DataFrame(
        [
            {"variant": variant, "label": label, "diff": diff, "seed": seed, "step": step}
            | {"split": split, "loss": 4.2 / (1 + step / 100 * (place + 1)) + 0.01 * seed + shift}
            for place, (variant, (label, diff)) in enumerate(cuts.items())
            for seed in range(seeds)
            for split, shift in (("train", 0.0), ("val", 0.1))
            for step in range(0, 1000, 50)
        ]
    )


def rendered(figure, kind="png"):
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=100)
    return content.getvalue()


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def line_of(figure, color):
    """The one curve of that colour, as an array of step and loss."""
    (axes,) = [axes for axes in figure.findobj(mpl.axes.Axes) if axes.get_xlabel()]
    (line,) = [line for line in axes.lines if colors.same_color(line.get_color(), color)]
    return np.array(line.get_data(), dtype=float)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_learning_curve_is_the_mean_over_seeds(seeds):
    table = curves(seeds)
    steps, losses = line_of(learning_curves(table), "black")
    of_none = table[(table["variant"] == "none") & (table["split"] == "val")]
    expected = of_none.groupby("step")["loss"].mean()
    np.testing.assert_array_equal(steps, expected.index)
    np.testing.assert_allclose(losses, expected)


def test_the_band_runs_from_the_lowest_to_the_highest_seed_and_says_so():
    table = curves(3)
    figure = learning_curves(table)
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    of_none = table[(table["variant"] == "none") & (table["split"] == "val")]
    at_500 = of_none[of_none["step"] == 500]["loss"]
    edges = band[band[:, 0] == 500][:, 1]
    assert {edges.min(), edges.max()} == {at_500.min(), at_500.max()}
    assert "mean of 3 seeds; band: lowest to highest seed" in texts(figure)
    alone = learning_curves(curves(1))
    assert "one seed" in texts(alone)
    assert len(alone.axes[0].collections) == 0


def test_every_legend_entry_names_file_line_and_the_code_before_and_after():
    (legend,) = learning_curves(curves(), ENTROPIES).legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert entries[0] == "none"
    assert "model.py:189  x = x + attn_out → x = attn_out" in entries[1]
    assert "model.py:195  x = x + mlp_out → x = mlp_out" in entries[1]
    assert "model.py:82  self.n_head = config.n_head → self.n_head = 1" in entries[2]


def test_variants_differ_without_colour():
    figure = learning_curves(curves())
    assert len({line.get_marker() for line in figure.axes[0].lines}) == len(CUTS)


def test_a_variant_that_sees_the_future_is_said_to_and_drawn_hollow():
    table = curves()
    table["status"] = np.where(table["variant"] == "one head", "leak", "changed")
    for draw in (learning_curves, loss_bars):
        assert sum("leak: it sees the tokens" in text for text in texts(draw(table))) == 1
    lines = learning_curves(table).axes[0].get_lines()
    assert [line.get_markerfacecolor() == "white" for line in lines] == [False, False, True]
    bars = loss_bars(table).axes[0].patches
    hollow = [colors.to_rgb(bar.get_facecolor()) == (1, 1, 1) for bar in bars]
    assert hollow == [False, False, False, False, True, True]


def test_many_variants_share_no_pair_of_colour_and_marker():
    cuts = {f"cut {number}": (f"model.py:{number}", f"-{number}") for number in range(30)}
    lines = learning_curves(curves(1, cuts)).axes[0].get_lines()
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 30


def test_variants_of_different_numbers_of_seeds_are_said_to_be_so():
    table = curves()
    fewer = table[(table["variant"] == "none") | (table["seed"] < 2)]
    assert "mean of 2 to 3 seeds" in "\n".join(texts(learning_curves(fewer)))


def test_a_seed_that_diverged_leaves_a_gap_instead_of_a_flattering_mean():
    table = curves(3)
    diverged = (table["variant"] == "none") & (table["seed"] == 1) & (table["step"] >= 500)
    table.loc[diverged, "loss"] = np.nan
    steps, losses = line_of(learning_curves(table), "black")
    assert steps[np.isnan(losses)].tolist() == list(range(500, 1000, 50))
    assert "last: not finite" in texts(loss_bars(table))


def test_the_validation_texts_entropies_are_lines_with_name_and_number():
    for figure in (
        learning_curves(curves(), ENTROPIES),
        variant_curves(curves(), "none", ENTROPIES),
    ):
        shown = texts(figure)
        assert "unigram 3.35" in shown
        assert "bigram 2.48" in shown
        levels = [line.get_ydata() for line in figure.axes[0].lines]
        assert [3.35, 3.35] in [list(level) for level in levels]


def test_published_curves_are_dashed_in_the_colour_of_their_variant_and_named():
    published = pd.DataFrame(
        {"ablation": ["no_residual"] * 2 + ["other"], "step": [0, 900, 0]}
        | {"train_loss": [4.0, 3.0, 1.0], "val_loss": [4.1, 3.1, 1.0]}
    )
    figure = learning_curves(curves(), published=published)
    ours, theirs = figure.axes[0].lines[1], figure.axes[0].lines[3]
    assert list(theirs.get_ydata()) == [4.1, 3.1]
    assert theirs.get_color() == ours.get_color()
    assert theirs.is_dashed()
    assert not ours.is_dashed()
    assert figure.legends[0].get_texts()[-1].get_text() == (
        "dashed: as published by the course (olinml2024/nanoGPT, one seed), for no residual"
    )
    with pytest.raises(UsageError, match="among the published other"):
        learning_curves(curves(), published=published[published["ablation"] == "other"])


def test_a_variants_figure_shows_both_splits_the_baseline_and_the_diff():
    table = curves()
    figure = variant_curves(table, "no residual")
    (axes, diff) = figure.axes
    assert len(axes.lines) == 3
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "none, validation",
        "train",
        "validation",
    ]
    assert [text.get_text() for text in diff.texts] == CUTS["no residual"][1].splitlines()
    with pytest.raises(UsageError, match="nearest: no residual"):
        variant_curves(table, "no residuals")


def test_bars_show_best_and_last_loss_with_their_spread_over_seeds():
    table = curves(3)
    rising = (table["variant"] == "one head") & (table["step"] == 950)
    table.loc[rising, "loss"] += 2
    figure = loss_bars(table)
    by_seed = table[(table["variant"] == "one head") & (table["split"] == "val")]
    best = by_seed.groupby("seed")["loss"].min()
    last = by_seed[by_seed["step"] == 950]["loss"]
    shown = texts(figure)
    assert f"best {best.mean():.3f} ± {best.std():.3f}" in shown
    assert f"last {last.mean():.3f} ± {last.std():.3f}" in shown
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(widths[-2:], [best.mean(), last.mean()])
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points[-1].get_xdata(), last)


HOSTILE = {
    "none": CUTS["none"],
    "_hidden $x_1^2$ <b>\x1b[31m": (
        "model.py:1  f'${a_b}$' <script>alert(1)</script> \\frac{1}{0} → 漢\x00\u202e" + "y" * 300,
        "--- a\n+++ b\n-$\\frac{1$ <script>\x1b[0m\u2066\n" + "+z$_" * 90 + "\n" + "+x\n" * 90,
    ),
}


@pytest.mark.parametrize(
    "draw",
    [
        learning_curves,
        loss_bars,
        lambda table: variant_curves(table, list(HOSTILE)[1], ENTROPIES),
    ],
)
@pytest.mark.parametrize("cuts", [CUTS | HOSTILE, HOSTILE])
def test_any_code_is_drawn_as_text_inside_the_figure(draw, cuts):
    figure = draw(curves(2, cuts))
    ElementTree.fromstring(rendered(figure, "svg"))
    assert rendered(figure, "pdf").startswith(b"%PDF")
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.x1 <= width and drawn.y0 >= 0 and drawn.y1 <= height
    shown = " ".join(texts(figure))
    assert "_hidden $x_1^2$ <b>\\x1b[31m" in shown
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e漢]", shown)


@pytest.mark.parametrize("cuts", [CUTS, CUTS | HOSTILE])
def test_the_legend_covers_no_data(cuts):
    figure = learning_curves(curves(2, cuts), ENTROPIES)
    rendered(figure)
    (legend,) = figure.legends
    data, key = figure.axes[0].get_tightbbox(), legend.get_window_extent()
    assert not data.overlaps(key)
    assert key.y0 >= 0
    assert figure.axes[0].bbox.height / figure.dpi > 2.5


def test_drawing_changes_no_setting_and_keeps_no_figure_open():
    before = dict(mpl.rcParams)
    table = curves(2)
    for figure in (learning_curves(table), variant_curves(table, "none"), loss_bars(table)):
        assert isinstance(figure, Figure)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_a_table_that_is_no_table_of_curves_is_one_sentence():
    table = curves(1)
    with pytest.raises(UsageError, match="no column seed, step; it has variant"):
        learning_curves(table.drop(columns=["seed", "step"]))
    with pytest.raises(UsageError, match="no rows of the split 'val'"):
        loss_bars(table[table["split"] == "train"])
    with pytest.raises(UsageError, match="two val losses of 'none', seed 0, at step 0"):
        learning_curves(pd.concat([table, table]))
    with pytest.raises(UsageError, match="no rows of the split 'val'"):
        learning_curves(table, ENTROPIES[ENTROPIES["split"] == "train"])


def test_what_would_not_show_is_written_as_an_escape():
    assert visible("a\x1b[31m\x00\u202e\ud800b") == "a\\x1b[31m\\x00\\u202e\\ud800b"
    assert visible("plain: é 漢 → $x_1$\n\tnext") == "plain: é 漢 → $x_1$\n\tnext"


def test_curves_are_told_apart_without_colour():
    cuts = {"none": ("none", "")} | {
        f"cut {number}": (f"model.py:{number}  a → b", f"-a\n+{number}\n") for number in range(39)
    }
    figure = learning_curves(curves(1, cuts))
    looks = {
        (line.get_marker(), str(line._unscaled_dash_pattern), line.get_markerfacecolor() == "white")
        for line in figure.axes[0].get_lines()
    }
    assert len(looks) == len(cuts)
