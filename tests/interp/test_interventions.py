import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from gpt import GPT, GPTConfig
from interp.caching import cache
from interp.errors import (
    HookNameError,
    InterventionError,
    SiteError,
)
from interp.hooking import attach_hooks
from interp.interventions import Mean, Noise, Patch, Resample, Steer, Zero, intervene
from interp.site import Site

Z = "blocks.1.attn.hook_z"
MLP = "blocks.1.hook_mlp_out"


def run(model, tokens, interventions, **kwargs):
    with torch.no_grad(), intervene(model, interventions, **kwargs):
        return model(tokens)


def attached(model):
    return {
        name: len(point._forward_hooks) + len(point.fwd_hooks)
        for name, point in model.hook_dict.items()
    }


def without_heads(model, layer, heads):
    """A copy of the model whose weights lack these heads' rows of W_O."""
    other = copy.deepcopy(model)
    attn = other.blocks[layer].attn
    with torch.no_grad():
        for head in heads:
            attn.proj.weight[:, head * attn.d_head : (head + 1) * attn.d_head] = 0
    return other


# identities


def test_zero_ablating_a_head_equals_deleting_its_rows_of_W_O(model, clean):
    ablated = run(model, clean, {f"{Z}[head=2]": Zero()})
    torch.testing.assert_close(ablated, without_heads(model, 1, [2])(clean))


def test_ablations_of_several_heads_compose(model, clean):
    ablated = run(model, clean, {f"{Z}[head=2]": Zero(), Site(Z, head=0): Zero()})
    torch.testing.assert_close(ablated, without_heads(model, 1, [0, 2])(clean))


def test_ablating_everything_equals_the_model_with_an_empty_residual_stream(model, clean):
    everything = ("hook_embed", "hook_pos_embed", "blocks.*.hook_attn_out", "blocks.*.hook_mlp_out")
    ablated = run(model, clean, dict.fromkeys(everything, Zero()))
    empty = torch.zeros(*clean.shape, model.config.n_embd)
    torch.testing.assert_close(ablated, model.lm_head(model.ln_final(empty)))


def test_patching_every_position_of_one_layers_residual_stream_restores_clean_exactly(
    model, clean, corrupted
):
    kept = cache(model, clean, "blocks.*.hook_resid_*")
    assert len(kept) == 9
    for name in kept:
        assert torch.equal(run(model, corrupted, {name: Patch(kept)}), model(clean)), name


def test_patching_a_run_with_itself_changes_nothing_wherever_it_is_done(model, clean):
    expected = model(clean)
    kept = cache(model, clean, "*")
    patches = dict.fromkeys((name for name in kept if "mlp_in" not in name), Patch(kept))
    logits = run(model, clean, patches, allow_no_effect=True)
    torch.testing.assert_close(logits, expected)


def test_a_model_that_writes_into_its_activations_is_cached_as_it_was(clean):
    class Writing(HookedRootModule):
        def __init__(self):
            super().__init__()
            self.hook_before, self.hook_view, self.hook_after = (HookPoint() for _ in range(3))
            self.setup()

        def forward(self, tokens):
            x = self.hook_before(tokens.float())
            view = self.hook_view(x[:, :2])
            x += 1
            view *= 2
            return self.hook_after(x)

    x = clean.float()
    after = torch.cat([2 * (x[:, :2] + 1), x[:, 2:] + 1], dim=1)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            kept = cache(Writing(), clean, "*")
        assert torch.equal(kept["hook_before"], x)
        assert torch.equal(kept["hook_view"], x[:, :2])
        assert torch.equal(kept["hook_after"], after)


def test_an_activation_is_cached_without_a_copy_where_nobody_writes_into_it(model, clean):
    seen = []
    with attach_hooks([(model.hook_dict[MLP], lambda value, hook: seen.append(value))]):
        kept = cache(model, clean, MLP)
    assert [value.data_ptr() for value in seen] == [kept[MLP].data_ptr()]


