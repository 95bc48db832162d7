"""A digest is that of all that decides an answer; what cannot be known again has none."""

import copy
import enum
import functools
import inspect
import io
import itertools
import os
import pathlib
import random
import re
import sys
import threading
import time
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gpt import GPT, GPTConfig
from interp.errors import UsageError
from interp.interventions import Apply
from interp.metrics import logit_difference
from interp.sweeps.resuming import libraries
from interp.sweeps.resuming.identity import Digests


def scaled(factor):
    return lambda value: factor * value


def test_a_digest_is_that_of_what_a_value_does():
    def of(value):
        return Digests().of(value)

    assert of(Apply(scaled(2.0))) == of(Apply(scaled(2.0)))
    assert of(Apply(scaled(2.0))) != of(Apply(scaled(2)))
    assert of(Apply(lambda value: value + 1)) != of(Apply(lambda value: value + 2))
    assert of(logit_difference(1, 2)) == of(logit_difference(1, 2))
    assert of(logit_difference(1, 2)) != of(logit_difference(1, 2, pos=0))
    assert of(torch.ones(2)) != of(torch.ones(2, 1)) != of(np.ones((2, 1)))
    assert of(torch.arange(4)[::4]) == of(torch.tensor([0]))  # one element, and a stride of four
    assert of({"a": 1, "b": 2}) != of({"b": 2, "a": 1})
    assert of(re.compile("a.b")) == of(re.compile("a.b")) != of(re.compile("a.b", re.DOTALL))
    size = GPTConfig(n_layer=1, n_head=1, n_embd=4, vocab_size=5)
    assert of(GPT(size, seed=1)) == of(GPT(size, seed=1))
    assert of(GPT(size, seed=1)) != of(GPT(size, seed=2))


class Kind(enum.Enum):
    ONE = 1
    OTHER = 2


@dataclass
class Settings:
    scale: float = 1.0
    parts: list = field(default_factory=lambda: [1.0])


class Slotted:
    __slots__ = ("scale",)

    def __init__(self):
        self.scale = 1.0


class Scaled:
    """A callable object, with a method that it calls and a value of its class."""

    of_class = 1.0

    def __init__(self):
        self.scale = 1.0

    @property
    def half(self):
        return self.scale / 2

    def times(self, x):
        return x * self.half * self.of_class

    def __call__(self, x):
        return self.times(x)


def module_of(text, name="helper"):
    module = types.ModuleType(name)
    exec(text, vars(module))
    return module


NUMBERS = {"scale": torch.ones(2)}
NESTED = [{"scale": [1.0]}]
ARRAY = np.ones(3)
LAYER = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2)).eval()
SETTINGS, SLOTTED, SCALED, KIND, SCALE = Settings(), Slotted(), Scaled(), Kind.ONE, 1.0
PART = functools.partial(torch.mul, other=1.0)
HELPER = module_of("SCALE = 1.0\ndef scaled(x):\n    return x * SCALE\n")
TAKEN = HELPER.scaled


def inner(x):
    return x * SCALE


def doubled(function):
    @functools.wraps(function)
    def outer(x):
        return 2 * function(x)

    return outer


wrapped = inner


def with_an_attribute(x):
    return x * with_an_attribute.scale


with_an_attribute.scale = 1.0


def closing(box):
    def through(x):
        return x * box[0]["scale"]

    return lambda x: through(x)


BOX = [{"scale": 1.0}]
CLOSED = closing(BOX)


def setting(name, value):
    return lambda patch: patch.setitem(globals(), name, value)


def rescaled(module):
    vars(module)["SCALE"] *= 2


class Making(type):
    scale = 1.0


class Made(metaclass=Making):
    pass


MARKED = torch.ones(2)
MARKED.scale = 1.0

