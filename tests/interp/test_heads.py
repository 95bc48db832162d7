import jaxtyping
import pytest
import torch
from transformer_lens.head_detector import detect_head

from interp.caching import cache
from interp.errors import UsageError
from interp.heads import attention_by_distance, attention_patterns, head_scores
from interp.interventions import intervene

REPEATED = torch.tensor([[4, 7, 1, 7, 4, 7, 1, 2], [1, 2, 3, 4, 1, 2, 3, 4]])


def by_head(table, metric):
    rows = table[table["metric"] == metric]
    return torch.tensor(rows.pivot_table("value", "layer", "head").to_numpy(), dtype=torch.float32)


def heads_that_look(model, tokens, weights):
    """The scores of a model all of whose heads attend by ``weights``, [batch query key]."""
    heads = model.config.n_head
    pattern = {"blocks.*.attn.hook_pattern": lambda _: weights[:, None].expand(-1, heads, -1, -1)}
    with intervene(model, pattern, allow_no_effect=True):
        return head_scores(model, tokens, queries="with_target")


def test_scores_agree_with_transformer_lens_head_by_head(model):
    table = head_scores(model, REPEATED)
    model.tokenizer = None
    for metric in ("previous_token", "duplicate_token", "induction"):
        theirs = [detect_head(model, row[None], f"{metric}_head") for row in REPEATED]
        expected = torch.stack(theirs).mean(dim=0)
        torch.testing.assert_close(by_head(table, metric), expected, atol=1e-5, rtol=0)


def test_a_head_that_always_looks_one_back_is_a_perfect_previous_token_head(model):
    weights = torch.zeros(2, 8, 8)
    weights[:, range(1, 8), range(7)] = 1
    weights[:, 0, 0] = 1
    table = heads_that_look(model, REPEATED, weights)
    assert by_head(table, "previous_token").unique().tolist() == [1.0]


def test_a_head_that_looks_after_the_last_copy_is_a_perfect_induction_head(model):
    weights = torch.zeros(2, 8, 8)
    for b, row in enumerate(REPEATED.tolist()):
        for query, token in enumerate(row):
            copies = [key for key in range(query) if row[key] == token]
            weights[b, query, copies[-1] + 1 if copies else 0] = 1
    table = heads_that_look(model, REPEATED, weights)
    assert by_head(table, "induction").unique().tolist() == [1.0]
    assert by_head(table, "duplicate_token").max() < 0.5


def test_queries_without_a_target_count_unless_told_otherwise(model):
    every = head_scores(model, REPEATED)
    some = head_scores(model, REPEATED, queries="with_target")
    pattern = cache(model, REPEATED, "blocks.1.attn.hook_pattern")["blocks.1.attn.hook_pattern"]
    one_back = pattern.diagonal(-1, dim1=2, dim2=3)  # [batch head query]
    torch.testing.assert_close(
        by_head(every, "previous_token")[1], (one_back.sum(dim=2) / 8).mean(dim=0)
    )
    torch.testing.assert_close(by_head(some, "previous_token")[1], one_back.mean(dim=(0, 2)))


def test_examples_without_a_repeat_do_not_count_among_queries_with_target(model):
    tokens = torch.cat([REPEATED, torch.arange(8)[None]])
    table = head_scores(model, tokens, queries="with_target").set_index("metric")
    assert set(table.loc["induction", "n"]) == {2}
    assert set(table.loc["previous_token", "n"]) == {3}
    only = head_scores(model, REPEATED, queries="with_target")
    torch.testing.assert_close(
        by_head(table.reset_index(), "induction"), by_head(only, "induction")
    )


def test_attention_by_distance_is_the_mean_over_queries_that_reach_so_far(model, text_tokens):
    table = attention_by_distance(model, text_tokens)
    assert len(table) == 3 * 4 * 16
    pattern = cache(model, text_tokens, "blocks.2.attn.hook_pattern")["blocks.2.attn.hook_pattern"]
    for distance in (0, 3, 15):
        rows = table[(table["layer"] == 2) & (table["distance"] == distance)]
        expected = torch.stack(
            [pattern[:, :, query, query - distance] for query in range(distance, 16)]
        ).mean(dim=(0, 1))
        torch.testing.assert_close(torch.tensor(rows["value"].to_numpy()).float(), expected)
    assert ((table["ci_low"] <= table["value"]) & (table["value"] <= table["ci_high"])).all()


def test_head_tables_say_where_the_pattern_is_computed(model):
    table = head_scores(model, REPEATED)
    assert set(table["code"]) == {"pattern = scores.softmax(dim=-1)"}
    assert list(table["site"][::3][:2]) == [
        f"blocks.0.attn.hook_pattern[head={head}]" for head in (0, 1)
    ]


def test_scores_work_on_a_bridge(bridge):
    assert len(head_scores(bridge, REPEATED)) == 2 * 2 * 3


def test_texts_without_what_a_score_needs_are_sentences(model):
    with pytest.raises(UsageError, match="no token repeats"):
        head_scores(model, torch.arange(6)[None], queries="with_target")
    with pytest.raises(UsageError, match="at least two tokens"):
        head_scores(model, torch.arange(3)[:, None])


def test_attention_patterns_are_the_hooked_patterns_with_their_characters(model, text_tokens):
    text = text_tokens[0]
    names = [f"<{token}>" for token in text.tolist()]
    table = attention_patterns(model, text, names)
    _, cache = model.run_with_cache(text[None])
    assert len(table) == 3 * 4 * 16 * 17 // 2
    for row in table.sample(200, random_state=0).to_dict("records"):
        pattern = cache[f"blocks.{row['layer']}.attn.hook_pattern"][0, row["head"]]
        assert row["value"] == pytest.approx(pattern[row["query"], row["key"]].item(), abs=1e-6)
        assert row["query_character"] == names[row["query"]]
        assert row["key_character"] == names[row["key"]]


@pytest.mark.parametrize("characters", ["abc", "abcdefghi"])
def test_every_token_needs_a_name(model, characters):
    with pytest.raises(UsageError, match=f"there are {len(characters)} characters for 8 tokens"):
        attention_patterns(model, REPEATED[0], characters)


def test_a_misspelt_choice_of_queries_is_refused(model, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(UsageError, match="queries is 'targets'"):
        head_scores(model, REPEATED, queries="targets")
