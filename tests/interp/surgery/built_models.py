"""Models that compute something when they are built, or keep what they computed."""

HEAD = """
import functools, math
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F
"""


ATTENTION = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 8)
        self.q = nn.Linear(8, 24)
        self.h = nn.Linear(8, 11)
        self.setup()

    def setup(self):
        SETUP

    def allowed(self, n):
        ALLOWED

    def forward(self, tokens):
        x = self.e(tokens)
        q, k, v = self.q(x).chunk(3, -1)
        scores = (q @ k.mT).masked_fill(self.allowed(tokens.shape[1]) == 0, float("-inf"))
        return self.h(x + scores.softmax(-1) @ v)
"""


def attention(setup, allowed, before=""):
    text = ATTENTION.replace("SETUP", setup).replace("ALLOWED", allowed.replace("\n", "\n        "))
    return HEAD + before + text


LAZY = "if self.mask is None:\n    m = torch.ones(n, n)\n    m = torch.tril(m)\n    self.mask = m"
MEMO = """
_masks = {}
def memo(n):
    if n not in _masks:
        m = torch.ones(n, n)
        m = torch.tril(m)
        _masks[n] = m
    return _masks[n]
"""


CACHED = """
@functools.lru_cache(maxsize=None)
def cached(n):
    m = torch.ones(n, n)
    return torch.tril(m)
"""


TABLE = """
def table(n):
    m = torch.ones(n, n)
    return torch.tril(m)
MASK = table(12)
TWICE = MASK * 2.0
"""


MASKS = {
    "made on first use": attention("self.mask = None", f"{LAZY}\nreturn self.mask"),
    "in a list": attention("self.masks = [torch.tril(torch.ones(12, 12))]", "return self.masks[0]"),
    "in a buffer": attention(
        'self.register_buffer("mask", torch.tril(torch.ones(12, 12)))', "return self.mask"
    ),
    "in a buffer that is not saved": attention(
        'self.register_buffer("mask", torch.tril(torch.ones(12, 12)), persistent=False)',
        "return self.mask[:n, :n]",
    ),
    "in a frozen parameter": attention(
        "self.mask = nn.Parameter(torch.tril(torch.ones(12, 12)), requires_grad=False)",
        "return self.mask",
    ),
    "under a module-level name": attention("pass", "return memo(n)", MEMO),
    "by lru_cache": attention("pass", "return cached(n)", CACHED),
    "made on import": attention("pass", "return TWICE", TABLE),
}


PARTS = f"""{HEAD}
@dataclass
class Config:
    width: int = 8
    times: int = 2
    gain: float = 0.0

    def __post_init__(self):
        self.gain = 1.0 + 0.5 * self.times

    @property
    def hidden(self):
        return self.width * self.times

CONFIG = Config()

def make_act(gain):
    def act(x):
        y = F.relu(x)
        return y * gain
    return act

class Base(nn.Module):
    power = 2.0

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.norm = nn.BatchNorm1d(config.width, momentum=0.3)
        self.drop = nn.Dropout(0.1)
        self.steps = 3

class Model(Base):
    def __init__(self):
        super().__init__(CONFIG)
        self.e = nn.Embedding(11, 8)
        self.mlp = nn.Sequential(
            nn.Linear(8, CONFIG.hidden), nn.GELU(), nn.Linear(CONFIG.hidden, 8)
        )
        self.h = nn.Linear(8, 11, bias=False)
        self.h.weight = self.e.weight
        self.act = make_act(2.0)
        self.gate = functools.partial(F.gelu, approximate="tanh")
        self.acts = nn.ModuleDict({{"relu": nn.ReLU(), "silu": nn.SiLU()}})
        self.register_buffer("noise", 0.3 * torch.randn(8))
        angles = 1.0 / 10.0 ** (torch.arange(0, 8, 2).float() / 8)
        self.cos = angles.cos()
        for number in range(2):
            setattr(self, f"tanh{{number}}", nn.Tanh())
        nn.init.normal_(self.e.weight, std=0.02 * 20.0)

    def forward(self, tokens):
        x = self.e(tokens)
        x = x + self.act(self.norm(x.transpose(1, 2)).transpose(1, 2))
        x = x + self.gate(x) * self.acts["silu"](x) + self.noise
        for _ in range(self.steps):
            x = x + 0.1 * self.tanh0(self.mlp(x)) ** self.power * self.config.gain
        return self.h(self.drop(x) * torch.cat([self.cos, self.cos]))
"""
