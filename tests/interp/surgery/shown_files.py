"""Files in which the text of a cut must be what ran, by what is special about them."""

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
