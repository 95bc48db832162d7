import gc
import inspect
import sys

import pytest
import torch
from torch import nn

from gpt import model as model_file
from interp import surgery
from interp.errors import SurgeryError

SOURCE = surgery.read_source(model_file)
TOKENS = torch.randint(0, 65, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = model_file.GPT(model_file.GPTConfig(n_layer=3, n_head=2, n_embd=32, block_size=24))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def cuts():
    return [
        surgery.combine(surgery.find_all(SOURCE, "cut-skip", qualname="Block.forward")),
        surgery.find(SOURCE, "drop-term", qualname="GPT.embed", target="pos_emb"),
        surgery.find(SOURCE, "bypass-call", qualname="MLP.forward", target="gelu"),
    ]


@pytest.mark.parametrize("cut", cuts(), ids=str)
def test_a_model_cut_in_place_is_the_model_built_from_edited_source(model, cut):
    before = model(TOKENS)
    module = surgery.edited_module(SOURCE, cut)
    built = module.GPT(module.GPTConfig(n_layer=3, n_head=2, n_embd=32, block_size=24))
    built.load_state_dict(model.state_dict())
    with surgery.perform(cut, model):
        damaged = model(TOKENS)
    assert torch.equal(damaged, built(TOKENS))
    assert not torch.allclose(damaged, before, atol=1e-3)
    assert torch.equal(model(TOKENS), before)


def test_a_cut_in_one_layer_is_the_hook_in_that_layer(model):
    cut = surgery.find(SOURCE, "cut-branch", qualname="Block.forward", target="mlp_out")
    for layer in range(3):
        with surgery.perform(surgery.at_layers(cut, [layer]), model):
            damaged = model(TOKENS)
        hooked = model.run_with_hooks(
            TOKENS,
            fwd_hooks=[(f"blocks.{layer}.hook_mlp_out", lambda x, hook: torch.zeros_like(x))],
        )
        torch.testing.assert_close(damaged, hooked, atol=1e-6, rtol=0)


def test_a_cut_in_every_layer_by_name_is_the_cut_everywhere(model):
    cut = surgery.find(SOURCE, "bypass-call", qualname="Block.forward", target="ln2")
    with surgery.perform(surgery.at_layers(cut, [0, 1, 2]), model):
        by_name = model(TOKENS)
    with surgery.perform(cut, model):
        everywhere = model(TOKENS)
    assert torch.equal(by_name, everywhere)


def test_weights_are_untouched_and_the_function_is_itself_again_after_an_error(model):
    cut = surgery.find(SOURCE, "bypass-call", qualname="GPT.embed", target="wte")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    code = inspect.unwrap(model_file.GPT.embed).__code__
    space = set(vars(model_file))
    with pytest.raises(Exception), surgery.perform(cut, model):  # noqa: B017
        model(TOKENS)
    assert inspect.unwrap(model_file.GPT.embed).__code__ is code
    assert set(vars(model_file)) == space
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_an_unknown_layer_is_one_sentence(model):
    cut = surgery.at_layers(cuts()[0], [7])
    message = r"GPT has no layer 7; its layers are \[0, 1, 2\]"
    with pytest.raises(SurgeryError, match=message), surgery.perform(cut, model):
        pass


DECORATED = """
import functools
from torch import nn

def loud(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return 2 * function(*args, **kwargs)
    return wrapper

def hidden(function):
    return lambda *args: function(*args) + 1

class Base(nn.Module):
    def forward(self, x):
        return x * 3

class Child(Base):
    @loud
    @hidden
    def forward(self, x):
        y = super().forward(x)
        z = x + y
        return z

    @property
    def half(self):
        return half(8.0 + 2.0)

def half(x):
    return x / 2
"""


@pytest.fixture
def decorated(tmp_path, monkeypatch):
    path = tmp_path / "decorated_for_surgery.py"
    path.write_text(DECORATED)
    monkeypatch.syspath_prepend(str(tmp_path))
    import decorated_for_surgery as module

    yield module, surgery.read_source(module)
    del sys.modules["decorated_for_surgery"]
    del module
    gc.collect()


def test_decorated_methods_with_super_are_cut_inside_their_decorators(decorated):
    module, source = decorated
    child = module.Child()
    x = torch.tensor([1.0, 2.0])
    assert torch.equal(child(x), 2 * (x + 3 * x + 1))
    with surgery.perform(surgery.find(source, "cut-skip", qualname="Child.forward"), child):
        assert torch.equal(child(x), 2 * (3 * x + 1))
    with surgery.perform(surgery.find(source, "cut-branch", qualname="Child.forward"), child):
        assert torch.equal(child(x), 2 * (x + 1))
    assert torch.equal(child(x), 2 * (x + 3 * x + 1))


def test_a_property_is_cut(decorated):
    module, source = decorated
    with surgery.perform(surgery.find(source, "drop-term", target="2.0")):
        assert module.Child().half == 4.0
    with surgery.perform(surgery.find(source, "bypass-call", qualname="Child.half")):
        assert module.Child().half == 10.0


def test_a_function_without_self_is_cut_in_the_layer_that_calls_it(decorated):
    module, source = decorated

    class Layer(nn.Module):
        def forward(self, x):
            return module.half(x)

    stack = nn.Sequential(Layer(), Layer(), Layer())
    cut = surgery.find(source, "drop-factor", qualname="half", target="2")
    with surgery.perform(surgery.at_layers(cut, [1]), stack):
        assert stack(torch.tensor(8.0)) == 2.0
    assert stack(torch.tensor(8.0)) == 1.0


def test_a_file_edited_since_it_was_imported_is_refused(decorated):
    _, source = decorated
    source.path.write_text(DECORATED.replace("x * 3", "x * 3 + x"))
    changed = surgery.read_source(source.path)
    cut = surgery.find(changed, "cut-skip", qualname="Base.forward")
    with pytest.raises(SurgeryError, match="the file was edited since"), surgery.perform(cut):
        pass


def test_a_file_that_was_never_imported_is_refused(tmp_path):
    path = tmp_path / "never.py"
    path.write_text("def f(a, b):\n    return a + b\n")
    cut = surgery.find(surgery.read_source(path), "drop-term", target="b")
    with pytest.raises(SurgeryError, match="is not loaded"), surgery.perform(cut):
        pass


def test_the_layers_of_a_list_of_lists_are_those_of_what_is_in_it(decorated):
    module, source = decorated

    class Layer(nn.Module):
        def forward(self, x):
            return module.half(x)

    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(
                [
                    nn.ModuleList([Layer(), Layer()]),
                    nn.ModuleDict({"one": Layer(), "two": nn.ModuleList([Layer()])}),
                ]
            )

        def forward(self, x):
            for one, two in self.layers[:1]:
                x = two(one(x))
            return self.layers[1]["two"][0](self.layers[1]["one"](x))

    pairs = Pairs()
    cut = surgery.find(source, "drop-factor", qualname="half", target="2")
    for layers, value in (([0], 4.0), ([1], 4.0), ([0, 1], 16.0), ([], 1.0)):
        with surgery.perform(surgery.at_layers(cut, layers), pairs):
            assert pairs(torch.tensor(16.0)) == value


def test_a_coroutine_and_an_asynchronous_generator_are_cut(load):
    module = load(
        "async def double(x):\n    return x * 2.0\n\n"
        "async def several(x):\n    yield x + 1.0\n    yield x * 3.0\n"
    )
    source = surgery.read_source(module)

    async def all_of():
        return [await module.double(5.0), *[part async for part in module.several(5.0)]]

    def run():
        """Driven by hand: an event loop of another test may be running in this process."""
        with pytest.raises(StopIteration) as end:
            all_of().send(None)
        return end.value.value

    with surgery.perform(surgery.find(source, "drop-factor", target="2.0")):
        assert run() == [5.0, 6.0, 15.0]
    with surgery.perform(surgery.find(source, "drop-term", target="1.0")):
        assert run() == [10.0, 5.0, 15.0]
    assert run() == [10.0, 6.0, 15.0]
