"""What is shown is what ran: the text of a cut, put into a file, is the number in the table."""

import importlib.util
import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from interp import surgery
from interp.surgery.stand_ins import STAND_INS
from interp.surgery.syntax import parse

# models without a mask are fine here
pytestmark = pytest.mark.filterwarnings("ignore:The model as it is sees the future")

HEAD = """import math
import torch
from torch import nn
from torch.nn import functional as F

class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 8)
        self.l = nn.Linear(8, 8)
        self.h = nn.Linear(8, 11)
"""
TOKENS = torch.randint(11, (5, 9), generator=torch.Generator().manual_seed(3))
TARGETS = torch.randint(11, (5, 9), generator=torch.Generator().manual_seed(4))
numbers = itertools.count()


def load(folder: Path, text: str | bytes):
    """A text as an imported file."""
    name = f"written_{next(numbers)}"
    path = folder / f"{name}.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    module.__dict__.update(STAND_INS)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def judge(model):
    logits = model.eval()(TOKENS)
    return F.cross_entropy(logits.double().transpose(1, 2), TARGETS, reduction="none").mean(1)


def studied(module, build=None):
    def plain(seed):
        torch.manual_seed(seed)
        return module.M()

    return surgery.study(
        build=build or plain,
        judge=judge,
        files=[module],
        reference=lambda model: model.eval()(TARGETS),
        workers=0,
    )


def by_hand(folder, cut, weights):
    """What the judge says of the model built from the cut's text, with the same weights."""
    torch.manual_seed(0)
    model = load(folder, cut.text).M()
    fits = model.load_state_dict(weights, strict=False)  # a cut model may have fewer weights
    assert not fits.missing_keys
    return float(judge(model).mean())


def train_by_hand(folder, cut):
    """A step of training the model built from the cut's text."""
    model = load(folder, cut.text).M().train()
    logits = model(TOKENS)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()).backward()


def check(folder, study, table):
    """Every row of a table against its own text; returns how many numbers were compared."""
    cuts = {cut.id: cut for cut in study.surgeries}
    weights = study.model.state_dict()
    compared = 0
    for row in table.to_dict("records"):
        cut = cuts.get(row["id"])
        for name in ("SyntaxError", "IndentationError", "surgery_"):
            assert name not in str(row["detail"]), (row["id"], row["detail"])
        if cut is None or row["operator"] == "mean":
            continue
        if row["status"] == "error":
            with pytest.raises(Exception):  # noqa: B017
                by_hand(folder, cut, weights)
                train_by_hand(folder, cut)
        elif row["status"] in ("changed", "leak", "equivalent"):
            found = by_hand(folder, cut, weights)
            assert found == pytest.approx(row["value"], abs=1e-6), (row["id"], row["after"])
            compared += 1
        elif row["status"] == "nonfinite":
            assert not np.isfinite(by_hand(folder, cut, weights))
    assert compared
    return compared


