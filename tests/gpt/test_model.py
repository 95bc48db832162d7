import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gpt import GPT, GPTConfig
from gpt.errors import HookNeverFiredError, UsageError
from gpt.generating import check_request
from gpt.ladder import Bigram
from gpt.running import takes_options

PER_BLOCK = [
    "hook_resid_pre",
    "hook_attn_in",
    "ln1.hook_scale",
    "ln1.hook_normalized",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_attn_scores",
    "attn.hook_pattern",
    "attn.hook_z",
    "attn.hook_result",
    "hook_attn_out",
    "hook_resid_mid",
    "hook_mlp_in",
    "ln2.hook_scale",
    "ln2.hook_normalized",
    "mlp.hook_pre",
    "mlp.hook_post",
    "hook_mlp_out",
    "hook_resid_post",
]
OUTSIDE = ["hook_embed", "hook_pos_embed", "ln_final.hook_scale", "ln_final.hook_normalized"]
HOOKS = [*OUTSIDE, "hook_logits", *(f"blocks.{i}.{name}" for i in range(2) for name in PER_BLOCK)]


def small_gpt(**sizes) -> GPT:
    config = {"block_size": 16, "vocab_size": 11, "n_layer": 2, "n_head": 2, "n_embd": 8}
    model = GPT(GPTConfig(**config | sizes), seed=1)
    with torch.no_grad():  # at initialisation every effect is tiny; make them visible
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)), alpha=0.3)
    return model


@pytest.fixture
def model() -> GPT:
    return small_gpt()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(11, (3, 10), generator=torch.manual_seed(0))


def test_every_site_of_the_field_is_a_hook_point_and_there_are_no_others(model):
    assert sorted(model.hook_dict) == sorted(HOOKS)


def test_every_hook_point_fires_and_activations_have_the_layouts_of_the_field(model, tokens):
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: True)
    assert sorted(cache) == sorted(HOOKS)
    shapes = {name: tuple(cache[name].shape) for name in cache}
    for name in ("hook_embed", "hook_pos_embed", "blocks.0.hook_attn_in", "blocks.1.hook_mlp_in"):
        assert shapes[name] == (3, 10, 8)
    for name in "qkvz":
        assert shapes[f"blocks.0.attn.hook_{name}"] == (3, 10, 2, 4)
    assert shapes["blocks.0.attn.hook_attn_scores"] == (3, 2, 10, 10)
    assert shapes["blocks.0.attn.hook_pattern"] == (3, 2, 10, 10)
    assert shapes["blocks.0.attn.hook_result"] == (3, 10, 2, 8)
    assert shapes["blocks.0.ln1.hook_scale"] == (3, 10, 1)
    assert shapes["blocks.0.mlp.hook_post"] == (3, 10, 32)
    assert shapes["hook_logits"] == (3, 10, 11)


@pytest.mark.parametrize("bias", [False, True])
def test_paths_taken_when_someone_looks_agree_with_the_fused_ones(tokens, bias):
    model = small_gpt(bias=bias)
    unwatched = model(tokens)
    watched, _ = model.run_with_cache(tokens, names_filter=lambda name: True)
    torch.testing.assert_close(watched, unwatched, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", HOOKS)
def test_a_returned_edit_and_an_edit_in_place_mean_the_same(model, tokens, name):
    def factor(activation):  # uneven, for a norm forgives an even one
        return 1.5 + torch.arange(activation.shape[-1]).cos()

    def returned(activation, hook):
        return activation * factor(activation)

    def in_place(activation, hook):
        activation.mul_(factor(activation))

    with torch.no_grad():
        clean = model(tokens)
        by_return = model.run_with_hooks(tokens, fwd_hooks=[(name, returned)])
        by_mutation = model.run_with_hooks(tokens, fwd_hooks=[(name, in_place)])
    assert not torch.allclose(by_return, clean, atol=1e-4)
    assert torch.equal(by_return, by_mutation)


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("blocks.1.hook_resid_pre", "blocks.0.hook_resid_post"),
        ("blocks.1.hook_attn_in", "blocks.1.hook_resid_pre"),
        ("blocks.1.hook_mlp_in", "blocks.1.hook_resid_mid"),
    ],
)
def test_an_edit_in_place_leaves_the_values_that_share_its_tensor_alone(
    model, tokens, name, shared
):
    seen = {}
    keep = [(shared, lambda activation, hook: seen.update(value=activation))]
    edit = [(name, lambda activation, hook: activation.zero_())]
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=keep + edit)
    assert seen["value"].norm() > 0


