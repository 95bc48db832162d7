"""Ablation of every head, end to end."""

from pathlib import Path

import pandas as pd
import pytest
import torch

import gpt.model
from experiments import heads
from experiments.heads import (
    FEWEST,
    Config,
    by_token,
    main,
    readings,
    token_reading,
    worst_head,
)
from experiments.support.trained import StudyOptions, find_subject
from interp.figures.style import name_lines
from interp.interventions import Zero
from interp.metrics import loss
from interp.runs import SavedRun

EXAMPLES = 24


@pytest.fixture(scope="module")
def folder(small, runs, text) -> Path:
    return main(Config(runs=runs, text=str(text), examples=EXAMPLES)).parent


@pytest.fixture(scope="module")
def table(folder) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")


def test_every_head_is_ablated_in_three_ways(table):
    counts = table.groupby(["layer", "head"])["intervention"].agg(list)
    assert len(counts) == 4
    assert all(ways == ["zero", "mean", "resample"] for ways in counts)
    assert (table["n"] == EXAMPLES).all()
    assert table["p_adjusted"].between(0, 1).all()
    assert (table["file"] == "gpt/model.py").all()


def test_figures_name_the_lines_that_compute_a_head_and_not_the_one_that_only_turns_it(folder):
    code = Path(gpt.model.__file__).read_text().splitlines()
    made = [n for n, said in enumerate(code, 1) if said.lstrip().startswith("z = self.attend(")]
    made += [n for n, said in enumerate(code, 1) if said.lstrip().startswith("z = F.scaled_dot")]
    expected = [f"model.py:{number} {code[number - 1].strip()}" for number in made]
    for name in ("results", "tokens", "by_token"):
        assert name_lines(pd.read_parquet(folder / f"{name}.parquet")) == expected


def test_zeroing_a_head_costs_what_deleting_its_columns_of_the_projection_costs(table, runs, text):
    options = StudyOptions(runs=runs, text=str(text))
    subject = find_subject(options)
    tokens = subject.examples(EXAMPLES)
    width = subject.model.cfg.d_head
    for row in table[table["intervention"] == "zero"].to_dict("records"):
        model, start = find_subject(options).model, int(row["head"]) * width
        with torch.no_grad():
            projection = model.get_submodule(f"blocks.{int(row['layer'])}.attn.proj").weight
            projection[:, start : start + width] = 0
            value = loss(model(tokens), tokens).mean().item()
        assert row["value"] == pytest.approx(value, abs=1e-5)


def test_the_tokens_of_the_worst_head_add_up_to_its_effect(folder, table):
    losses = pd.read_parquet(folder / "tokens.parquet")
    worst = table[table["intervention"] == "mean"].nlargest(1, "delta").iloc[0]
    assert set(losses["site"]) == {worst["site"]}
    assert set(losses["code"]) == {worst["code"]}  # which the figures of tokens name
    assert losses["delta"].mean() == pytest.approx(worst["delta"], abs=1e-5)
    tokens = pd.read_parquet(folder / "by_token.parquet")
    own = losses.groupby("token")["delta"].agg(["mean", "size"])
    assert set(tokens["token"]) == set(own.index[own["size"] >= FEWEST])
    for row in tokens.to_dict("records"):
        assert row["delta"] == pytest.approx(own.loc[row["token"], "mean"])
        assert row["n"] == own.loc[row["token"], "size"]


def test_figures_and_page_are_there_in_every_format(folder):
    names = {"head_effects", "by_token", "text"}
    files = {path.name for path in (folder / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg", "pdf")}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Under mean ablation" in page
    assert "suffers most" in page


def test_started_again_it_gives_the_same_table(folder, table, runs, text):
    main(Config(runs=runs, text=str(text), examples=EXAMPLES))
    again = pd.read_parquet(folder / "results.parquet")
    pd.testing.assert_frame_equal(table, again, check_exact=True)


def test_no_sentence_says_that_a_head_matters_whose_cell_shows_no_effect(folder, monkeypatch):
    run = SavedRun.at(folder)
    noisy = run.table().assign(ci_low=-1.0, ci_high=9.0, p_adjusted=0.6)
    tables = {"results": noisy}
    whole = type(run).table
    monkeypatch.setattr(
        type(run), "table", lambda self, name="results": tables.get(name, whole(self, name))
    )
    said = readings(run)
    assert not [sentence for sentence in said if "matters most" in sentence]
    assert len([sentence for sentence in said if "no head is shown to matter" in sentence]) == 3
    assert all("no effect shown" in sentence for sentence in said[1:4])
    small = noisy.index[noisy["intervention"] == "mean"][-1]
    noisy.loc[small, ["delta", "ci_low", "ci_high", "p_adjusted"]] = 0.001, 0.0005, 0.002, 0.01
    assert worst_head(noisy)["site"] == noisy.loc[small, "site"]
    mean = next(sentence for sentence in readings(run) if "mean ablation" in sentence)
    assert "matters most: +0.001 nats" in mean


def test_a_model_writes_without_the_heads_that_are_shown_to_matter_first(monkeypatch):
    """However large a change is that is not shown, of a head that may do nothing."""
    line = {"file": "m.py", "line": 1, "code": "z = p @ v", "intervention": "mean", "n": 16}
    sure = {"ci_low": 0.01, "ci_high": 0.09, "p_adjusted": 0.01}
    unsure = {"ci_low": -0.01, "ci_high": 0.9, "p_adjusted": 1.0}
    deltas = [(0.4, unsure), (0.05, sure), (0.06, sure), (0.3, unsure), (0.2, unsure)]
    table = pd.DataFrame(
        [
            {"site": f"blocks.0.attn.hook_z[head={head}]", "layer": 0, "head": head, "delta": delta}
            | line
            | told
            for head, (delta, told) in enumerate(deltas)
        ]
    )
    monkeypatch.setattr(heads, "write_variants", lambda subject, seed, variants, run: [*variants])
    names = heads.without_heads(None, table, Zero(), 0, None)
    assert [name.split()[1] for name in names] == ["0.2", "0.1", "0.0", "0.3"]


def losses_of_tokens(changes: dict[str, list[float]]) -> pd.DataFrame:
    rows = [{"token": token, "delta": each} for token, all_ in changes.items() for each in all_]
    return pd.DataFrame(rows)


def test_a_token_suffers_only_where_that_is_shown():
    """One of wild changes has the largest mean, and an interval on both sides of zero."""
    wild, steady, gains = [9.0, -7.0] * 15, [0.2, 0.3] * 15, [-0.4, -0.5] * 15
    tokens = by_token(losses_of_tokens({"w": wild, "s": steady, "g": gains}))
    assert tokens["token"].iloc[0] == "w"
    told = token_reading("0.1", "character", tokens)
    assert told.startswith("Without head 0.1 the character 's' suffers most (+0.250 nats over 30")
    assert "and 'g' gains most (-0.450); 1 of 3 characters show no effect." in told
    alone = token_reading("0.1", "character", tokens[tokens["token"] == "w"])
    assert "no character is shown to suffer: the largest change is that of 'w'" in alone
    assert "gains" not in alone


def test_a_token_that_was_one_of_many_looked_at_needs_more_to_be_shown():
    """Each has an interval on one side of zero and five occurrences: chance, among 40."""
    few = {f"token{i}": [0.1, 0.2, 0.3, 0.2, 0.1] for i in range(40)}
    tokens = by_token(losses_of_tokens(few))
    assert (tokens["ci_low"] > 0).all()
    assert "no token is shown to suffer" in token_reading("0.1", "token", tokens)