FILES = {
    "a global that is counted": """
CALLS = 0

HEAD
    def forward(self, idx):
        global CALLS
        CALLS += 1
        x = self.e(idx)
        x = x + F.relu(self.l(x))
        return self.h(x)
""",
    "a nonlocal": """
HEAD
    def forward(self, idx):
        x = self.e(idx)
        def more():
            nonlocal x
            x = x + F.relu(self.l(x))
            return x * 2.0
        y = more()
        return self.h(x + y)
""",
    "a name that is a global and a builtin too": """
scale = 3.0

HEAD
    def forward(self, idx):
        x = self.e(idx)
        scale = torch.tensor(0.5)
        sum = torch.tensor(2.0)
        x = x * scale
        x = x * (1.5 if callable(sum) else 2.5)
        return self.h(x)
""",
    "a generator": """
HEAD
    def parts(self, x, *, __times=2, **more):
        y = F.relu(self.l(x))
        yield y
        yield y * 0.5
    def forward(self, idx):
        x = self.e(idx)
        for y in self.parts(x):
            x = x + y
        return self.h(x)
""",
    "annotations of the future": """
from __future__ import annotations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nowhere import Thing

HEAD
    def forward(self, idx: Thing) -> Thing:
        def branch(a: Thing) -> Thing:
            kept: Thing = F.relu(a) + 0.1
            return kept
        x = self.e(idx)
        x = x + branch(self.l(x))
        return self.h(x)
""",
    "super, a property, a static and a class method, private names": """
class Base(nn.Module):
    def forward(self, idx):
        return self.h(self.e(idx))

HEAD
        self.__gain = 1.5
        self.__class__ = Inner
    @property
    def gain(self):
        return self.__gain * 2.0
    @staticmethod
    def push(x, /, by, *rest, **more):
        return x + by * 0.5
    @classmethod
    def pull(cls, x, *, __by=0.25):
        return x - __by
    def forward(self, idx):
        x = self.e(idx)
        x = x + self.push(self.l(x), by=self.gain)
        x = self.pull(x, _M__by=0.75)
        return self.h(x)

class Inner(M):
    def forward(self, idx):
        y = super().forward(idx) * 0.5
        return y + __class__.gain.fget(self)
""",
    "operands over several lines": """
HEAD
    def forward(self, idx):
        x = self.e(idx)  # [batch pos d]
        y = (self.l(x)
        + x) * 2.0
        y = (self.l(x)  # the branch
             - x) * 3.0 - (y  # and the skip
             + x)
        y = (
            y
            .mul(0.5)  # half
            .add(x)
            .relu()
        ) + (x if x.ndim == 3 else
             y)
        y += (torch.tanh(
            x *
            self.l(x)
        ) - x *
          0.5)
        y -= (x +
              0.25)
        z = y * 0.5 \\
            + x \\
            * 0.25
        w = x + F.layer_norm(
            z,
            normalized_shape=(
                8,
            ),
            eps=1e-5,
        )
        return self.h(
            w
            - (x
               + z)
        )
""",
    "a tuple over several lines, several values at once": """
HEAD
    def both(self, x):
        return (
            self.l(x) +
            x,
            F.relu(
                x
            ),
        )
    def forward(self, idx):
        x = self.e(idx)
        a, b = self.both(
            x
        )
        c, d = a * 2.0, (b
                         + a)
        *e, f = (c, d, a + b)
        a, b = b, a
        return self.h(a + e[0]
                      + e[1] * f)
""",
    "statements that share a line": """
HEAD
    def forward(self, idx):
        x = self.e(idx); y = self.l(
            x
        ); z = x * 2.0  # three
        if z.ndim == 3: y = y + (
            z
        ); x = x + y
        else: x = x * 0.0
        for _ in 1, 2: x = x + F.relu(
            y); y = y * 0.5
        x += (
            y
        ); x = x * 1.5
        return self.h(x)
""",
    "signs and precedence": """
HEAD
    def forward(self, idx):
        x = self.e(idx)
        y = torch.exp(-x) ** 2 + (-x) ** 2
        y = torch.abs(-0.5 * x) ** 2.0 - (x - y) * 0.5
        y = y - (x - (y - x)) / 2.0
        y = -torch.neg(x + y) * (x if not x.ndim == 2 else y)
        y = (y if x.ndim == 3 else x) + torch.where(x > 0, x, -y)
        y = y + (z := x * 0.5) + torch.tanh(v := z + y)
        k = torch.tanh(u := x * 0.25)
        f = lambda t: t * 0.5
        y = y + f(z) - torch.stack([t + z for t in (x, y)]).sum(dim=0) * 0.1 + u + k + v
        y = y + sum(t * 0.5 for t in (x, y)) + x[..., -1:] * x[:, -1 - 0 :, : 4 // 2 + 6]
        return self.h(y)
""",
    "statements of every kind": """
HEAD
        import math as m
        self.gain = m.sqrt(4.0)
    def forward(self, idx):
        x = self.e(idx)
        w: torch.Tensor = self.l(x)
        unused: int
        x = x.clone()
        x **= 3
        n = 5
        n //= 2
        n %= 2
        n |= 4
        x = x * n
        while x.ndim < 3:
            x = x[None]
        while True:
            x = x + 0.25
            break
        with torch.set_grad_enabled(torch.is_grad_enabled()), torch.random.fork_rng(
            devices=[]
        ):
            x = x + 0.5
        match x.ndim:
            case 3 if x.is_contiguous():
                x = x * 1.5
            case _:
                pass
        assert x.ndim == 3, "three"
        try:
            try:
                raise ValueError(f"{n}")
            except ValueError as error:
                x = x * 1.25
                pass
            else:
                x = x * 0.0
            finally:
                x = x + w * 0.5
        except* TypeError:
            x = x * 0.0
        del w
        @torch.no_grad()
        def inner(
            t,
        ):
            "a docstring"
            return t + 1.0
        class Kept:
            rate = 0.5
            def scaled(self, t):
                return t * self.rate
        from math import pi
        for turn in range(3):
            if turn == 1:
                continue
            if turn == 2:
                break
            x = x + inner(x) * pi
        print("", end="")
        return self.h(Kept().scaled(x))
""",
    "wide characters, form feeds and long lines": """
\x0c
HEAD
    def forward(self, idx):
        "Ünïcödé \u2028 and \x1c and \x0b"
        größe = "\u2028😀\x1d"; x = self.e(idx); é = self.l(x) * len(größe)
\x0c
        x = x + (\x0cé
                 + x) * 0.5  # \x0b\u2029
        y = x + F.relu(é) + LONG
        return self.h(y)
""".replace("LONG", " + ".join(["x * 0.125"] * 40)),
}


