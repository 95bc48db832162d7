"""A block's interventions act in the runs they are about, and nowhere else."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from gpt import GPT, GPTConfig
from interp.caching import cache
from interp.errors import (
    HookNameError,
    InterventionError,
    NoEffectError,
    NonFiniteError,
    SiteError,
)
from interp.hooking import evaluating
from interp.interventions import Mean, Patch, Resample, Steer, Zero, intervene
from interp.site import Site, sites

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


# who else is there


def test_a_block_is_about_the_runs_of_its_own_thread(model, clean):
    expected = {head: run(model, clean, {f"{Z}[head={head}]": Zero()}) for head in (0, 1)}
    found, plain = {}, model(clean)
    both = threading.Barrier(3, timeout=120)

    def work(head):
        with torch.no_grad(), intervene(model, {f"{Z}[head={head}]": Zero()}) as receipt:
            both.wait()
            found[head] = model(clean)
            kept = cache(model, clean, MLP)
            sites(model, "blocks.*")
            both.wait()
            found[head, "kept"], found[head, "fired"] = kept[MLP], next(iter(receipt)).fired

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work, head) for head in (0, 1)]
        both.wait()
        bystander = model(clean)
        both.wait()
        for future in futures:
            future.result()
    # Rounding may differ: whoever reads the patterns meanwhile has attention spelt out for all.
    torch.testing.assert_close(bystander, plain, rtol=1e-5, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.1
    for head in (0, 1):
        torch.testing.assert_close(found[head], expected[head], rtol=1e-5, atol=1e-5)
        assert found[head, "fired"] == 2
    assert not torch.equal(found[0, "kept"], found[1, "kept"])
    assert not any(attached(model).values())


def test_a_block_whose_runs_are_all_in_other_threads_says_so(model, clean):
    elsewhere = pytest.raises(NoEffectError, match="runs of other threads do not count")
    with ThreadPoolExecutor(1) as pool, elsewhere, intervene(model, {MLP: Zero()}):
        pool.submit(model, clean).result()


def test_a_model_in_training_is_given_back_so_by_whichever_thread_ends_last(model):
    model.train()
    entered, left = threading.Event(), threading.Event()

    def last():
        with evaluating(model):
            entered.set()
            assert left.wait(timeout=120)
            return any(module.training for module in model.modules())

    with ThreadPoolExecutor(1) as pool:
        with evaluating(model):
            running = pool.submit(last)
            assert entered.wait(timeout=120)
        left.set()
        assert not running.result()
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_made_inside_a_block_is_a_copy_of_the_model_alone(model, clean, copied):
    expected = model(clean)
    with intervene(model, {f"{Z}[head=2]": Zero()}) as receipt:
        model(clean)
        snapshot = copied(model)
        torch.testing.assert_close(snapshot(clean), expected)
    torch.testing.assert_close(snapshot(clean), expected)
    assert next(iter(receipt)).fired == 1
    assert not any(attached(snapshot).values())
    assert not snapshot._forward_pre_hooks and not snapshot._forward_hooks
    with intervene(snapshot, {f"{Z}[head=2]": Zero()}):
        ablated = snapshot(clean)
    assert torch.equal(ablated, run(model, clean, {f"{Z}[head=2]": Zero()}))


def test_resetting_the_users_hooks_leaves_the_block_in_force(model, clean):
    expected = run(model, clean, {MLP: Zero()})
    model.add_hook(MLP, lambda value, hook: 3 * value)
    with torch.no_grad(), intervene(model, {MLP: Zero()}) as receipt:
        model.reset_hooks()
        model.remove_all_hook_fns()
        assert torch.equal(model(clean), expected)
    assert receipt[MLP].fired == 1


def test_taking_the_hooks_of_a_block_off_is_an_error(model, clean):
    for take_off in (
        lambda: model.reset_hooks(including_permanent=True),
        lambda: model.hook_dict[MLP]._forward_hooks.clear(),
    ):
        lost = pytest.raises(InterventionError, match="was taken off inside the block")
        with lost, intervene(model, {MLP: Zero()}):
            model(clean)
            take_off()
        assert not any(attached(model).values())


def test_blocks_may_be_left_in_another_order(model, clean):
    expected = run(model, clean, {f"{Z}[head=2]": Zero()})
    outer, inner = intervene(model, {MLP: Zero()}), intervene(model, {f"{Z}[head=2]": Zero()})
    outer.__enter__()
    inner.__enter__()
    model(clean)
    outer.__exit__(None, None, None)
    assert torch.equal(model(clean), expected)
    inner.__exit__(None, None, None)
    assert not any(attached(model).values())


class Looped(HookedRootModule):
    """One block that runs three times over; a bias that is a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.wide, self.bias = torch.nn.Linear(4, 4), torch.nn.Parameter(torch.randn(1, 9, 8))
        self.hook_out, self.hook_bias = HookPoint(), HookPoint()
        self.hook_half, self.hook_given = HookPoint(), HookPoint()
        self.register_buffer("table", torch.randn(20, 4))
        self.setup()

    def forward(self, x):
        x = self.hook_given(x)
        bias = self.hook_bias(self.bias[:, : x.shape[1]].chunk(2, dim=-1)[0])
        x = x + bias + self.hook_half(self.table[: x.shape[1]].expand(x.shape))
        for _ in range(3):
            x = x + self.hook_out(self.wide(x).tanh())
        return x