def test_gradients_reach_every_hook_point_and_in_place_edits_survive_backward(model, tokens):
    _, cache = model.run_with_cache(tokens, incl_bwd=True, return_type="loss")
    forward = {name for name in cache if not name.endswith("_grad")}
    assert {f"{name}_grad" for name in forward} <= set(cache)


def test_causality_later_tokens_never_reach_earlier_logits(model, tokens):
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 11
    for names in (None, lambda name: "pattern" in name):
        before = model.run_with_cache(tokens, names_filter=names)[0]
        after = model.run_with_cache(changed, names_filter=names)[0]
        assert torch.equal(before[:, :6], after[:, :6])
        assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_the_loss_is_the_mean_cross_entropy_of_the_next_token(model, tokens):
    logits, loss = model(tokens, return_type="both")
    probability = logits[:, :-1].softmax(-1).gather(-1, tokens[:, 1:, None])
    torch.testing.assert_close(loss, -probability.log().mean())
    targets = tokens.roll(-1, dims=1)
    given = model(tokens, targets, return_type="loss")
    torch.testing.assert_close(given, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    assert model(tokens, return_type=None) is None


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_stopping_at_a_layer_and_starting_there_is_the_whole_run(model, tokens, layer):
    residual = model(tokens, stop_at_layer=layer)
    assert residual.shape == (3, 10, 8)
    assert torch.equal(model(residual, start_at_layer=layer), model(tokens))


class ScaledTwice(GPT):
    """A forward of its own, which changes the stream between its blocks and behind them."""

    @takes_options
    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x) * 0.5
        return self.lm_head(self.ln_final(x)) * 2


class ReadTwice(GPT):
    @takes_options
    def forward(self, tokens):
        return super().forward(tokens) + self.lm_head(self.wte(tokens))


class Unrolled(GPT):
    @takes_options
    def forward(self, tokens):
        x = self.embed(tokens)
        x = list(super().children())[2][0](x)
        return self.lm_head(x)


def test_part_of_a_run_is_part_of_the_models_own_forward(tokens):
    model = ScaledTwice(small_gpt().config)
    residual = model(tokens, stop_at_layer=1)
    assert torch.equal(residual, 0.5 * model.blocks[0](model.embed(tokens)))
    assert torch.equal(model(residual, start_at_layer=1), model(tokens))
    beyond = model(residual, start_at_layer=1, stop_at_layer=2)
    assert torch.equal(beyond, 0.5 * model.blocks[1](residual))
    assert len(model.blocks) == 2 and "embed" not in vars(model)


def test_part_of_a_run_that_forward_does_not_have_is_refused(model, tokens):
    config = model.config
    residual = model.embed(tokens)
    reads_twice = ReadTwice(config)
    assert torch.equal(reads_twice(tokens, stop_at_layer=0), reads_twice.embed(tokens))
    with pytest.raises(UsageError, match=r"forward reads its tokens elsewhere than in self\.embed"):
        reads_twice(residual, start_at_layer=1)
    with pytest.raises(UsageError, match=r"Unrolled\.forward does not go through self\.blocks"):
        Unrolled(config)(tokens, stop_at_layer=1)
    with pytest.raises(UsageError, match="starts at a layer takes the residual stream"):
        model(tokens, start_at_layer=1)
    with pytest.raises(UsageError, match=r"Bigram has no layers in self\.blocks"):
        Bigram(config)(tokens, stop_at_layer=0)


