import linecache
import re
import sys
from collections import defaultdict
from pathlib import Path

import jaxtyping
import pytest
import torch
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import gpt.model
from gpt import GPT, GPTConfig
from interp.errors import HookNameError, SiteError
from interp.site import Site, sites, source_lines
from interp.tracing import SourceLine

SIZE = GPTConfig(block_size=8, vocab_size=11, n_layer=3, n_head=2, n_embd=8, bias=True)
TOKENS = torch.arange(10).view(2, 5)


def values_bound_by_line(model, tokens, path):
    """The tensors that each line of a file assigns to local names while the model runs."""
    bound = defaultdict(list)
    last: dict = {}

    def on_line(frame, event, arg):
        names = linecache.getline(path, last[frame]).partition("=")[0]
        for name in re.findall(r"\w+", names):
            if isinstance(frame.f_locals.get(name), torch.Tensor):
                bound[last[frame]].append(frame.f_locals[name].clone())
        last[frame] = frame.f_lineno
        return on_line

    def on_call(frame, event, arg):
        last[frame] = frame.f_lineno
        return on_line if frame.f_code.co_filename == path else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        with torch.no_grad():
            model(tokens)
    finally:
        sys.settrace(before)
    return bound


def raw_values(model, tokens):
    """What each hook point is handed, before any conversion."""
    values, handles = {}, []
    for name, point in model.hook_dict.items():
        handles.append(
            point.register_forward_pre_hook(
                lambda _, args, name=name: values.setdefault(name, args[0].clone())
            )
        )
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    return values


def same(value, other):
    return value.shape == other.shape and torch.allclose(value, other, atol=1e-6)


def test_a_site_reads_back_as_it_is_written():
    for site in (Site("hook_embed"), Site("blocks.2.attn.hook_z", head=3), Site("a", pos=-1)):
        assert Site.parse(str(site)) == site
    whole = Site("blocks.0.attn.hook_q", head=1, pos=2, neuron=3)
    assert str(whole) == "blocks.0.attn.hook_q[head=1,pos=2,neuron=3]"
    assert Site.parse("blocks.0.attn.hook_q[ neuron=3, head=1,pos=2 ]") == whole


@pytest.mark.parametrize(
    "text", ["a[head]", "a[head=1", "a[heads=1]", "a[]", "a[head=1,head=2]", "a[head=1]b"]
)
def test_what_does_not_read_as_a_site_is_a_sentence(text):
    with pytest.raises(SiteError, match="is no site"):
        Site.parse(text)


def test_a_glob_matches_by_name_and_splits_into_heads():
    found = sites(GPT(SIZE), "blocks.*.attn.hook_z", each="head")
    expected = [f"blocks.{layer}.attn.hook_z[head={h}]" for layer in range(3) for h in range(2)]
    assert [str(site) for site in found] == expected
    assert [site.layer for site in found] == [0, 0, 1, 1, 2, 2]


def test_sites_split_by_position_and_by_neuron_of_the_value_itself():
    model = GPT(SIZE)
    assert len(sites(model, "hook_embed", each="pos", tokens=TOKENS)) == 5
    assert len(sites(model, "blocks.1.mlp.hook_post", each="neuron")) == 32
    both = sites(model, "blocks.1.attn.hook_pattern", each=("head", "pos"), tokens=TOKENS)
    assert [(site.head, site.pos) for site in both] == [(h, p) for h in range(2) for p in range(5)]


def test_a_position_is_judged_by_the_text_and_not_by_two_tokens():
    model = GPT(SIZE)
    (site,) = sites(model, "blocks.0.hook_mlp_out[pos=4]")
    assert site.pos == 4
    assert sites(model, "blocks.0.hook_mlp_out[pos=4]", tokens=TOKENS) == [site]
    with pytest.raises(SiteError, match="has pos 0 to 4; there is no pos 5"):
        sites(model, "blocks.0.hook_mlp_out[pos=5]", tokens=TOKENS)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("blocks.[01].attn.hook_z", 2),
        ("blocks.[!0].attn.hook_z", 2),
        ("blocks.[01].attn.hook_z[head=1]", 2),
        ("blocks.0.attn.hook_[qkv]", 3),
        ("blocks.?.attn.hook_[qkv][head=0,pos=1]", 9),
    ],
)
def test_a_glob_may_hold_sets_of_letters(pattern, count):
    found = sites(GPT(SIZE), pattern)
    assert len(found) == count
    assert {site.head for site in found} == {Site.parse(pattern).head if "=" in pattern else None}


