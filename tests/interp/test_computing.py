import inspect

import pytest

import gpt.model
from interp.computing import computing_lines

MODEL = """from einops import rearrange

class Attention:
    def forward(self, x, early):
        q = self.q(x)
        q = rearrange(q, "b p (h d) -> b p h d", h=4)
        q = self.hook_q(q)
        if early:
            z = self.attend(q)
        else:
            z = attend(q, q, q)
        z = z.transpose(1, 2).contiguous().view(2, 3, 4)
        z = self.hook_z(z)
        out = rearrange(z, "b p h d -> b p (h d)")
        k, v = x.transpose(1, 2), self.v(x)
        v = torch.permute(v, (0, 2, 1))
        w = self.w(z).view(2, 3)
        for block in self.blocks:
            x = block(x)
        x = x.flatten(1)
        y: T = x.T
        return y.mT
"""


@pytest.mark.parametrize(
    ("code", "makers"),
    [
        ('q = rearrange(q, "b p (h d)', ["q = self.q(x)"]),
        ("z = z.transpose", ["z = self.attend(q)", "z = attend(q, q, q)"]),
        ("out = rearrange(", ["z = self.attend(q)", "z = attend(q, q, q)"]),  # through the hook
        ("v = torch.permute(", ["k, v = x.transpose(1, 2), self.v(x)"]),
        ("x = x.flatten(1)", ["x = block(x)"]),  # or what the function was given
        ("w = self.w(z).view", []),  # it computes
        ("k, v =", []),
        ("z = self.hook_z(z)", []),  # it hands on
        ("z = attend", []),
        ("class Attention", []),
    ],
)
def test_a_rearrangement_leads_to_the_lines_that_compute(code, makers):
    lines = [line.strip() for line in MODEL.splitlines()]
    (at,) = (number for number, line in enumerate(lines, 1) if line.startswith(code))
    assert [lines[number - 1] for number in computing_lines(MODEL, at)] == makers


def test_the_heads_of_our_model_lead_to_the_lines_of_attention():
    source = inspect.getsource(gpt.model)
    lines = [line.strip() for line in source.splitlines()]
    at = next(n for n, line in enumerate(lines, 1) if line.startswith("z = z.transpose(1, 2)"))
    found = [lines[number - 1] for number in computing_lines(source, at)]
    assert [code.split("(")[0] for code in found] == [
        "z = self.attend",
        "z = F.scaled_dot_product_attention",
    ]


def test_what_is_no_source_or_made_elsewhere_leads_nowhere():
    assert computing_lines("def f(", 1) == []
    assert computing_lines("def f(x):\n    x = x.view(2)\n    return x\n", 2) == []
    assert computing_lines("", 7) == []
