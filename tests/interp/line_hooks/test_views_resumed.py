"""A sweep over a view goes on where it was, and begins anew where anything differs."""

import pandas as pd
import pytest
import torch

import interp as ip
from interp import hook_lines
from interp.errors import UsageError
from tests.interp.line_hooks.families import TOKENS, built


class Counted:
    """A store that counts what it is given."""

    def __init__(self):
        self.rows, self.recorded = {}, 0

    def task(self, identity):
        return self.rows.get(identity)

    def record(self, identity, rows):
        self.recorded += 1
        self.rows[identity] = rows
        return rows


def swept(view, store):
    zeros = {site: ip.Zero() for site in ip.sites(view, "blocks.*.attn.hook_z", each="head")}
    return ip.sweep(view, TOKENS, zeros, ip.loss, progress=False, run=store)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_sweep_over_a_view_is_resumed_and_computed_anew_where_a_weight_differs(kind):
    store, model = Counted(), built(kind)
    first = swept(hook_lines(model, TOKENS), store)
    assert store.recorded > 0
    store.recorded = 0
    again = swept(hook_lines(built(kind), TOKENS), store)  # another view of an equal model
    assert store.recorded == 0
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    view = hook_lines(model, TOKENS)
    with torch.no_grad():
        next(iter(view.inner.parameters()))[TOKENS[0, 0]] += 0.5
    changed = swept(view, store)
    assert store.recorded > 0
    pd.testing.assert_frame_equal(changed, swept(view, None), check_exact=True)
    assert not changed["value"].equals(first["value"])


def test_a_view_with_hooks_on_it_is_not_resumed():
    view = hook_lines(built("llama"), TOKENS)
    view.hook_dict["blocks.0.hook_attn_out"].add_hook(lambda value, hook: value * 2)
    with pytest.raises(UsageError, match="there are hooks on the model's"):
        swept(view, Counted())
    view.reset_hooks()
    store = Counted()
    swept(view, store)
    assert store.recorded > 0
