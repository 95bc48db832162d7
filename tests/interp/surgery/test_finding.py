import pytest

from gpt import model as model_file
from interp import surgery
from interp.errors import SurgeryError

SOURCE = surgery.read_source(model_file)


@pytest.mark.parametrize(
    ("description", "label"),
    [
        (
            {"operator": "cut-skip", "qualname": "Block.forward", "code": "x = x + attn_out"},
            "x = x + attn_out → x = attn_out",
        ),
        (
            {"operator": "cut-skip", "qualname": "Block.forward", "code": "x = x + mlp_out"},
            "x = x + mlp_out → x = mlp_out",
        ),
        (
            {"operator": "bypass-call", "qualname": "Block.forward", "target": "ln1"},
            "attn_in = self.ln1(attn_in) → attn_in = attn_in",
        ),
        (
            {"operator": "bypass-call", "qualname": "Block.forward", "target": "self.ln2"},
            "mlp_in = self.ln2(mlp_in) → mlp_in = mlp_in",
        ),
        (
            {"operator": "drop-term", "qualname": "GPT.embed", "target": "pos_emb"},
            "x = tok_emb + pos_emb → x = tok_emb",
        ),
        (
            {
                "operator": "pin-attribute",
                "qualname": "CausalSelfAttention.__init__",
                "target": "n_head",
            },
            "self.n_head = config.n_head → self.n_head = 1",
        ),
    ],
)
def test_the_courses_cuts_are_found_by_what_they_cut(description, label):
    found = surgery.find(SOURCE, **description)
    assert found.label == f"model.py:{found.line}  {label}"


def test_a_description_that_fits_nothing_names_the_nearest():
    with pytest.raises(SurgeryError, match=r"'bypass-call Block\.forward ln3'; nearest: .*ln[12]"):
        surgery.find(SOURCE, "bypass-call", qualname="Block.forward", target="ln3")


def test_a_description_that_fits_several_names_them():
    with pytest.raises(SurgeryError, match=r"2 surgeries .*:cut-skip, model.py:\d+:cut-skip; say"):
        surgery.find(SOURCE, "cut-skip", qualname="Block.forward")


@pytest.mark.parametrize(
    ("body", "skip"),
    [
        ("return x + f(x)", "x"),
        ("return f(x) + x", "x"),
        ("h = f(x)\n    h = g(h)\n    return h + x", "x"),
        ("r = x\n    x = f(x)\n    return r + x", "r"),
        ("r, x = x, f(x)\n    return r + x", "r"),
        ("h = f(x)\n    if y:\n        h = g(h)\n    return x + h", "x"),
        ("for f in y:\n        x = x + f(x)\n    return x", "x"),
    ],
)
def test_the_skip_is_the_side_from_which_the_other_is_computed(tmp_path, body, skip):
    path = tmp_path / "plain.py"
    path.write_text(f"def forward(x, y, f, g):\n    {body}\n")
    assert surgery.find(surgery.read_source(path), "cut-skip").target == skip


@pytest.mark.parametrize(
    "body",
    [
        "return x + y",
        "h = f(torch.arange(x.shape[1], device=x.device))\n    return x + h",
        "h = f(x.size(1))\n    return x + h",
        "h = f(x)\n    x = g(y)\n    return x + h",
        "return f(x) + g(x)",
    ],
)
def test_a_sum_without_a_skip_has_two_terms(tmp_path, body):
    path = tmp_path / "plain.py"
    path.write_text(f"import torch\ndef forward(x, y, f, g):\n    {body}\n")
    source = surgery.read_source(path)
    assert len(surgery.find_all(source, "drop-term")) == 2
    with pytest.raises(SurgeryError):
        surgery.find(source, "cut-skip")


def test_enumeration_is_the_same_every_time():
    surgery.enumerate_surgeries.cache_clear()
    first = [cut.id for cut in surgery.enumerate_surgeries(SOURCE)]
    surgery.enumerate_surgeries.cache_clear()
    assert [cut.id for cut in surgery.enumerate_surgeries(SOURCE)] == first


def test_an_update_in_place_is_cut_both_ways(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text("def forward(x, f):\n    x += f(x)\n    x *= 2.0\n    return x\n")
    source = surgery.read_source(path)
    assert surgery.find(source, "cut-branch").after == "pass"
    assert surgery.find(source, "cut-skip").after == "x = f(x)"
    assert surgery.find(source, "drop-factor", target="2.0").after == "pass"


@pytest.mark.parametrize(
    ("statement", "operator", "after"),
    [
        ("y = x / s", "drop-factor", "y = x"),
        ("y = x.softmax(dim=-1)", "swap-axis", "y = x.softmax(dim=-2)"),
        ("y = attend(x, causal=True)", "flip-bool", "y = attend(x, causal=False)"),
        ("self.eps = 1e-5", "set-constant", "self.eps = 0.0001"),
        ("self.head.weight = self.embed.weight", "untie", "pass"),
        ("y = x if s else z", "force-branch", "y = x"),
    ],
)
def test_each_operator_makes_its_edit(tmp_path, statement, operator, after):
    path = tmp_path / "plain.py"
    path.write_text(f"def __init__(self, x, s, z, attend):\n    {statement}\n    return x\n")
    found = surgery.find_all(surgery.read_source(path), operator)
    assert after in [cut.after for cut in found]


def test_a_loop_loses_its_first_turn_its_last_or_its_order(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text("def run(x, layers):\n    for f in layers:\n        x = f(x)\n    return x\n")
    cuts = surgery.find_all(surgery.read_source(path), "trim-loop")
    layers = [lambda x: x + "a", lambda x: x + "b", lambda x: x + "c"]
    made = {cut.target: surgery.edited_module(cut.source, cut).run("", layers) for cut in cuts}
    assert made == {"first": "bc", "last": "ab", "reverse": "cba"}
