"""A layer read by its parts says what the model's own block says."""

import pytest
import torch

from interp.circuits.pairs import take_pair
from interp.circuits.reading import BlockReader
from interp.circuits.shown import read_heads
from interp.errors import UsageError
from tests.interp.circuits.by_hand import random_gpt, random_pair


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def test_parts_by_themselves_are_as_the_block_that_they_are_in():
    model = random_gpt()
    pair = take_pair(model, *random_pair())
    blocks = pair.patched.blocks
    deltas = torch.stack([pair.deltas[writer] for writer in pair.graph.writers[:5]])
    alone = BlockReader(model, blocks.tokens)
    alone.shown = None
    assert blocks.shown is not None
    for kinds in (["q", "k", "v"], ["mlp"]):
        ours, theirs = (each.changes(1, deltas, kinds) for each in (blocks, alone))
        for kind in kinds:
            torch.testing.assert_close(ours[kind], theirs[kind], atol=1e-6, rtol=1e-5)
            assert not ours[kind][:, :, :2].any()  # where the texts begin alike
    for pos in (None, 4):
        ours, theirs = (
            each.effects_inside(1, "k", blocks.changes(1, deltas, ["k"])["k"], "z", pos)
            for each in (blocks, alone)
        )
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    ours, theirs = (each.mlp_changes_at(1, deltas, 5) for each in (blocks, alone))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(theirs, alone.changes(1, deltas, ["mlp"])["mlp"][:, :, 5:6])


@pytest.mark.parametrize("at", [[6], [3], [1, 4]])
def test_what_heads_read_out_without_keys_or_values_is_what_they_read_out_with_them(at):
    model = random_gpt()
    blocks = BlockReader(model, random_pair()[0])
    layer, x = blocks.shown[1], blocks.entering[1]
    q = read_heads(layer, x)["q"][:, at].transpose(1, 2)
    z = layer.read_folded(layer.ln1(x), q, at)
    torch.testing.assert_close(z, blocks.values[1]["z"][:, at], atol=1e-6, rtol=1e-5)


def test_a_model_that_uses_its_parts_otherwise_is_read_as_a_whole():
    model = random_gpt()

    class Doubled(type(model.blocks[0].mlp)):
        def forward(self, x):
            return 2 * super().forward(x)

    model.blocks[1].mlp.__class__ = Doubled
    scaled = random_gpt()

    class Sharper(type(scaled.blocks[0].attn)):
        def forward(self, x):
            q = self.hook_q(3 * self.query(x).unflatten(-1, (self.n_head, -1))).transpose(1, 2)
            k = self.hook_k(self.key(x).unflatten(-1, (self.n_head, -1))).transpose(1, 2)
            v = self.hook_v(self.value(x).unflatten(-1, (self.n_head, -1))).transpose(1, 2)
            z = self.hook_z(self.attend(q / 2, k, v).transpose(1, 2))
            return self.proj(z.flatten(2))

    scaled.blocks[0].attn.__class__ = Sharper
    clean, _ = random_pair()
    assert BlockReader(scaled, clean).shown is None
    doubled = BlockReader(model, clean)
    for blocks, layer in ((doubled, 1), (BlockReader(scaled, clean), 0)):
        delta = torch.randn(1, *clean.shape, 8, generator=torch.Generator().manual_seed(0))
        found = blocks.changes(layer, delta, ["mlp"])["mlp"]
        block = (model if layer else scaled).blocks[layer]
        x = blocks.entering[layer] + blocks.values[layer]["attn"]
        expected = block.mlp(block.ln2(x + delta[0])) - block.mlp(block.ln2(x))
        torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)


def test_a_model_without_blocks_is_refused():
    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hook_dict = {}
            self.table = torch.nn.Embedding(13, 13)

        def forward(self, tokens):
            return self.table(tokens)

    with pytest.raises(UsageError, match="edges are between a model's layers"):
        BlockReader(Flat(), random_pair()[0])