@pytest.mark.parametrize("positions", ["all", "each"])
def test_mean_ablating_with_a_batchs_own_mean_leaves_its_mean_unchanged(model, clean, positions):
    own = cache(model, clean, MLP)
    with intervene(model, {MLP: Mean(own, positions=positions)}):
        after = cache(model, clean, MLP)
    over = (0, 1) if positions == "all" else 0
    torch.testing.assert_close(after[MLP].mean(dim=over), own[MLP].mean(dim=over))
    assert after[MLP].std(dim=0).max() < 1e-6
    assert (after[MLP].std(dim=1).max() < 1e-6) == (positions == "all")


def test_an_ablation_undone_leaves_logits_bit_identical(model, clean):
    before = model(clean)
    during = run(model, clean, {"blocks.*.attn.hook_z": Zero()})
    assert not torch.equal(during, before)
    assert torch.equal(model(clean), before)


def test_gradients_enabled_or_not_the_intervention_is_the_same(model, clean):
    for hook in ("blocks.1.hook_resid_mid", "blocks.1.hook_resid_pre", "blocks.0.hook_mlp_in"):
        without = run(model, clean, {hook: Zero()})
        with intervene(model, {hook: Zero()}):
            assert torch.equal(model(clean), without)


def test_gradients_pass_around_what_is_ablated(model, clean):
    with intervene(model, {f"{Z}[head=2]": Zero()}):
        model(clean, return_type="loss").backward()
    rows = model.blocks[1].attn.proj.weight.grad.unflatten(1, (4, 8)).abs().amax(dim=(0, 2))
    assert rows[2] == 0
    assert rows[[0, 1, 3]].min() > 0


# what each intervention puts in place


def test_a_mean_over_a_reference_is_taken_head_by_head_and_never_over_padding(
    model, clean, corrupted
):
    mask = torch.ones_like(corrupted, dtype=torch.bool)
    mask[0, 5:] = mask[2, 9:] = False
    kept = cache(model, corrupted, Z)
    expected = kept[Z][mask][:, 3].mean(dim=0)
    with intervene(model, {f"{Z}[head=3]": Mean(kept, mask=mask)}):
        after = cache(model, clean, Z)[Z]
    torch.testing.assert_close(after[:, :, 3], expected.expand(4, 16, 8))
    assert torch.equal(after[:, :, :3], cache(model, clean, Z)[Z][:, :, :3])


def test_a_mean_at_one_position_is_of_that_position_without_its_padding(model, clean, corrupted):
    mask = torch.ones_like(corrupted, dtype=torch.bool)
    mask[1, 6] = False
    kept = cache(model, corrupted, MLP)
    with intervene(model, {f"{MLP}[pos=6]": Mean(kept, positions="each", mask=mask)}):
        after = cache(model, clean, MLP)[MLP]
    expected = kept[MLP][[0, 2, 3], 6].mean(dim=0)
    torch.testing.assert_close(after[:, 6], expected.expand(4, 32))


def test_a_mean_over_positions_takes_a_reference_of_any_length(model, clean, corrupted):
    kept = cache(model, corrupted[:, :7], MLP)
    with intervene(model, {f"{MLP}[pos=-1,neuron=4]": Mean(kept)}) as receipt:
        after = cache(model, clean, MLP)[MLP]
    torch.testing.assert_close(after[:, -1, 4], kept[MLP][..., 4].mean().expand(4))
    assert next(iter(receipt)).elements == 4


def test_resampling_gives_each_example_another_one_and_the_same_at_every_site(model, clean):
    kept = cache(model, clean, ["blocks.*.attn.hook_z", "blocks.*.hook_mlp_out"])
    with intervene(model, dict.fromkeys(kept, Resample(kept, seed=3))):
        after = cache(model, clean, ["blocks.*.attn.hook_z", "blocks.*.hook_mlp_out"])
    drawn = [
        [next(i for i in range(4) if torch.equal(row, kept[name][i])) for row in after[name]]
        for name in kept
    ]
    assert all(draw == drawn[0] for draw in drawn)
    assert all(i != own for own, i in enumerate(drawn[0]))