READERS = {
    "a dict": (lambda x: x * NUMBERS["scale"], lambda _: NUMBERS["scale"].add_(1)),
    "what is in a list in a dict": (
        lambda x: x * NESTED[0]["scale"][0],
        lambda _: NESTED[0]["scale"].append(2.0),
    ),
    "an array": (lambda x: x * ARRAY, lambda _: ARRAY.__setitem__(0, 5)),
    "a weight": (lambda x: LAYER(x), lambda _: LAYER[0].weight.data.mul_(2)),
    "a buffer": (lambda x: LAYER(x), lambda _: LAYER[2].running_mean.add_(1)),
    "a module's mode": (lambda x: LAYER(x), lambda _: LAYER.train()),
    "a module's setting": (lambda x: LAYER(x), lambda _: setattr(LAYER[2], "eps", 0.5)),
    "a module's hook": (
        lambda x: LAYER(x),
        lambda _: LAYER.register_forward_hook(lambda module, args, out: 2 * out),
    ),
    "a module's order": (lambda x: LAYER(x), lambda _: LAYER.append(nn.Identity())),
    "a dataclass": (lambda x: x * SETTINGS.scale, lambda _: setattr(SETTINGS, "scale", 2.0)),
    "what a dataclass lacks": (lambda x: x * SETTINGS.more, lambda _: setattr(SETTINGS, "more", 2)),
    "a slot": (lambda x: x * SLOTTED.scale, lambda _: setattr(SLOTTED, "scale", 2.0)),
    "an object": (lambda x: SCALED(x), lambda _: setattr(SCALED, "scale", 2.0)),
    "a bound method": (SCALED.times, lambda _: setattr(SCALED, "scale", 3.0)),
    "a class's value": (SCALED, lambda patch: patch.setattr(Scaled, "of_class", 2.0)),
    "a class's method": (SCALED, lambda patch: patch.setattr(Scaled, "times", lambda s, x: x)),
    "a property": (SCALED, lambda patch: patch.setattr(Scaled, "half", property(lambda s: 7.0))),
    "an enum": (lambda x: x * KIND.value, setting("KIND", Kind.OTHER)),
    "a number": (lambda x: x * SCALE, setting("SCALE", 2.0)),
    "a function's number": (lambda x: inner(x), setting("SCALE", 2.0)),
    "a function": (lambda x: inner(x), setting("inner", lambda x: x * 3)),
    "a decorated function": (lambda x: wrapped(x), setting("wrapped", doubled(inner))),
    "a function of another module": (lambda x: HELPER.scaled(x), lambda _: rescaled(HELPER)),
    "a function taken from there": (lambda x: TAKEN(x), lambda _: rescaled(HELPER)),
    "another module": (
        lambda x: HELPER.scaled(x),
        setting("HELPER", module_of("def scaled(x):\n    return x * 3\n")),
    ),
    "a partial's argument": (lambda x: PART(x), lambda _: PART.keywords.update(other=2.0)),
    "a function's attribute": (
        with_an_attribute,
        lambda patch: patch.setattr(with_an_attribute, "scale", 2.0),
    ),
    "what is closed over": (CLOSED, lambda _: BOX[0].update(scale=2.0)),
    "a library's function": (
        lambda x: nn.functional.relu(x),
        lambda patch: patch.setattr(nn.functional, "relu", inner),
    ),
    "a tensor's attribute": (lambda x: x * MARKED.scale, lambda _: setattr(MARKED, "scale", 2.0)),
    "a metaclass's value": (lambda x: x * Made.scale, lambda p: p.setattr(Making, "scale", 2.0)),
    "what a metaclass is called for": (
        lambda x: x * Making("New", (), {}).scale,
        lambda patch: patch.setattr(Making, "scale", 2.0),
    ),
    "a name that was not there": (lambda x: x * LATER, setting("LATER", 2.0)),
}


@pytest.fixture
def as_before():
    """What the changes change in place comes back."""
    kept = {name: copy.deepcopy(globals()[name]) for name in IN_PLACE}
    yield
    globals().update(kept)


IN_PLACE = ("NUMBERS", "NESTED", "ARRAY", "LAYER", "SETTINGS", "SLOTTED")


@pytest.mark.parametrize("what", READERS)
def test_a_digest_changes_with_whatever_is_read_by_name(what, monkeypatch, as_before):
    reader, change = READERS[what]
    before = Digests().of(reader)
    assert Digests().of(reader) == before
    change(monkeypatch)
    assert Digests().of(reader) != before


