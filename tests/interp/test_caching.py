"""What a cache holds is what the run carried, whatever becomes of the model afterwards."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.caching import cache

TOKENS = torch.arange(12).view(2, 6)
PLACES = ("a parameter", "a buffer", "an attribute", "a list", "a dict of lists", "an object")


class Tables(HookedRootModule):
    """A model whose hook point shows a view of a tensor that it keeps somewhere."""

    def __init__(self, place):
        super().__init__()
        self.place = place
        table = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(table.clone())
        self.register_buffer("kept", table.clone())
        self.plain, self.several = table.clone(), [table.clone()]
        self.named = {"tables": [table.clone()]}
        self.rotary = SimpleNamespace(table=table.clone())
        self.hook_table = HookPoint()
        self.setup()

    def table(self):
        tables = (self.weight, self.kept, self.plain, self.several[0], self.named["tables"][0])
        return (*tables, self.rotary.table)[PLACES.index(self.place)]

    def forward(self, tokens):
        return self.hook_table(self.table()[None, : tokens.shape[1]]).expand(len(tokens), -1, -1)


@pytest.mark.parametrize("place", PLACES)
def test_a_view_of_what_outlives_the_run_is_cached_as_it_was(place):
    model = Tables(place)
    held = cache(model, TOKENS, "hook_table")["hook_table"]
    before = held.clone()
    with torch.no_grad():
        model.table().mul_(2)
    assert torch.equal(held, before)
