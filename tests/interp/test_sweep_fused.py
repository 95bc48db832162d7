import pytest
import torch
from torch import nn
from torch.nn import functional as F

from interp.sweeps.speed import fused
from interp.sweeps.speed.fused import FastMLP, Linear, OpaqueMLP, frozen_linear_maps, recognise_mlp


@pytest.fixture(params=["in one pass", "in one pass, weights reordered", "plain torch"])
def reordered(request, monkeypatch):
    """Whether linear maps are asked to reorder their weights, every way that they are computed."""
    if request.param == "plain torch":
        monkeypatch.setattr(fused, "in_one_pass", lambda x: False)
    elif not fused.in_one_pass(torch.ones(1)):
        pytest.skip("this build of torch has no fused linear map")
    return request.param.endswith("reordered")


class MLP(nn.Module):
    def __init__(self, activation, bias=True, d_model=24, d_mlp=40):
        super().__init__()
        torch.manual_seed(0)
        self.W_in = nn.Parameter(torch.randn(d_model, d_mlp) / 5)
        self.W_out = nn.Parameter(torch.randn(d_mlp, d_model) / 5)
        if bias:
            self.b_in, self.b_out = (nn.Parameter(torch.randn(n)) for n in (d_mlp, d_model))
        self.activation = activation

    def forward(self, x):
        zero = torch.zeros(())
        hidden = self.activation(x @ self.W_in + getattr(self, "b_in", zero))
        return hidden @ self.W_out + getattr(self, "b_out", zero)


ACTIVATIONS = {
    "gelu": nn.GELU(),
    "gelu, tanh": nn.GELU("tanh"),
    "relu": nn.ReLU(),
}


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 1, 24), (0, 5, 24)])
def test_bias_and_residual_are_added(reordered, shape):
    weight, bias = torch.randn(40, 24), torch.randn(40)
    x, plus = torch.randn(shape), torch.randn(*shape[:-1], 40)
    expected = F.linear(x.double(), weight.double(), bias.double())
    linear = Linear(weight, bias, reordered)
    assert torch.allclose(linear(x).double(), expected, atol=1e-4)
    assert torch.allclose(linear(x, plus=plus).double(), expected + plus, atol=1e-4)
    assert torch.allclose(Linear(weight, None, reordered)(x).double(), expected - bias, atol=1e-4)


def test_views_are_as_good_as_copies(reordered):
    x, plus = torch.randn(4, 24, 9).transpose(1, 2), torch.randn(4, 12, 40)[:, 2:11]
    weight, bias = torch.randn(24, 40).T, torch.randn(40)
    before = plus.clone()
    ours = Linear(weight, bias, reordered)(x, plus=plus)
    assert torch.allclose(ours, F.linear(x, weight, bias) + before, atol=1e-4)
    assert torch.equal(plus, before)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_known_mlp_is_taken_apart(reordered, name, bias):
    mlp = MLP(ACTIVATIONS[name], bias)
    with torch.no_grad():
        feed = recognise_mlp(mlp)
        feed = feed.in_order() if reordered else feed
        x, plus = torch.randn(3, 5, 24), torch.randn(3, 5, 24)
        assert isinstance(feed, FastMLP)
        assert torch.allclose(feed(x), mlp(x), atol=1e-4)
        assert torch.allclose(feed(x, plus), plus + mlp(x), atol=1e-4)


def test_the_two_gelus_are_told_apart():
    with torch.no_grad():
        assert recognise_mlp(MLP(nn.GELU())).activation.variant == "none"
        assert recognise_mlp(MLP(nn.GELU("tanh"))).activation.variant == "tanh"
        assert recognise_mlp(MLP(nn.GELU("tanh")).double()).activation.variant == "tanh"


@pytest.mark.parametrize(
    "activation",
    [nn.SiLU(), nn.Tanh(), lambda x: F.gelu(x).clamp(max=15), lambda x: 1.01 * F.relu(x)],
    ids=["silu", "tanh", "clamped gelu", "not quite relu"],
)
def test_any_other_mlp_is_called_as_it_is(activation):
    mlp = MLP(activation)
    with torch.no_grad():
        feed = recognise_mlp(mlp)
        x, plus = torch.randn(2, 3, 24), torch.randn(2, 3, 24)
        assert isinstance(feed, OpaqueMLP)
        assert torch.equal(feed(x), mlp(x))
        assert torch.equal(feed(x, plus), plus + mlp(x))


def test_a_function_without_weights_is_called_as_it_is():
    assert recognise_mlp(torch.sin).module is torch.sin


def test_reordered_weights_are_counted(reordered):
    linear = Linear(torch.randn(64, 32), None, reordered)
    held = linear.ordered
    apart = held is not linear.weight
    assert linear.own_bytes == (64 * 32 * 4 if apart else 0)
    assert apart == reordered


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", [(3, 5, 24), (7, 24), (24,), (0, 24)])
def test_frozen_linear_maps_give_the_same_values_and_gradients(shape, bias):
    layer = nn.Linear(24, 40, bias=bias).requires_grad_(False)
    x = torch.randn(shape, requires_grad=True)
    wanted = layer(x)
    sent = torch.randn(wanted.shape)
    (expected,) = torch.autograd.grad(wanted, x, sent)
    with frozen_linear_maps():
        out = layer(x)
    (grad,) = torch.autograd.grad(out, x, sent)
    assert torch.allclose(out, wanted, atol=1e-5)
    assert torch.allclose(grad, expected, atol=1e-5)


def test_linear_maps_that_learn_are_left_alone():
    layer, x = nn.Linear(24, 40), torch.randn(5, 24)
    with frozen_linear_maps():
        out = layer(x)
    assert torch.equal(out, layer(x))
    out.sum().backward()
    assert torch.allclose(layer.weight.grad, x.sum(dim=0).expand(40, 24), atol=1e-5)
    with frozen_linear_maps(), torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert layer.requires_grad_(False)(x).dtype == torch.bfloat16
    with frozen_linear_maps():
        doubled = layer.double()(x.double())
    assert torch.equal(doubled, layer(x.double()))
