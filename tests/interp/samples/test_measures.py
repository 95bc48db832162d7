"""Each measure counts what its sentence says: by hand, and as slow code counts it."""

import math
import random
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gpt.text import load_corpus
from interp.errors import UsageError
from interp.samples import MEASURES, KnownText, compare_samples, measure_texts
from interp.samples.measures import COPIED, REPEATED
from interp.verdicts import verdict_of

BY_NAME = {one.name: one.of for one in MEASURES}
TEXT = "the cat sat on the mat. the cat (a big one) sat."


def counted(name: str, sample: str, prompt: str = " ", text: str = TEXT) -> float:
    return BY_NAME[name](sample, prompt, KnownText(text))


@pytest.mark.parametrize(
    ("name", "sample", "prompt", "value"),
    [
        ("known_words", "the dog sat on ", " ", 3 / 4),
        ("known_words", "he dog sat o", "t", 1 / 2),  # two words cut off by the sample's ends
        ("known_words", "...", " ", math.nan),
        ("repeated", "abcdefghij", "", 0),
        ("repeated", "abcdefgh" * 2, "", 1 / 9),
        ("repeated", "a" * 18, "", 10 / 11),
        ("repeated", "abc", "", math.nan),
        ("longest_repeat", "abcXabcYab", "", 3),
        ("longest_repeat", "aaaaa", "", 4),
        ("longest_repeat", "abc", "", 0),
        ("character_distance", "aaaa", "", 1 - TEXT.count("a") / len(TEXT)),
        ("character_distance", TEXT[::-1], "", 0),
        ("character_distance", "éé", "", 1),
        ("longest_copy", "zzthe catzz", "", 7),
        ("longest_copy", "zz", "", 0),
        ("copied", "XX" + TEXT[3:28] + "XXX", "", 25 / 30),
        ("copied", TEXT[3:22], "", 0),  # a stretch of 19
        ("closed", "(a) [b", "", 2 / 3),
        ("closed", "a) b", "see (", 1),
        ("closed", "a) b", "see ", 0),
        ("closed", "([)]", "", 2 / 4),
        ("closed", 'he said "no" and "', "", 2 / 3),
        ("closed", "don't", "", math.nan),
    ],
)
def test_by_hand(name, sample, prompt, value):
    assert counted(name, sample, prompt) == pytest.approx(value, nan_ok=True)


def test_the_trigram_loss_by_hand():
    # of "aab": a twice, b once, two kinds; after a: a once, b once; after aa: b once
    a = (2 + 2 / 3) / 5
    b = (1 + 2 / 3) / 5
    a_after_a = (1 + 2 * a) / 4
    b_after_a = (1 + 2 * b) / 4
    b_after_aa = (1 + b_after_a) / 2
    losses = KnownText("aab").trigram_losses("aab")
    assert losses == pytest.approx([-math.log(p) for p in (a, a_after_a, b_after_aa)])
    assert KnownText("aab").trigram_losses("b", "xaa") == pytest.approx([-math.log(b_after_aa)])
    unknown = 2 / 3 / 5
    assert KnownText("aab").trigram_losses("é", "zz") == pytest.approx([-math.log(unknown)])


def test_the_trigram_model_is_a_distribution():
    text = KnownText(load_corpus("python-docs").text[:3000])
    for context in ("", "t", "th", "zq", "Zé"):
        every = sum(text.probability(one, context) for one in text.shares)
        assert every + text.probability("é", context) == pytest.approx(1)


def slowly(name: str, sample: str, text: str) -> float:
    """Another way to count."""
    starts = range(len(sample))
    if name == "repeated":
        grams = Counter(sample[i : i + REPEATED] for i in range(len(sample) - REPEATED + 1))
        return sum(count - 1 for count in grams.values()) / grams.total() if grams else math.nan
    if name == "longest_repeat":
        pairs = [(i, j) for j in starts for i in range(j)]
        return max((common(sample[i:], sample[j:]) for i, j in pairs), default=0)
    matches = [
        max(n for n in range(len(sample) - i + 1) if sample[i : i + n] in text) for i in starts
    ]
    if name == "longest_copy":
        return max(matches)
    inside = [
        any(i <= at < i + matches[i] and matches[i] >= COPIED for i in starts) for at in starts
    ]
    return sum(inside) / len(inside)


