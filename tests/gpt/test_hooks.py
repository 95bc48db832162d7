import pytest
import torch

from gpt import GPT, GPTConfig
from gpt.errors import HookNameError, HookNeverFiredError, UsageError


@pytest.fixture
def model() -> GPT:
    return GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.tensor([[0, 1, 2, 3]])


def look(activation, hook):
    return None


MISSPELT = "no hook point is called 'blocks.0.attn.hook_zz'; nearest: blocks.0.attn.hook_z"


def test_a_misspelt_name_is_refused_wherever_a_name_is_taken(model, tokens):
    name = "blocks.0.attn.hook_zz"
    with pytest.raises(HookNameError, match=MISSPELT):
        model.run_with_hooks(tokens, fwd_hooks=[(name, look)])
    with pytest.raises(HookNameError, match=MISSPELT):
        model.add_hook(name, look)
    with pytest.raises(HookNameError, match=MISSPELT):
        model.add_perma_hook(name, look)
    with pytest.raises(HookNameError, match=MISSPELT), model.hooks(bwd_hooks=[(name, look)]):
        pass
    for names in (name, ["hook_embed", name]):
        with pytest.raises(HookNameError, match=MISSPELT):
            model.run_with_cache(tokens, names_filter=names)


def test_a_filter_that_selects_nothing_is_refused(model, tokens):
    def nowhere(name):
        return "decoder" in name

    with pytest.raises(UsageError, match="the name filter 'nowhere' matches none of the 45 hook"):
        model.run_with_cache(tokens, names_filter=nowhere)
    with pytest.raises(UsageError, match="'nowhere' matches none"):
        model.run_with_hooks(tokens, fwd_hooks=[(nowhere, look)])


def test_a_module_that_is_no_hook_point_is_refused(model, tokens):
    with pytest.raises(HookNameError, match=r"no hook point is called 'blocks\.0\.attn'"):
        model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn", look)])


def test_a_hook_that_never_fired_is_an_error(model, tokens):
    late = [("blocks.1.hook_attn_out", look)]
    with pytest.raises(HookNeverFiredError, match=r"never reached blocks\.1\.hook_attn_out"):
        model.run_with_hooks(tokens, fwd_hooks=late, stop_at_layer=1)
    with pytest.raises(HookNeverFiredError), model.hooks(fwd_hooks=late):
        pass
    with pytest.raises(HookNeverFiredError):
        model.run_with_cache(tokens, names_filter=["blocks.1.hook_attn_out"], stop_at_layer=1)
    assert model.list_hooks() == {}


def test_caching_without_names_keeps_whatever_a_shortened_run_comes_past(model, tokens):
    _, cache = model.run_with_cache(tokens, stop_at_layer=1)
    assert "blocks.0.hook_resid_post" in cache
    assert not any(name.startswith("blocks.1") for name in cache)


def test_an_error_inside_the_block_is_not_hidden_and_leaves_no_hook(model, tokens):
    def fail(activation, hook):
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", fail), ("hook_logits", look)])
    assert model.list_hooks() == {}
    assert not any(point._forward_hooks for point in model.hook_points())


def test_hooks_attached_by_the_user_stay_and_keep_firing(model, tokens):
    fired = []
    model.add_hook("hook_embed", lambda activation, hook: fired.append(hook.name), level=-1)
    model.run_with_cache(tokens)
    model.run_with_hooks(tokens, fwd_hooks=[("hook_logits", look)])
    assert fired == ["hook_embed", "hook_embed"]


def test_attaching_a_plain_torch_hook_to_a_pattern_is_enough_to_see_it(model, tokens):
    seen = []
    point = model.blocks[0].attn.hook_pattern
    handle = point.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(tokens)
    handle.remove()
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(1, 2, 4))


def test_removing_the_batch_axis_needs_a_batch_of_one(model, tokens):
    _, cache = model.run_with_cache(tokens, remove_batch_dim=True)
    assert cache["hook_embed"].shape == (4, 8)
    with pytest.raises(UsageError, match="needs a batch of one example, not of 2"):
        model.run_with_cache(tokens.expand(2, -1), remove_batch_dim=True)


def test_a_backward_hook_that_never_fired_is_an_error(model, tokens):
    early = [("hook_embed", look)]
    never = pytest.raises(HookNeverFiredError, match="no gradient reached hook_embed")
    with never, torch.no_grad(), model.hooks(bwd_hooks=early):
        model(tokens, return_type="loss")
    with never, model.hooks(bwd_hooks=early):
        model(tokens, return_type="loss")  # and nobody calls backward
    seen = []
    both = [*early, ("hook_logits", lambda grad, hook: seen.append(grad.shape))]
    unreached = pytest.raises(HookNeverFiredError, match="no gradient reached hook_embed:")
    with unreached, model.hooks(bwd_hooks=both):
        x = model(tokens, stop_at_layer=1).detach()
        model(x, tokens, start_at_layer=1, return_type="loss").backward()
    assert len(seen) == 1
    with model.hooks(bwd_hooks=both):
        model(tokens, return_type="loss").backward()
    assert len(seen) == 2
    model.zero_grad()


def test_backward_hooks_that_stay_may_fire_later(model, tokens):
    seen = []
    later = [("hook_embed", lambda grad, hook: seen.append(grad))]
    loss = model.run_with_hooks(tokens, bwd_hooks=later, reset_hooks_end=False, return_type="loss")
    loss.backward()
    model.reset_hooks()
    assert len(seen) == 1
    model.zero_grad()


def test_gradients_are_kept_or_said_not_to_be_there(model, tokens):
    _, cache = model.run_with_cache(
        tokens, names_filter="hook_embed", incl_bwd=True, return_type="loss"
    )
    assert cache["hook_embed_grad"].abs().max() > 0
    with pytest.raises(UsageError, match="run with return_type='loss'"):
        model.run_with_cache(tokens, incl_bwd=True)
    with pytest.raises(UsageError, match="gradients enabled"), torch.no_grad():
        model.run_with_cache(tokens, incl_bwd=True, return_type="loss")
    model.zero_grad()