def test_a_run_without_a_result_spares_what_is_behind_the_blocks(model, tokens):
    fired = []
    hooks = [(name, lambda value, hook: fired.append(hook.name)) for name in model.hook_dict]
    with pytest.raises(HookNeverFiredError, match="never reached ln_final"):
        model.run_with_hooks(tokens, return_type=None, fwd_hooks=hooks)
    assert fired[0] == "hook_embed" and fired[-1] == "blocks.1.hook_resid_post"


def test_weights_are_drawn_per_name_so_that_variants_share_them_wherever_shapes_agree():
    sizes = {"block_size": 16, "vocab_size": 11, "n_layer": 2, "n_embd": 8}
    two_heads = dict(GPT(GPTConfig(**sizes, n_head=2), seed=3).named_parameters())
    one_head = dict(GPT(GPTConfig(**sizes, n_head=1), seed=3).named_parameters())
    longer = dict(GPT(GPTConfig(**sizes | {"block_size": 32}, n_head=2), seed=3).named_parameters())
    other_seed = dict(GPT(GPTConfig(**sizes, n_head=2), seed=4).named_parameters())
    assert all(torch.equal(two_heads[name], one_head[name]) for name in two_heads)
    same = {name for name in two_heads if two_heads[name].shape == longer[name].shape}
    assert set(two_heads) - same == {"wpe.weight"}
    assert all(torch.equal(two_heads[name], longer[name]) for name in same)
    assert not torch.equal(two_heads["wte.weight"], other_seed["wte.weight"])


def test_initial_weights_have_the_spread_of_nanogpt():
    model = GPT(GPTConfig(n_layer=8, n_embd=256, n_head=4), seed=0)
    assert model.wte.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[5].attn.query.weight.std().item() == pytest.approx(0.02, rel=0.05)
    residual = 0.02 / math.sqrt(16)
    assert model.blocks[5].attn.proj.weight.std().item() == pytest.approx(residual, rel=0.05)
    assert model.blocks[2].mlp.proj.weight.std().item() == pytest.approx(residual, rel=0.05)
    # an untrained model knows nothing: its loss is that of a uniform guess
    loss = model(torch.randint(65, (8, 64)), return_type="loss")
    assert loss.item() == pytest.approx(math.log(65), abs=0.1)


def test_generation_is_reproducible_by_its_generator(model, tokens):
    prompt = tokens[:1, :3]
    draws = [
        model.generate(prompt, 20, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert draws[0].shape == (1, 23)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0][:, :3], prompt)


def test_temperature_zero_and_top_1_both_take_the_likeliest_token(model, tokens):
    greedy = model.generate(tokens, 4, temperature=0.0)
    assert torch.equal(greedy, model.generate(tokens, 4, top_k=1))
    assert torch.equal(greedy[:, 10], model(tokens)[:, -1].argmax(-1))


