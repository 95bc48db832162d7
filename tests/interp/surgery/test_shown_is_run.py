"""What is shown is what ran: the text of a cut, put into a file, is the number in the table."""

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from interp import surgery
from interp.surgery.stand_ins import STAND_INS

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
    model.load_state_dict(weights)
    return float(judge(model).mean())


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
}


def whole(text):
    before, _, rest = text.partition("HEAD\n")
    future = "from __future__" in before
    if future:
        return before.strip() + "\n" + HEAD + rest
    imports, _, model = HEAD.partition("class M")
    return imports + before + "class M" + model + rest


@pytest.mark.parametrize("name", FILES)
def test_the_text_of_a_cut_is_what_ran(tmp_path, name):
    study = studied(load(tmp_path, whole(FILES[name])))
    check(tmp_path, study, study.posthoc())