def test_equal_seeds_draw_equal_examples_and_noise(model, clean, corrupted):
    kept = cache(model, corrupted[:3], Z)
    for make in (lambda seed: Resample(kept, seed), lambda seed: Noise(0.5, seed)):
        first = run(model, clean, {Z: make(0)})
        assert torch.equal(run(model, clean, {Z: make(0)}), first)
        assert any(not torch.equal(run(model, clean, {Z: make(seed)}), first) for seed in (1, 2))


def test_noise_is_as_large_as_it_says_relative_to_the_parts_own_spread(model, text_tokens):
    site = f"{Z}[head=1]"
    before = cache(model, text_tokens, Z)[Z][:, :, 1]
    with intervene(model, {site: Noise(0.5)}) as receipt:
        after = cache(model, text_tokens, Z)[Z][:, :, 1]
    assert (after - before).std() / before.std() == pytest.approx(0.5, rel=0.05)
    expected = (after - before).norm() / before.norm()
    assert receipt[site].relative_norm == pytest.approx(float(expected))


def test_steering_adds_a_vector_to_every_position_of_the_part(model, clean):
    vector = torch.arange(8.0)
    before = cache(model, clean, Z)[Z]
    with intervene(model, {f"{Z}[head=1,pos=-2]": Steer(vector, scale=-2.0)}):
        after = cache(model, clean, Z)[Z]
    expected = torch.zeros_like(before)
    expected[:, -2, 1] = -2 * vector
    torch.testing.assert_close(after - before, expected)


def test_a_plain_function_is_an_intervention_even_if_it_edits_in_place(model, clean):
    doubled = run(model, clean, {MLP: lambda value: 2 * value})
    in_place = run(model, clean, {MLP: lambda value: value.mul_(2)})
    assert torch.equal(doubled, in_place)
    assert not torch.equal(doubled, model(clean))


def test_an_intervention_can_be_about_some_examples_only(model, clean):
    chosen = torch.tensor([True, False, False, True])
    ablated, before = run(model, clean, {MLP: Zero(examples=chosen)}), model(clean)
    assert torch.equal(ablated[~chosen], before[~chosen])
    assert torch.equal(ablated[chosen], run(model, clean, {MLP: Zero()})[chosen])


def test_no_intervention_on_attention_lets_a_model_see_the_future(model, clean):
    reference = cache(model, clean, "blocks.*.attn.*")
    noise = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    later = clean.clone()
    later[:, 10:] = later[:, 10:].flip(0)
    for name in ("blocks.0.attn.hook_attn_scores", "blocks.0.attn.hook_pattern"):
        for what in (
            Zero(),
            lambda value: value + noise,
            Steer(torch.tensor(0.3)),
            Mean(reference, positions="each"),
            lambda value: torch.ones_like(value),
        ):
            first, second = (
                run(model, tokens, {name: what}, allow_no_effect=True) for tokens in (clean, later)
            )
            torch.testing.assert_close(first[:, :10], second[:, :10])


def test_nothing_is_ever_edited_in_place(model, clean, corrupted):
    kept = cache(model, corrupted, "*")
    copies = {name: value.clone() for name, value in kept.items()}
    weights = copy.deepcopy(model.state_dict())
    with intervene(model, {"hook_pos_embed": Zero(), "blocks.*.hook_resid_mid": Patch(kept)}):
        model(clean)
    run(model, clean, {"blocks.*.attn.hook_v": Resample(kept), "hook_embed": Mean(kept)})
    assert all(torch.equal(kept[name], copies[name]) for name in kept)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_the_receipt_counts_sites_firings_elements_and_the_size_of_the_change(model, clean):
    with intervene(
        model, {"blocks.*.hook_mlp_out[pos=0]": Zero(), Z: Steer(torch.ones(8))}
    ) as receipt:
        model(clean)
        model(clean[:2])
    zero, steer = receipt
    assert [str(site) for site in zero.sites] == [
        f"blocks.{i}.hook_mlp_out[pos=0]" for i in range(3)
    ]
    assert (zero.fired, steer.fired) == (6, 2)
    assert zero.elements == zero.changed == 3 * (4 + 2) * 32
    assert steer.changed == (4 + 2) * 16 * 32
    assert zero.relative_norm == pytest.approx(1.0)
    assert receipt[Z] is steer
    table = str(receipt).splitlines()
    assert len(table) == 3
    assert table[1].split()[:2] == ["blocks.*.hook_mlp_out[pos=0]", "Zero()"]