@pytest.mark.parametrize("part", [1.0, True, "1"])
def test_a_part_is_a_whole_number(part, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(SiteError, match="must be a whole number"):
        Site("hook_embed", neuron=part)


def test_sites_come_in_the_order_in_which_they_fire():
    hooks = [site.hook for site in sites(GPT(SIZE), "*")]
    assert hooks[:3] == ["hook_embed", "hook_pos_embed", "blocks.0.hook_resid_pre"]
    assert hooks[-1] == "hook_logits"
    assert len(hooks) == len(GPT(SIZE).hook_dict)


def test_finding_sites_leaves_no_hook_behind_and_the_model_as_it_was():
    model = GPT(SIZE)
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    sites(model, "*")
    assert not any(point._forward_hooks for point in model.hook_dict.values())
    assert not any(point._forward_pre_hooks for point in model.hook_dict.values())
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sys.gettrace() is None


def test_finding_sites_is_a_run_that_the_hooks_of_others_neither_see_nor_change():
    model, seen = GPT(SIZE), []
    handle = model.hook_dict["hook_embed"].add_hook(lambda value, hook: seen.append(value))
    model.hook_dict["hook_logits"].register_forward_hook(lambda *_: 1 / 0)
    assert len(sites(model, "*")) == len(model.hook_dict)
    assert not seen
    model(TOKENS, stop_at_layer=1)
    assert len(seen) == 1
    handle.hook.remove()
    model(TOKENS, stop_at_layer=1)
    assert len(seen) == 1
    with pytest.raises(ZeroDivisionError):
        model(TOKENS)


def test_every_hook_point_of_our_model_lies_where_the_text_of_its_source_says():
    text = Path(gpt.model.__file__).read_text().splitlines()
    lines = source_lines(GPT(SIZE))
    assert set(lines) == set(GPT(SIZE).hook_dict)
    for name, source in lines.items():
        leaf = name.rsplit(".", 1)[-1]
        (number,) = (i for i, line in enumerate(text, 1) if f"self.{leaf}(" in line)
        target, argument = re.fullmatch(
            rf"\s*(\w+) = self\.{leaf}\((.+)\)", text[number - 1]
        ).groups()
        made_before = target == argument and f" {target} = " in text[number - 2]
        expected = number - 1 if made_before else number
        assert (source.file, source.line) == ("gpt/model.py", expected), name
        assert source.code == text[expected - 1].split("#")[0].strip()
        assert Path(source.path) == Path(gpt.model.__file__)


def test_the_line_of_a_site_of_our_model_binds_the_very_value_that_the_hook_observes():
    model = GPT(SIZE).eval()
    values = raw_values(model, TOKENS)
    for name, source in source_lines(model, TOKENS).items():
        with model.hooks([(name, lambda value, hook: None)]):  # so that explicit paths run
            bound = values_bound_by_line(model, TOKENS, source.path)
        assert any(same(value, values[name]) for value in bound[source.line]), name


def test_every_hook_point_of_a_bridge_that_fires_lies_in_the_models_file(bridge):
    lines = source_lines(bridge, TOKENS)
    fired = raw_values(bridge, TOKENS)
    assert set(lines) == set(fired)
    assert {source.file for source in lines.values()} == {
        "transformers/models/gpt2/modeling_gpt2.py"
    }


def test_the_line_of_a_bridges_site_binds_its_value_or_calls_the_module_that_hides_it(bridge):
    lines = source_lines(bridge, TOKENS)
    values = raw_values(bridge, TOKENS)
    path = lines["hook_embed"].path
    bound = values_bound_by_line(bridge, TOKENS, path)
    hidden = {"ln1": "ln_1", "ln2": "ln_2", "ln_final": "ln_f", "attn": "attn"}
    for name, source in lines.items():
        owner = re.sub(r"^blocks\.\d+\.", "", name).split(".")[0]
        leaf = name.rsplit(".", 1)[-1]
        inside = leaf in ("hook_scale", "hook_normalized") or (
            owner == "attn" and not name.endswith(("attn.hook_out", "attn.hook_in"))
        )
        binds = any(same(value, values[name]) for value in bound[source.line])
        handed_on = leaf == "hook_in" and f"self.{hidden.get(owner, owner)}(" in source.code
        assert binds or handed_on or (inside and f"self.{hidden[owner]}(" in source.code), name


def test_a_bridges_residual_stream_in_the_middle_is_the_line_that_adds_attention(bridge):
    (mid,) = sites(bridge, "blocks.1.hook_resid_mid")
    assert mid.source.code == "hidden_states = attn_output + residual"
    (hidden,) = sites(bridge, "blocks.1.mlp.hook_post")
    assert hidden.source.code == "hidden_states = self.act(hidden_states)"


def test_a_hook_point_with_several_names_is_one_site(bridge):
    points = [bridge.hook_dict[site.hook] for site in sites(bridge, "blocks.*")]
    assert len({id(point) for point in points}) == len(points)
    assert [str(site) for site in sites(bridge, "blocks.0.attn.q.hook_out", each="head")] == [
        "blocks.0.attn.q.hook_out[head=0]",
        "blocks.0.attn.q.hook_out[head=1]",
    ]


class Branching(HookedRootModule):
    """Two assignments of which one runs, a loop, an inline hook, a hook that is returned."""

    def __init__(self):
        super().__init__()
        self.hook_branch, self.hook_loop = HookPoint(), HookPoint()
        self.hook_inline, self.hook_returned = HookPoint(), HookPoint()
        self.setup()

    def forward(self, tokens):
        x = tokens.float()[..., None]
        if x.sum() < 0:
            x = -x
            y = x - 1
        else:
            y = x + 1  # branch taken
        y = self.hook_branch(y)
        for _ in range(2):
            y = self.hook_loop(y)
            y = y * 2
        y = self.hook_inline(
            y + 3  # inline value
        )
        y = y / (
            # a comment between
            2
        )
        return self.hook_returned(y)


def test_the_line_is_the_one_that_ran_in_branches_loops_and_inline_calls():
    text = Path(__file__).read_text().splitlines()
    number = {
        comment: next(i for i, line in enumerate(text, 1) if line.endswith(f"# {comment}"))
        for comment in ("branch taken", "inline value")
    }
    lines = source_lines(Branching())
    assert lines["hook_branch"].line == number["branch taken"]
    assert lines["hook_branch"].code == "y = x + 1"
    assert lines["hook_loop"].line == number["branch taken"]  # its first round
    assert lines["hook_inline"].line == number["inline value"]
    assert lines["hook_inline"].code == "y = self.hook_inline(y + 3)"
    assert lines["hook_returned"].code == "y = y / 2"
    assert str(lines["hook_branch"]).startswith("test_sites.py:")


def test_source_lines_are_found_under_a_debugger_which_keeps_its_tracer():
    def debugger(frame, event, arg):
        return None

    sys.settrace(debugger)
    try:
        lines = source_lines(Branching())
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(None)
    assert all(isinstance(line, SourceLine) for line in lines.values())


@pytest.mark.parametrize(
    ("ask", "error", "sentence"),
    [
        (("blocks.0.attn.hook_zz",), HookNameError, "nearest: blocks.0.attn.hook_z"),
        (("layers.*",), HookNameError, "no hook point matches 'layers"),
        (("blocks.0.attn.hook_z[head=7]",), SiteError, "has head 0 to 1; there is no head 7"),
        (("hook_embed[head=0]",), SiteError, r"no head axis, its value is \[batch pos neuron\]"),
        (("blocks.*.hook_resid_pre", "head"), SiteError, "no head axis"),
        (("hook_embed", "pos"), SiteError, "needs tokens"),
        (("blocks.0.attn.hook_z[head=1]", "head"), SiteError, "asks for its head twice"),
        (("blocks.0.attn.hook_z", ("head", "head")), SiteError, "asks for its head twice"),
        (("blocks.0.attn.hook_z[3]",), SiteError, "is no site"),
        (("hook_embed[head=0,pos=9]",), SiteError, "no head axis"),
        (("blocks.0.ln1.hook_scale[head=1]",), SiteError, "no head axis"),
    ],
)
def test_a_site_that_does_not_exist_is_a_sentence(ask, error, sentence):
    with pytest.raises(error, match=sentence):
        sites(GPT(SIZE), *ask)


def test_sites_none_of_which_fires_are_a_sentence(bridge):
    with pytest.raises(SiteError, match=r"never reached blocks.0.attn.hook_result"):
        sites(bridge, "blocks.*.attn.hook_result")
