"""Blocks with habits of their own: a sweep over them gives what single runs give, or a sentence."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import interp as ip
from interp.errors import UsageError
from interp.interventions import Patch, Steer, Zero
from interp.metrics import logit_difference, loss
from interp.site import Site
from interp.sweep import effects_of
from tests.interp.line_hooks.families import TOKENS
from tests.interp.line_hooks.test_sweeps_by_block import OTHER, Block, Small, compared

TEXTS, OTHERS = TOKENS % 11, (OTHER + 3) % 11
MOST = 4 * len(TEXTS) + 1  # more rows than a proof has, fewer than a sweep


def model_of(block, through=None):
    class Model(Small):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.blocks = nn.ModuleList(block(8) for _ in range(4))
            self.setup()
            self.double().eval()

        def through(self, x):
            return super().through(x) if through is None else through(self, x)

    return Model()


def questions_of(model, name="blocks.{}.hook_out"):
    reference = ip.cache(model, OTHERS, [name.format(layer) for layer in range(4)])
    return [
        (Site(name.format(layer), pos=pos), Zero()) for layer in range(4) for pos in range(6)
    ] + [(Site(name.format(layer)), Patch(reference)) for layer in range(4)]


class CountsRows(Block):
    def forward(self, x):
        if len(x) > MOST:
            raise RuntimeError(f"at most {MOST} texts, not {len(x)}")
        return super().forward(x)


class AssertsRows(Block):
    def forward(self, x):
        assert len(x) <= MOST
        return super().forward(x)


class HasABuffer(Block):
    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("scales", torch.linspace(1, 1, MOST)[:, None, None])

    def forward(self, x):
        return super().forward(x * self.scales[: len(x)])


class LooksUp(Block):
    def forward(self, x):
        return super().forward(x + 0 * torch.arange(MOST)[len(x) - 1])


class KeepsAMask(Block):
    mask = None

    def forward(self, x):
        if self.mask is None or len(self.mask) < len(x) < MOST:
            self.mask = torch.full((len(x), 1, 1), 1.1, dtype=x.dtype)
        return super().forward(x * self.mask[: len(x)])


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (CountsRows, "RuntimeError: at most 9 texts"),
        (AssertsRows, "AssertionError"),
        (HasABuffer, "RuntimeError: The size of tensor"),
        (LooksUp, "IndexError: index"),
        (KeepsAMask, "RuntimeError: The size of tensor"),
    ],
)
def test_what_a_block_raises_in_a_batch_gets_each_trial_a_run_of_its_own_and_is_said_once(
    block, said
):
    model = model_of(block)
    effects = compared(model, TEXTS, questions_of(model), logit_difference(1, 2))
    explained = effects.plan.explain()
    assert "28 got a forward pass each after all: its blocks do not run alone" in explained
    assert explained.count("after all") == 1
    assert explained.count(said) == 1


class NeedsAllPositions(Block):
    def forward(self, x):
        assert x.shape[1] == TEXTS.shape[1]
        return super().forward(x)


def test_blocks_that_need_texts_of_one_length_are_given_whole_texts():
    model = model_of(NeedsAllPositions)
    effects = compared(model, TEXTS, questions_of(model), loss)
    assert "all positions run, not those before 6" in effects.plan.explain()
    assert not effects.plan.routes.by_block.failures


class InPlace(Block):
    def forward(self, x):
        before = x.cumsum(dim=1) / torch.arange(1, 1 + x.shape[1])[:, None]
        x += self.hook_out(F.gelu(self.mlp(x + self.mix(before))))
        return x


class WithoutGradient(Block):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class InADict(Block):
    def forward(self, x):
        return {"hidden": super().forward(x)}


def through_dicts(model, x):
    for block in model.blocks:
        x = block(x)["hidden"]
    return x


def through_checkpoints(model, x):
    for block in model.blocks:
        x = checkpoint(block, x, use_reentrant=False)
    return x


def through_reduce(model, x):
    return functools.reduce(lambda found, block: block(found), model.blocks, x)


@pytest.mark.parametrize(
    ("block", "through", "carried"),
    [
        (InPlace, None, False),
        (InADict, through_dicts, False),
        (WithoutGradient, None, True),
        (Block, through_checkpoints, True),
        (Block, through_reduce, True),
    ],
)
def test_a_block_written_or_called_in_another_way_gives_the_same(block, through, carried):
    model = model_of(block, through)
    effects = compared(model, TEXTS, questions_of(model), loss)
    assert bool(effects.plan.routes.by_block) == carried


class LeavesEarly(Block):
    def forward(self, x):
        return x + 1 if x.abs().max() > 30 else super().forward(x)


def through_until_large(model, x):
    for block in model.blocks:
        x = block(x)
        if bool((x > 30).any()):
            break
    return x


@pytest.mark.parametrize(("block", "through"), [(LeavesEarly, None), (Block, through_until_large)])
def test_an_exit_that_one_trial_takes_is_not_taken_by_the_others(block, through):
    model = model_of(block, through)
    far = Steer(torch.full((8,), 50.0, dtype=torch.float64), 1.0)
    questions = [(Site(f"blocks.{layer}.hook_out", pos=1), Zero()) for layer in range(4)]
    questions += [(Site("blocks.0.hook_out", pos=2), far), (Site("blocks.3.hook_out", pos=2), far)]
    if through is not None:
        questions = [each for each in questions if each[1] is not far or ".3." in each[0].hook]
    effects = compared(model, TEXTS, questions, loss)
    assert effects.plan.routes.by_block is None
    assert "depends on a number that it takes from an activation, at test_sweep_peculiar" in (
        effects.plan.explain()
    )


class Experts(Block):
    """Each token goes to the expert that it chooses, as mixtures of experts are often written."""

    def __init__(self, width):
        super().__init__(width)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        x = super().forward(x)
        chosen = F.one_hot(x[..., :3].argmax(dim=-1), 3)  # [row pos expert]
        added = torch.zeros_like(x)
        for expert in chosen.sum(dim=(0, 1)).greater(0).nonzero():
            if expert[0] == len(self.experts):
                continue
            row, pos = torch.where(chosen[..., expert[0]] > 0)
            added[row, pos] = self.experts[expert[0]](x[row, pos])
        return x + added


def test_experts_that_tokens_choose_each_for_itself_are_no_such_exit():
    model = model_of(Experts)
    effects = compared(model, TEXTS, questions_of(model), loss)
    assert effects.plan.routes.by_block
    assert not effects.plan.routes.by_block.failures


class LooksUpWhatIsSmall(Block):
    def forward(self, x):
        found = torch.arange(40)[x.abs().amax(dim=(1, 2)).long()]
        return super().forward(x + 0 * found[:, None, None])


def test_what_the_model_itself_raises_with_an_intervention_is_a_sentence():
    model = model_of(LooksUpWhatIsSmall)
    far = Steer(torch.full((8,), 50.0, dtype=torch.float64), 1.0)
    questions = [(Site(f"blocks.{layer}.hook_out", pos=2), far) for layer in range(3)]
    questions += [(Site("blocks.1.hook_out", pos=pos), Zero()) for pos in range(3)]
    said = r"cannot be run with .* at blocks\.0\.hook_out\[pos=2\]: it raises IndexError: index"
    with pytest.raises(UsageError, match=said):
        effects_of(model, TEXTS, questions, loss, progress=False)