class Calling(nn.Module):
    """A model whose forward calls a method, which calls a function."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.register_buffer("scale", torch.ones(2), persistent=False)
        self.settings = {"shift": 0.0}

    def forward(self, x):
        return self.further(self.fc(x)) + self.settings["shift"]

    def further(self, x):
        return inner(x) * self.scale

    def never(self):
        return PATH.read_text(encoding="utf-8")


MODEL_CHANGES = {
    "a method": lambda model, patch: patch.setattr(Calling, "further", lambda self, x: x),
    "a function that a method calls": lambda model, patch: patch.setitem(globals(), "SCALE", 5.0),
    "a buffer that is not saved": lambda model, patch: model.scale.add_(1),
    "a setting": lambda model, patch: model.settings.update(shift=1.0),
    "one part's own method": lambda model, patch: setattr(model, "further", lambda x: x + 2),
    "a tensor that is no buffer": lambda model, patch: setattr(model, "mask", torch.ones(2)),
}


@pytest.mark.parametrize("what", MODEL_CHANGES)
def test_a_models_digest_changes_with_what_a_run_of_it_comes_to(what, monkeypatch):
    torch.manual_seed(0)
    model = Calling()
    before = Digests().of(model)
    torch.manual_seed(0)
    assert Digests().of(Calling()) == before
    MODEL_CHANGES[what](model, monkeypatch)
    assert Digests().of(model) != before


def test_a_bridge_is_known_again_and_its_tokenizer_with_it(bridge):
    tokens = torch.arange(6)[None]
    bridge(tokens)  # it keeps the size of the last batch
    before = Digests().of(bridge)
    bridge(tokens)
    assert Digests().of(bridge) == before
    bridge.tokenizer.padding_side = "left"
    assert Digests().of(bridge) != before


GENERATOR = torch.Generator().manual_seed(0)
RNG = np.random.default_rng(0)
COUNT = itertools.count()
PATH = pathlib.Path(__file__)
FILE = io.StringIO("text")
CALLS = 0
CACHED = functools.cache(inner)


def counting(x):
    global CALLS
    CALLS += 1
    return x * CALLS


def counter():
    calls = 0

    def counted(x):
        nonlocal calls
        calls += 1
        return x * calls

    return counted


class Remembering:
    def __call__(self, x):
        self.last = x
        return x


UNKNOWN = {
    "a random generator": lambda x: x * torch.rand(2, generator=GENERATOR),
    "another random generator": lambda x: x * RNG.normal(),
    "torch's own random numbers": lambda x: x + torch.randn_like(x),
    "random numbers in place": lambda x: x.clone().normal_(),
    "dropout": lambda x: nn.functional.dropout(x, 0.5),
    "a layer made anew": lambda x: nn.Linear(2, 2)(x),
    "a distribution": lambda x: x + torch.distributions.Normal(0, 1).sample(x.shape),
    "a hash, which another process makes another": lambda x: x * hash("text"),
    "a table in a file": lambda x: x * pd.read_pickle("table.pkl"),
    "Python's random numbers": lambda x: x * random.random(),
    "numpy's random numbers": lambda x: x * np.random.normal(),  # noqa: NPY002
    "a method of a random generator": random.Random(0).random,
    "an iterator": lambda x: x * next(COUNT),
    "a generator": functools.partial(torch.add, (each for each in [1])),
    "the time": lambda x: x * time.time(),
    "a file": lambda x: x * len(FILE.read()),
    "a path": lambda x: x * len(PATH.read_text()),
    "a file that is opened": lambda x: x * len(open("weights").read()),  # noqa: PTH123, SIM115
    "a tensor that is loaded": lambda x: x + torch.load("direction.pt"),
    "the environment": lambda x: x * float(os.environ["SCALE"]),
    "a counter": counting,
    "a counter of its own": counter(),
    "an object that remembers": Remembering(),
    "a compiled cache": CACHED,
    "a lock": functools.partial(torch.add, threading.Lock()),
    "an array of objects": functools.partial(torch.add, np.array([object()])),
    "a bare object": functools.partial(torch.add, object()),
    "a module as a whole": lambda x: x * getattr(HELPER, "SCA" + "LE"),
    "a sparse tensor": functools.partial(torch.add, torch.eye(2).to_sparse()),
    "a tensor of another kind": functools.partial(
        torch.add, torch.ones(2).as_subclass(type("Mine", (torch.Tensor,), {}))
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_to_be_all_there_is_has_no_digest(what):
    with pytest.raises(UsageError, match="cannot be known again"):
        Digests().of(UNKNOWN[what])


def test_a_function_that_says_its_signature_is_known_by_what_it_runs():
    def says(function):
        def outer(x):
            return function(x)

        outer.__signature__ = inspect.signature(function)
        return outer

    once, again, other = (Digests().of(says(each)) for each in (inner, inner, closing([1.0])))
    assert once == again != other


def test_numbers_drawn_from_a_seed_are_known_again():
    def noisy(x):
        return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(3))

    assert Digests().of(noisy) == Digests().of(noisy)


def test_an_answer_is_of_every_file_that_a_sweep_runs(monkeypatch):
    """A change in any of them, however deep its folder, is another version of this package."""
    read = set()
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.add(path) or whole(path))
    libraries.version_of_library.__wrapped__("interp")
    modules = [module for name, module in sys.modules.items() if name.startswith("interp.sweeps")]
    assert len(modules) > 15
    assert {Path(module.__file__) for module in modules} <= read