def whole(text):
    before, _, rest = text.partition("HEAD\n")
    future = "from __future__" in before
    if future:
        return before.strip() + "\n" + HEAD + rest
    imports, _, model = HEAD.partition("class M")
    return imports + before + "class M" + model + rest


@pytest.mark.parametrize("name", FILES)
def test_the_text_of_a_cut_is_what_ran_and_no_line_that_ran_lacks_a_row(tmp_path, name):
    study = studied(load(tmp_path, whole(FILES[name])))
    table = study.posthoc()
    assert lines_that_run(study) <= set(table["line"])
    check(tmp_path, study, table)


ENDS = {
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "tabs": lambda text: text.replace("    ", "\t").encode(),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "Latin-1": lambda text: ("# coding: latin-1\n" + text).encode("latin-1"),
}


@pytest.mark.parametrize("kind", ENDS)
def test_line_ends_and_encodings_change_nothing(tmp_path, kind):
    text = whole(FILES["operands over several lines"]).replace("the skip", "the ski\xfc")
    study = studied(load(tmp_path, ENDS[kind](text)))
    table = study.posthoc(layers=None)
    assert lines_that_run(study) <= set(table["line"])
    check(tmp_path, study, table)
    plain = studied(load(tmp_path, text)).posthoc()
    assert without_names(table["after"]) == without_names(plain["after"])
    assert table["value"].dropna().tolist() == plain["value"].dropna().tolist()


def without_names(codes):
    """Edited code without the place that a mean is named by, which a file's name is a part of."""
    return [re.sub('"written_.*?"', "", code) for code in codes.dropna()]


def lines_that_run(study):
    """The first line of every statement of a function that runs when the model is built and
    judged, found by Python's own tracing."""
    syntax = parse(study.sources[0])
    path = str(study.sources[0].path)
    ran = set()

    def trace(frame, event, arg):
        if frame.f_code.co_filename != path or frame.f_code.co_name == "Kept":
            return None
        if event == "line":
            ran.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        judge(study.build(0))
    finally:
        sys.settrace(before)
    owner = {}
    for node in sorted(syntax.statements, key=lambda node: node.lineno):
        stop = syntax.header_stop(node)
        last = node.lineno + syntax.data[syntax.start(node) : stop].count(b"\n")
        for line in range(node.lineno, last + 1):
            owner.setdefault(line, node.lineno)
    assert len(ran) > 3
    return {owner[line] for line in ran if line in owner}
