"""A sweep over any model's own blocks gives what a run for each intervention gives."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import interp as ip
from interp.errors import UsageError
from interp.interventions import Patch, Zero, intervene
from interp.metrics import logit_difference, loss
from interp.site import Site, names_by_point
from interp.sweep import effects_of, plan
from tests.interp.line_hooks.families import TOKENS, WithPositions, built, viewed

OTHER = torch.cat([TOKENS[:, :3], TOKENS[:, 3:].flip(1)], dim=1)


def looped(model, tokens, questions, metric):
    values = []
    with torch.no_grad():
        for site, what in questions:
            with intervene(model, {site: what}, allow_no_effect=True):
                values.append(metric(ip.logits.logits_of(model(tokens), tokens), tokens))
    return torch.stack(values).numpy()


def compared(model, tokens, questions, metric):
    effects = effects_of(model, tokens, questions, metric, progress=False, allow_no_effect=True)
    expected = looped(model, tokens, questions, metric)
    # these models make norms and softmax in single precision, whatever the rest is in
    np.testing.assert_allclose(effects.values, expected, rtol=5e-6, atol=1e-6)
    return effects


def questions_of(view):
    """An intervention at every value of the second block, and before and between the blocks."""
    names = [
        each for each in names_by_point(view).values() if "pos" in view.hook_dict[each[0]].axes
    ]
    names = [each for each in names if ".0." not in each[0]]
    reference = ip.cache(view, OTHER, [each[0] for each in names])
    ways = (
        lambda name: (Site(name), Patch(reference)),
        lambda name: (Site(name, pos=5), Patch(reference)),
        lambda name: (Site(name, pos=-1), Zero()),
    )
    return [ways[number % 3](each[0]) for number, each in enumerate(names)]


LAST = logit_difference(1, 2)


@pytest.mark.parametrize(
    ("name", "metric"), [("gpt2", LAST), ("neox", loss), ("llama", loss), ("gemma2", LAST)]
)
def test_every_value_of_a_block_is_swept_as_in_runs_of_the_whole_model(name, metric):
    _, view = viewed(name, "eager", torch.float64)
    questions = questions_of(view)
    effects = compared(view, TOKENS, questions, metric)
    routes = effects.plan.routes
    assert routes.by_block.saves_positions
    assert any(wave.start for wave in effects.plan.waves)
    for number in routes.looped:  # what is made behind the blocks, or of no text of its own
        hook = questions[number][0].hook
        assert ".1." not in hook or view.hook_dict[hook].axes[0] != "batch"
    assert "key/value cache" in effects.plan.explain()


def test_half_precision_agrees_to_its_own_precision():
    model = built("llama", attn_implementation="eager")
    view = ip.hook_lines(model.to(torch.bfloat16), TOKENS)
    questions = [(Site("blocks.1.attn.hook_z", head=head), Zero()) for head in range(4)]
    effects = effects_of(view, TOKENS, questions, loss, progress=False)
    expected = looped(view, TOKENS, questions, loss)
    np.testing.assert_allclose(effects.values, expected, rtol=0.05)


class Small(HookedRootModule):
    """Four blocks, called as a test wants."""

    def __init__(self, width=8, vocab=11):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(4))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab)
        self.setup()
        self.double().eval()

    def forward(self, tokens):
        return self.head(self.norm(self.through(self.embed(tokens))))

    def through(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Linear(width, width)
        self.hook_out = HookPoint()

    def forward(self, x):
        before = x.cumsum(dim=1) / torch.arange(1, 1 + x.shape[1])[:, None]
        return x + self.hook_out(F.gelu(self.mlp(x + self.mix(before))))


class OutOfOrder(Small):
    def through(self, x):
        for number in (0, 2, 1, 3):
            x = self.blocks[number](x)
        return x


class EarlyExit(Small):
    def through(self, x):
        for block in self.blocks:
            x = block(x)
            if x.mean() > -10:
                return x
        return x


class SkipsAhead(Small):
    def through(self, x):
        first = x
        for block in self.blocks:
            x = block(x) + 0.1 * first
        return x


class Shared(Small):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([self.blocks[0]] * 4)


class SeesEverything(Small):
    def through(self, x):
        for block in self.blocks:
            x = block(x.flip(1)).flip(1) if block is self.blocks[1] else block(x)
        return x


class BothWays(Small):
    """Blocks called in turn, of which one looks at later positions."""

    def __init__(self):
        super().__init__()
        self.blocks[1].forward = lambda x, block=self.blocks[1]: (
            x + block.hook_out(F.gelu(block.mlp(x + block.mix(x.mean(dim=1, keepdim=True)))))
        )


class MixesTexts(Small):
    def through(self, x):
        for block in self.blocks:
            block.mean = x.mean(dim=0, keepdim=True)
            x = block(x)
        return x


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OutOfOrder, "in the order 0, 2, 1, 3"),
        (EarlyExit, "in the order 0"),
        (SkipsAhead, "is handed something else"),
        (SeesEverything, "is handed something else"),
        (Shared, "in the order 0, 0, 0, 0"),
    ],
)
def test_a_model_that_calls_its_blocks_otherwise_is_run_whole_and_says_so(kind, reason):
    model, tokens = kind(), TOKENS % 11
    layers = [0] if kind in (EarlyExit, Shared) else range(4)
    questions = [
        (Site(f"blocks.{layer}.hook_out", pos=pos), Zero()) for layer in layers for pos in range(5)
    ]
    if kind is Shared:
        with pytest.raises(UsageError, match="several times"):
            ip.cache(model, tokens, "blocks.0.hook_out")
        questions = [(Site("blocks.0.hook_out", pos=pos), Zero()) for pos in range(5)]
    effects = compared(model, tokens, questions, loss)
    assert effects.plan.routes.by_block is None
    assert len(effects.plan.routes.looped) == len(questions)
    assert reason in effects.plan.explain()


def test_a_model_without_a_cache_runs_all_positions_and_says_so():
    model, tokens = Small(), TOKENS % 11
    questions = [
        (Site(f"blocks.{layer}.hook_out", pos=pos), Zero()) for layer in range(4) for pos in (2, 6)
    ]
    effects = compared(model, tokens, questions, logit_difference(1, 2))
    assert len(effects.plan.routes.by_block.entries) == 8
    assert "all positions run: it takes no key/value cache" in effects.plan.explain()


def test_a_model_that_looks_ahead_is_run_at_all_positions_and_says_so():
    model, tokens = BothWays(), TOKENS % 11
    questions = [
        (Site(f"blocks.{layer}.hook_out", pos=pos), Zero()) for layer in range(4) for pos in (2, 6)
    ]
    early = logit_difference(1, 2, pos=0)
    effects = compared(model, tokens, questions, early)
    assert effects.plan.routes.by_block.causal is False
    assert not effects.skipped[:4].any()
    assert "earlier ones see later ones" in effects.plan.explain()


class CountsPositions(Small):
    """A model of which a block does something else where the last position is left out."""

    def __init__(self):
        super().__init__()
        self.blocks[1].forward = lambda x, block=self.blocks[1]: (
            x + block.hook_out(F.gelu(block.mlp(x))) * (1 + 1e-3 * (x.shape[1] < 7))
        )


def test_blocks_that_do_something_else_on_fewer_positions_run_on_all_of_them_and_say_so():
    model, tokens = CountsPositions(), TOKENS % 11
    questions = [(Site(f"blocks.{layer}.hook_out", pos=2), Zero()) for layer in range(4)]
    effects = compared(model, tokens, questions, logit_difference(1, 2, pos=-2))
    assert "all positions run, not those before 6" in effects.plan.explain()
    assert "a forward pass each" not in effects.plan.explain()


class Rounds(Small):
    """What its blocks return depends on the rows of a batch, in the last bits; its norm has no
    epsilon worth the name, and makes numbers of ordinary size of them."""

    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block.forward = lambda x, block=block: block.hook_out(
                x * (1 + 1e-10 * len(x)) + F.gelu(block.mlp(x))
            )
        self.norm.eps = 1e-40


def test_a_stream_that_is_set_to_zero_is_zero_to_the_last_bit():
    model, tokens = Rounds(), TOKENS % 11
    questions = [(Site(f"blocks.{layer}.hook_out"), Zero()) for layer in range(4)]
    effects = compared(model, tokens, questions, loss)
    assert len(effects.plan.routes.by_block.entries) == 4


def test_too_little_memory_for_the_blocks_is_said_and_the_model_is_run_whole():
    model, tokens = Small(), TOKENS % 11
    questions = [(Site(f"blocks.{layer}.hook_out"), Zero()) for layer in range(4)]
    found = plan(model, tokens, questions, loss, memory=2000)
    assert found.routes.by_block is None
    assert "give more memory, or fewer texts" in found.explain()


def test_changes_that_do_not_fit_into_memory_together_come_in_rounds():
    _, view = viewed("llama", "eager", torch.float64)
    questions = [
        (Site(f"blocks.{layer}.hook_{kind}", pos=pos), Zero())
        for layer in range(2)
        for kind in ("attn_out", "mlp_out", "resid_mid", "resid_post")
        for pos in range(7)
    ]
    whole = effects_of(view, TOKENS, questions, loss, progress=False)
    tight = effects_of(view, TOKENS, questions, loss, progress=False, memory=26_000)
    assert len(tight.plan.waves) > len(whole.plan.waves)
    np.testing.assert_allclose(tight.values, whole.values, rtol=1e-10)


def test_a_site_whose_text_reads_like_a_glob_is_that_site():
    """``x[pos=1]`` is position 1 of x, not x followed by one of the letters p, o, s, =, 1."""

    class Named(HookedRootModule):
        def __init__(self):
            super().__init__()
            self.x, self.x1 = HookPoint(), HookPoint()
            self.setup()

        def forward(self, value):
            return self.x1(self.x(value))

    [(site, point)] = ip.site.match(model := Named(), "x[pos=1]")
    assert (site.hook, site.pos, point) == ("x", 1, model.x)


def test_a_copy_of_a_view_is_a_view_of_a_copy_and_a_screened_sweep_agrees_with_the_exact_one():
    _, view = viewed("llama", "eager")
    point = view.hook_dict["blocks.1.attn.hook_z"]
    with ip.hooking.attach_hooks([(point, lambda value, hook: 0 * value)]):
        twin = copy.deepcopy(view)
        assert not torch.equal(twin(TOKENS), view(TOKENS))
    assert torch.equal(twin(TOKENS), view(TOKENS))
    with torch.no_grad():
        next(twin.inner.parameters()).zero_()
    assert not torch.equal(twin(TOKENS), view(TOKENS))
    heads = [(site, Zero()) for site in ip.sites(view, "blocks.*.attn.hook_z", each="head")]
    exact = ip.sweep(view, TOKENS, heads, loss, progress=False)
    rough = ip.sweep(view, TOKENS, heads, loss, screen="bfloat16", verify=2, progress=False)
    largest = rough[rough["precision"] == "exact"].index
    assert len(largest) == 2
    np.testing.assert_allclose(
        rough["delta"][largest], exact["delta"][largest], rtol=1e-3, atol=1e-6
    )


def test_a_value_that_all_texts_share_is_patched_whole_and_has_no_mean_over_texts():
    view = ip.hook_lines(model := WithPositions(), TOKENS)
    assert view.hook_dict["plain"].axes[0] == "pos"
    kept = ip.cache(view, TOKENS, ["plain", "leading"])
    kept = {name: value + 1.0 for name, value in kept.items()}
    with torch.no_grad():
        for name, added in (("plain", 3.0), ("leading", 1.0)):
            with ip.intervene(view, {name: Patch(kept)}):
                np.testing.assert_allclose(view(TOKENS), model(TOKENS, added), atol=1e-5)
        leading = kept["leading"]
        with ip.intervene(view, {"leading": ip.Mean(kept)}):
            added = leading.mean(dim=1, keepdim=True) - (leading - 1.0)
            np.testing.assert_allclose(view(TOKENS), model(TOKENS, added), atol=1e-5)
        for what in (ip.Mean(kept), ip.Resample(kept)):
            refused = pytest.raises(ip.errors.InterventionError, match="one value for all texts")
            with refused, ip.intervene(view, {"plain": what}):
                view(TOKENS)