def test_what_a_run_comes_past_several_times_has_no_one_value():
    model, x = Looped().eval(), torch.randn(2, 5, 4)
    with pytest.raises(SiteError, match="reaches hook_out several times"):
        cache(model, x, "hook_out")
    last = {"hook_out": torch.randn(2, 5, 4)}
    for what in (Patch(last), Mean(last), Resample(last)):
        with pytest.raises(InterventionError, match="one run reaches hook_out several times"):
            run(model, x, {"hook_out": what})
    with torch.no_grad(), intervene(model, {"hook_out": Zero()}) as receipt:
        assert torch.equal(model(x), model(x))
    assert receipt["hook_out"].fired == 6
    with (
        torch.no_grad(),
        intervene(model, {"hook_bias": Patch({"hook_bias": last["hook_out"][:1]})}),
    ):
        assert torch.equal(model(x), model(x))  # two runs, each of which reaches it once


def test_a_cache_does_not_change_with_what_outlives_the_run():
    model, x = Looped().eval(), torch.randn(2, 5, 4)
    kept = cache(model, x, ["hook_bias", "hook_half", "hook_given"])
    before = {name: value.clone() for name, value in kept.items()}
    with torch.no_grad():
        for tensor in (*model.parameters(), model.table, x):
            tensor += 1
    assert all(torch.equal(kept[name], before[name]) for name in kept)


def test_a_cache_is_of_the_model_in_evaluation_mode():
    model = GPT(GPTConfig(block_size=8, vocab_size=7, n_layer=1, n_embd=8, dropout=0.5)).train()
    tokens = torch.arange(6).view(1, 6)
    first, second = (cache(model, tokens, "blocks.0.hook_mlp_out") for _ in range(2))
    assert torch.equal(first["blocks.0.hook_mlp_out"], second["blocks.0.hook_mlp_out"])
    assert all(module.training for module in model.modules())


def test_a_vector_for_each_example_or_position_is_said_with_all_axes(model, clean):
    point = "blocks.0.hook_resid_post"
    vectors = torch.randn(4, 32)
    before = cache(model, clean, point)[point]
    for vector, expected in (
        (vectors[:, None], before + vectors[:, None]),
        (torch.randn(16, 32)[None], None),
        (vectors[0], before + vectors[0]),
    ):
        with intervene(model, {point: Steer(vector)}):
            after = cache(model, clean, point)[point]
        torch.testing.assert_close(after, before + vector if expected is None else expected)
    for rows in (4, 16):
        with pytest.raises(InterventionError, match="cannot be told which axes"):
            run(model, clean, {point: Steer(torch.randn(rows, 32))})


