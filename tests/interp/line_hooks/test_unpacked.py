"""A tensor that a line takes apart, ``q, k, v = qkv``, is as many values as it has names."""

import torch

import interp as ip
from interp import hook_lines
from interp.metrics import loss
from tests.interp.line_hooks.fused import HEADS, VOCABULARY, WIDTH, FusedDecoder

LENGTH = HEADS  # and a head is as long, so that no axis is known by its size
TOKENS = torch.randint(VOCABULARY, (3, LENGTH), generator=torch.Generator().manual_seed(2))


def decoder() -> FusedDecoder:
    torch.manual_seed(0)
    return FusedDecoder().eval()


@torch.no_grad()
def test_each_part_has_its_name_and_is_what_the_projection_makes():
    model = decoder()
    view = hook_lines(model, TOKENS)
    kept = {}
    handle = model.layers[1].qkv.register_forward_hook(
        lambda module, given, made: kept.update(made=made)
    )
    _, seen = view.run_with_cache(TOKENS)
    handle.remove()
    parts = kept["made"].unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    for name, part in zip("qkv", parts, strict=True):
        assert torch.equal(seen[f"layers.1.{name}"], part)
        assert view.hook_dict[f"layers.1.{name}"].source.code.startswith("q, k, v = self.qkv(x)")


@torch.no_grad()
def test_a_change_of_one_part_is_that_of_its_rows_of_the_projection():
    model = decoder()
    view = hook_lines(model, TOKENS)
    whole = loss(model(TOKENS), TOKENS).mean()
    asked = {f"layers.1.{name}": ip.Zero() for name in "kv"}
    table = ip.sweep(view, TOKENS, asked, loss, progress=False).set_index("site")
    for place, name in ((1, "k"), (2, "v")):
        rows = slice(place * WIDTH, (place + 1) * WIDTH)
        cut = decoder()
        cut.layers[1].qkv.weight[rows] = 0
        cut.layers[1].qkv.bias[rows] = 0
        expected = loss(cut(TOKENS), TOKENS).mean() - whole
        assert abs(table.loc[f"layers.1.{name}", "delta"] - float(expected)) < 1e-6
        assert abs(expected) > 1e-4
