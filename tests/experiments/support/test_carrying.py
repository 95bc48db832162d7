"""Sentences on patching name only what is shown to restore some of the answer."""

import pandas as pd
import pytest

from experiments.support.pages.carrying import (
    carriers,
    heads_reading,
    held_where,
    most_of,
    strongest_head,
)

POSITIONS = pd.DataFrame({"pos": [0, 1], "clean": ["a", " b"]})


def cells(*rows: tuple[float, str], n: int = 8) -> pd.DataFrame:
    """Cells with what each restored, and what is known of it: shown, unsure or nothing."""
    ends = {"shown": (0.1, 0.9, 0.01), "unsure": (-0.5, 1.5, 0.4), "unknown": (float("nan"),) * 3}
    made = []
    for place, (recovered, known) in enumerate(rows):
        low, high, p = ends[known]
        sign = 1 if recovered > 0 else -1
        made.append(
            {
                "site": f"blocks.{place // 2}.attn.hook_z[head={place % 2}]",
                "component": "z",
                "layer": place // 2,
                "head": place % 2,
                "pos": place % 2,
                "delta": recovered,
                "recovered": recovered,
                "ci_low": sign * low if sign > 0 else -high,
                "ci_high": sign * high if sign > 0 else -low,
                "recovered_low": low,
                "recovered_high": high,
                "p_adjusted": p,
                "n": n,
            }
        )
    return pd.DataFrame(made)


def test_a_cell_that_is_shown_is_told_before_a_larger_one_that_is_not():
    told = most_of("the heads", cells((0.9, "unsure"), (0.3, "shown")))
    assert told.startswith("Of the heads, blocks.0.attn.hook_z[head=1] (0.30, 95 % interval")


@pytest.mark.parametrize("rows", [[(0.9, "unsure")], [(-0.4, "shown")]])
def test_where_none_is_shown_to_restore_anything_that_is_said(rows):
    told = most_of("the heads", cells(*rows))
    assert told.startswith("None of the heads is shown to restore any of it; the most is that of")
    assert "restores most" not in told


def test_of_one_pair_the_most_is_named_and_that_it_has_no_interval():
    told = most_of("the heads", cells((0.9, "unknown"), (0.3, "unknown"), n=1))
    assert "head=0] (0.90, 1 pair, no interval from fewer than three) restores most" in told


def test_the_stream_holds_the_answer_only_where_that_is_shown():
    stream = cells((0.9, "unsure"), (0.3, "shown"), (0.2, "unsure"), (0.4, "unsure"))
    assert held_where(stream, POSITIONS) == (
        "layer 0, position 1 (␣b, 0.30); layer 1, no position that is shown to hold any"
    )
    same = cells((0.9, "shown"), (0.3, "shown"), (0.5, "shown"), (0.1, "unsure"))
    assert held_where(same, POSITIONS) == "layers 0 to 1, position 0 (a, 0.90 in layer 0)"


def test_a_head_that_is_shown_is_looked_at_before_one_that_is_not():
    table = cells((0.9, "unsure"), (0.3, "shown"), (0.8, "unsure"), (0.1, "shown"))
    assert carriers(table) == [(0, 1), (1, 1)]
    assert strongest_head(table) == (1, 1)


@pytest.mark.parametrize("known", ["shown", "unsure"])
def test_of_many_layers_the_heads_that_are_shown_are_told(known):
    table = cells(*[(0.05 * (place + 1), known) for place in range(16)])
    (told,) = heads_reading(table)
    if known == "shown":
        assert told.startswith("Of all 16 heads, 7.1 (0.80), 7.0 (0.75), 6.1 (0.70), 6.0 (0.65)")
        assert strongest_head(table) == (7, 1)
    else:
        assert told.startswith("None of all 16 heads is shown to restore any of it")