def test_interventions_work_on_any_hooked_root_module():
    class Doubling(HookedRootModule):
        def __init__(self):
            super().__init__()
            self.hook_x = HookPoint()
            self.setup()

        def forward(self, x):
            return 2 * self.hook_x(x + 1)

    model, x = Doubling(), torch.rand(2, 3, 4)
    with intervene(model, {"hook_x[pos=1]": Zero()}):
        out = model(x)
    assert out[:, 1].abs().max() == 0
    assert torch.equal(out[:, [0, 2]], model(x)[:, [0, 2]])


def test_interventions_work_on_a_bridge(bridge):
    tokens = torch.arange(20).view(2, 10)
    before = bridge(tokens)
    ablated = [
        run(bridge, tokens, {site: Zero()})
        for site in ("blocks.1.attn.hook_z[head=1]", "blocks.1.attn.o.hook_in[head=1]")
    ]
    assert torch.equal(bridge(tokens), before)
    with torch.no_grad():
        bridge.blocks[1].attn.o.original_component.weight[8:] = (
            0  # rows of head 1, as GPT-2 has them
        )
    for logits in ablated:
        torch.testing.assert_close(logits, bridge(tokens))
        assert not torch.allclose(logits, before)


def test_two_names_of_one_hook_point_are_one_site(bridge):
    both = {"blocks.0.attn.hook_q": Zero(), "blocks.0.attn.q.hook_out": Zero()}
    with pytest.raises(InterventionError, match="both claim a part of"):
        run(bridge, torch.arange(4).view(1, 4), both)


@settings(max_examples=25, deadline=None)
@given(
    hook=st.sampled_from(["attn.hook_q", "attn.hook_z", "hook_resid_mid", "mlp.hook_post"]),
    layer=st.integers(0, 1),
    head=st.integers(0, 1),
    pos=st.integers(-5, 4),
    neuron=st.integers(0, 3),
    batch=st.integers(1, 3),
)
def test_an_intervention_changes_its_part_and_nothing_else(hook, layer, head, pos, neuron, batch):
    model = GPT(GPTConfig(block_size=5, vocab_size=7, n_layer=2, n_head=2, n_embd=8))
    tokens = torch.arange(batch * 5).view(batch, 5) % 7
    name = f"blocks.{layer}.{hook}"
    per_head = "attn" in hook
    site = Site(name, head=head if per_head else None, pos=pos, neuron=neuron)
    before = cache(model, tokens, name)[name]
    with intervene(model, {site: lambda value: value + 1}) as receipt:
        after = cache(model, tokens, name)[name]
    expected = before.clone()
    expected[(slice(None), pos, head, neuron) if per_head else (slice(None), pos, neuron)] += 1
    assert torch.equal(after, expected)
    assert receipt[site].changed == batch


def test_caching_what_the_run_does_not_come_past_is_a_sentence(model, clean):
    with pytest.raises(HookNameError, match="nearest"):
        cache(model, clean, "blocks.7.*")
    with pytest.raises(SiteError, match=r"never reached hook_logits"):
        cache(model, clean, ["hook_embed", "hook_logits"], stop_at_layer=1)


def test_a_cache_holds_what_was_asked_and_spells_attention_out_only_for_patterns(
    model, text_tokens, monkeypatch
):
    spelt_out = []
    for layer, block in enumerate(model.blocks):
        attend = block.attn.attend

        def noting(*qkv, layer=layer, attend=attend):
            spelt_out.append(layer)
            return attend(*qkv)

        monkeypatch.setattr(block.attn, "attend", noting)
    names = ["blocks.0.hook_resid_pre", "blocks.1.attn.hook_z", "blocks.1.attn.hook_q"]
    assert set(cache(model, text_tokens, names)) == set(names)
    assert spelt_out == []
    cache(model, text_tokens, "blocks.1.attn.hook_pattern")
    assert spelt_out == [1]
