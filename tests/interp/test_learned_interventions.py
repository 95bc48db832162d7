"""Interventions that are learned, and means of more data than fit into memory at once."""

import torch
from torch.testing import assert_close

from interp.caching import cache
from interp.interventions import Mean, Steer, intervene
from interp.metrics import loss

Z, OUT = "blocks.0.attn.hook_z", "blocks.1.hook_attn_out"


def logits_with(model, tokens, name, hook):
    """What plain torch makes of a hook that is put there by hand."""
    handle = model.hook_dict[name].register_forward_hook(lambda module, args, out: hook(out))
    try:
        return model(tokens)
    finally:
        handle.remove()


def test_a_mean_summed_up_over_unequal_batches_is_that_of_all_texts(model, clean, text_tokens):
    total, count = torch.zeros(()), 0
    for part in text_tokens.split(5):  # 5, 5 and 2 texts
        value = cache(model, part, Z)[Z]
        total, count = total + value.sum(dim=(0, 1)), count + value[..., 0, 0].numel()
    running = {Z: (total / count)[None, None]}  # a cache of one example and one position
    mean = cache(model, text_tokens, Z)[Z].mean(dim=(0, 1))

    def put(z):
        z = z.clone()
        z[:, :, 1] = mean[1]
        return z

    with torch.no_grad():
        with intervene(model, {f"{Z}[head=1]": Mean(running)}):
            found = model(clean)
        assert_close(found, logits_with(model, clean, Z, put), atol=1e-5, rtol=1e-5)


def test_a_learned_vector_has_the_gradient_of_one_that_is_added_by_hand(model, clean):
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with intervene(model, {OUT: Steer(vector, scale=0.5)}):
        (found,) = torch.autograd.grad(loss(model(clean), clean).sum(), vector)
    by_hand = logits_with(model, clean, OUT, lambda out: out + 0.5 * vector)
    (expected,) = torch.autograd.grad(loss(by_hand, clean).sum(), vector)
    assert expected.norm() > 1e-2
    assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_learned_gates_of_heads_have_the_gradient_of_gates_put_there_by_hand(model, clean):
    gates = torch.tensor([1.0, 0.5, 0.0, 2.0], requires_grad=True)
    with intervene(model, {Z: lambda z: z * gates[:, None]}):
        (found,) = torch.autograd.grad(loss(model(clean), clean).sum(), gates)
    by_hand = logits_with(model, clean, Z, lambda z: z * gates[:, None])
    (expected,) = torch.autograd.grad(loss(by_hand, clean).sum(), gates)
    assert expected.abs().min() > 1e-4
    assert_close(found, expected, atol=1e-6, rtol=1e-5)