def test_no_query_is_left_without_a_key(model, clean):
    scores = "blocks.0.attn.hook_attn_scores"
    for what in (
        lambda value: value + torch.inf,
        lambda value: torch.full_like(value, -torch.inf),
        lambda value: value / 0 * 0,
    ):
        with pytest.raises(NonFiniteError):
            run(model, clean, {scores: what})

    def without_first_key(value):
        value[..., 1:, 0] = -torch.inf
        return value

    assert run(model, clean, {scores: without_first_key}).isfinite().all()


def test_keys_with_no_attention_at_all_are_not_taken_for_masked(model, clean):
    with torch.no_grad():
        model.blocks[0].attn.query.weight *= 300  # softmax knows nothing but 0 and 1
    name = "blocks.0.attn.hook_pattern"
    with intervene(model, {name: lambda value: torch.ones_like(value)}):
        after = cache(model, clean, name)[name]
    assert torch.equal(after, torch.ones(16, 16).tril().expand(after.shape))


def test_receipts_with_the_same_key_are_told_apart(model, clean):
    own = cache(model, clean, MLP)
    half = torch.tensor([True, True, False, False])
    both = {Site(MLP): Zero(examples=half), MLP: Mean(own, examples=~half)}
    with torch.no_grad(), intervene(model, both) as receipt:
        model(clean)
    assert [effect.intervention[:4] for effect in receipt] == ["Zero", "Mean"]
    assert [effect.fired for effect in receipt] == [1, 1]
    assert repr(receipt) == str(receipt)
    with pytest.raises(InterventionError, match="2 interventions of this block are on"):
        receipt[MLP]
    with pytest.raises(InterventionError, match=r"nearest: blocks\.1\.hook_mlp_out"):
        receipt["blocks.1.hook_mlp"]
    nothing = {Site(MLP): Zero(examples=half), MLP: Patch(own, examples=~half)}
    with pytest.raises(NoEffectError, match="changed nothing"):
        run(model, clean, nothing)


# the block


def test_blocks_nest_and_the_inner_sees_what_the_outer_left(model, clean):
    with intervene(model, {MLP: lambda value: value + 1}):
        with intervene(model, {MLP: lambda value: value * 3}):
            nested = cache(model, clean, MLP)[MLP]
        outer = cache(model, clean, MLP)[MLP]
    before = cache(model, clean, MLP)[MLP]
    torch.testing.assert_close(nested, (before + 1) * 3)
    torch.testing.assert_close(outer, before + 1)


def test_hooks_of_the_user_run_first_and_stay(model, clean):
    seen = []
    model.hook_dict[MLP].add_hook(lambda value, hook: seen.append(value.clone()))
    model.hook_dict[MLP].register_forward_hook(lambda *_: None)
    before = attached(model)
    run(model, clean, {MLP: Zero()})
    assert attached(model) == before
    assert seen[0].abs().min() > 0
    model(clean)
    assert len(seen) == 2


def test_no_hook_stays_behind_whatever_is_raised(model, clean):
    before = attached(model)
    with pytest.raises(KeyError), intervene(model, {"blocks.*.hook_mlp_out": Zero()}):
        model(clean)
        raise KeyError
    with pytest.raises(HookNameError):
        run(model, clean, {"*.hook_mlp_out": Zero(), "hook_zz": Zero()})
    with pytest.raises(SiteError), intervene(model, {f"{Z}[head=4]": Zero()}):
        model(clean)
    assert attached(model) == before


def test_a_block_survives_that_the_user_resets_all_hooks_inside(model, clean):
    with intervene(model, {MLP: Zero()}):
        model(clean)
        model.reset_hooks()
    assert not any(attached(model).values())


def test_the_users_run_with_hooks_and_run_with_cache_work_inside_the_block(model, clean):
    with intervene(model, {MLP: Zero()}):
        _, kept = model.run_with_cache(clean, names_filter=MLP)
        model.run_with_hooks(clean, fwd_hooks=[(MLP, lambda value, hook: None)])
        again = model(clean)
    assert kept[MLP].abs().max() == 0
    assert torch.equal(again, run(model, clean, {MLP: Zero()}))