@given(k=st.integers(1, 11), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_top_k_never_draws_outside_the_k_likeliest(k, seed):
    model, prompt = small_gpt(), torch.tensor([[1, 2, 3]])
    likeliest = model(prompt)[0, -1].topk(k).indices
    generator = torch.Generator().manual_seed(seed)
    drawn = model.generate(prompt, 1, top_k=k, temperature=3.0, generator=generator)
    assert drawn[0, -1] in likeliest


def test_dropout_acts_in_training_alone(tokens):
    model = small_gpt(dropout=0.5)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"n_embd": 10, "n_head": 4}, r"n_embd \(10\) is not divisible by n_head \(4\)"),
        ({"n_layer": 0}, "n_layer is 0; it must be at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, sentence):
    with pytest.raises(UsageError, match=sentence):
        GPTConfig(**sizes)


def test_input_that_does_not_fit_is_refused(model, tokens):
    with pytest.raises(UsageError, match="17 tokens are too many: this model's block holds 16"):
        model(torch.zeros(1, 17, dtype=torch.long))
    with pytest.raises(UsageError, match="the prompt has 17 tokens; this model takes 1 to 16"):
        model.generate(torch.zeros(1, 17, dtype=torch.long), 1)
    with pytest.raises(UsageError, match="the prompt has 0 tokens"):
        model.generate(torch.zeros(1, 0, dtype=torch.long), 1)
    with pytest.raises(UsageError, match="a loss needs targets"):
        model(torch.randn(1, 4, 8), return_type="loss", start_at_layer=1)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1; it must be a number of tokens"),
        ({"max_new_tokens": 2.0}, r"max_new_tokens is 2\.0"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"temperature": -0.5}, r"temperature is -0\.5; it must be a finite number"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": 1e-40}, "temperature is 1e-40"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"top_k": 0}, "top_k is 0; it must be at least 1, or None"),
        ({"top_k": -3}, "top_k is -3"),
        ({"top_k": 1.5}, r"top_k is 1\.5"),
        (
            {"tokens": torch.tensor([1, 2])},
            r"the prompt is \[2\]; it must be a tensor of token ids",
        ),
        ({"tokens": torch.zeros(1, 3)}, r"the prompt is \[1, 3\]"),
        ({"tokens": "abc"}, "the prompt is str"),
        ({"tokens": torch.zeros(0, 3, dtype=torch.long)}, "the prompt has 3 tokens in 0 rows"),
        ({"tokens": torch.zeros(1, 0, dtype=torch.long)}, "the prompt has 0 tokens; this"),
        (
            {"tokens": torch.zeros(1, 17, dtype=torch.long)},
            "has 17 tokens; this model takes 1 to 16",
        ),
        ({"tokens": torch.tensor([[1, 11]])}, "has the token 11; this model knows 0 to 10"),
        ({"tokens": torch.tensor([[1, -1]])}, "has the token -1; this model knows 0 to 10"),
    ],
)
def test_what_cannot_be_generated_is_refused_before_a_token_is_drawn(model, request_, sentence):
    asked = {"tokens": torch.tensor([[1, 2]]), "max_new_tokens": 3} | request_
    with pytest.raises(UsageError, match=sentence):
        check_request(model.config, **asked)
    if isinstance(asked["tokens"], torch.Tensor) and asked["tokens"].dtype == torch.int64:
        with pytest.raises((UsageError, TypeError)):  # the second by the tests' check of types
            model.generate(**asked)


def test_what_can_be_generated_is(model):
    prompt = torch.tensor([[1, 2]])
    assert torch.equal(model.generate(prompt, 0), prompt)
    coldest = model.generate(prompt, 5, temperature=1e-6)
    assert torch.equal(coldest, model.generate(prompt, 5, temperature=0.0))
    assert model.generate(prompt, 3, top_k=1000, temperature=1e6).shape == (1, 5)
    assert model.generate(torch.randint(11, (2, 16)), 2).shape == (2, 18)


def test_a_model_that_answers_with_nan_writes_nothing(model):
    with torch.no_grad():
        model.wpe.weight[3] = math.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(UsageError, match="logits are NaN"):
            model.generate(torch.tensor([[1, 2]]), 5, temperature=temperature)


def test_a_model_in_training_writes_without_dropout_and_stays_in_training():
    model, prompt = small_gpt(dropout=0.5).train(), torch.tensor([[1, 2, 3]])
    model.blocks[0].eval()
    written = model.generate(prompt, 20, temperature=0.0)
    assert model.training
    assert not model.blocks[0].attn.training
    assert torch.equal(written, model.eval().generate(prompt, 20, temperature=0.0))


@pytest.mark.parametrize("options", [{}, {"stop_at_layer": 1}])
def test_another_return_type_is_refused(model, tokens, options):
    with pytest.raises(
        UsageError, match="return_type is 'foo'; it must be one of 'logits', 'loss'"
    ):
        model(tokens, return_type="foo", **options)