def common(one: str, other: str) -> int:
    """How long two texts begin alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))


@pytest.mark.parametrize("name", ["repeated", "longest_repeat", "longest_copy", "copied"])
def test_as_slow_code_counts_it(name):
    text = load_corpus("python-docs").text[:20_000]
    draw = random.Random(0)
    for _ in range(12):
        starts = [draw.randrange(len(text) - 40) for _ in range(4)]
        sample = "".join(text[at : at + draw.randrange(3, 35)] for at in starts)
        sample += sample[: draw.randrange(12)] + draw.choice(["", "🦊", "漢字"])
        assert counted(name, sample, text=text) == pytest.approx(slowly(name, sample, text))


@pytest.mark.parametrize(
    "sample", ["", "🦊🦊", "漢字かな", "\n\n", "a", "e\u0301", "\ud800", "((("]
)
def test_odd_samples_are_counted_or_have_nothing_to_count(sample):
    values = pd.Series({name: counted(name, sample, "x") for name in BY_NAME})
    assert (values.isna() | np.isfinite(values)).all()
    if sample == "":
        assert values.isna().all()
    assert np.isnan(values["closed"]) == ("(" not in sample)


def test_characters_of_scripts_without_spaces_are_words():
    assert counted("known_words", "。漢字。", text="字") == 1 / 2


def test_a_text_of_nothing_is_refused():
    with pytest.raises(UsageError, match="is empty"):
        KnownText("")


def samples(variant: str, texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "variant": variant,
            "prompt": [f"p{i}" for i in range(len(texts))],
            "seed": 0,
            "text": texts,
        }
    )


def test_variants_are_compared_pair_by_pair():
    whole = samples("none", ["the cat sat", "on the mat.", "a big one ("])
    noise = samples("noise", ["xqj zzw kkv", "vv qq jx xx", "zzz qqq jj)"])
    same = samples("same", list(whole["text"]))
    shuffled = pd.concat([noise.sample(frac=1, random_state=1), whole, same])
    table = compare_samples(measure_texts(shuffled, KnownText(TEXT)), "none")
    assert list(table["variant"].drop_duplicates()) == ["none", "noise", "same"]
    rows = {(row["variant"], row["measure"]): row for row in table.to_dict("records")}
    row = rows["noise", "trigram_loss"]
    losses = measure_texts(shuffled, KnownText(TEXT)).groupby("variant")["trigram_loss"].mean()
    assert row["delta"] == pytest.approx(losses["noise"] - losses["none"])
    assert verdict_of(row).is_effect and row["ci_low"] > 0
    assert rows["noise", "closed"]["n"] == 1 and math.isnan(rows["noise", "closed"]["ci_low"])
    for name in BY_NAME:
        assert not verdict_of(rows["same", name]).is_effect
        assert rows["same", name]["delta"] == 0 or math.isnan(rows["same", name]["delta"])


def of_trainings(variant: str, per_training: list[list[float]]) -> pd.DataFrame:
    """Samples that were counted already: a list of numbers for each training."""
    rows = [
        {"variant": variant, "training": number, "seed": number, "prompt": f"p{at}"}
        | dict.fromkeys(BY_NAME, value)
        for number, values in enumerate(per_training)
        for at, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_texts_of_one_training_count_once_between_trainings():
    whole = [[2.0, 2.2, 2.1], [2.6, 2.4, 2.5], [1.9, 2.0, math.nan]]
    cut = [[2.3, 2.5, 2.4], [2.9, 2.8, 2.7], [2.2, 2.3, 2.4]]
    measured = pd.concat([of_trainings("none", whole), of_trainings("cut", cut)])
    table = compare_samples(measured, "none").set_index(["variant", "measure"])
    row = table.loc["cut", "trigram_loss"]
    a, b = [2.4, 2.8, 2.25], [2.1, 2.5, 1.95]  # the last without the text that has no pair
    welch = stats.ttest_ind(a, b, equal_var=False)
    interval = welch.confidence_interval()
    assert (row["n"], row["over"]) == (3, "trainings")
    assert row["delta"] == pytest.approx(0.3) and row["value"] == pytest.approx(np.mean(a))
    assert [row["ci_low"], row["ci_high"]] == pytest.approx([interval.low, interval.high])
    assert row["p"] == pytest.approx(welch.pvalue)
    assert row["ci_low"] < 0 < row["ci_high"]  # nine pairs of texts would have called it sure
    alone = compare_samples(measured.drop(columns="training"), "none")
    of_texts = alone.set_index(["variant", "measure"]).loc["cut", "trigram_loss"]
    assert (of_texts["n"], of_texts["over"]) == (8, "texts of one training")
    assert of_texts["ci_low"] > 0
    two = compare_samples(measured[measured["training"] < 2], "none")
    assert two["ci_low"].isna().all() and set(two["n"]) == {2}


def test_what_cannot_be_compared_is_refused():
    measured = measure_texts(samples("a", ["the cat"]), KnownText(TEXT))
    with pytest.raises(UsageError, match="no sample of 'none'"):
        compare_samples(measured, "none")
    with pytest.raises(UsageError, match="the same training, prompt and seed"):
        compare_samples(pd.concat([measured, measured]), "a")
