"""What a sweep must give: every intervention in a run of its own."""

import numpy as np
import torch

from gpt import GPT, GPTConfig
from interp.interventions import intervene
from interp.sweep import effects_of

VOCAB = 13


def random_model(seed, **size):
    size = {"block_size": 12, "vocab_size": VOCAB, "n_layer": 2, "n_head": 2, "n_embd": 8} | size
    model = GPT(GPTConfig(**size), seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def random_tokens(seed, batch, length):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCAB, (batch, length), generator=generator)


def looped(model, tokens, questions, metric):
    """Every question's metric from a run of its own, [question batch]."""
    values = []
    with torch.no_grad():
        for site, intervention in questions:
            with intervene(model, {site: intervention}, allow_no_effect=True):
                values.append(metric(model(tokens), tokens))
    return torch.stack(values).double().numpy()


def assert_as_the_loop(model, tokens, questions, metric):
    effects = effects_of(model, tokens, questions, metric, progress=False, allow_no_effect=True)
    expected = looped(model, tokens, questions, metric)
    np.testing.assert_allclose(effects.values, expected, rtol=1e-4, atol=1e-5)
    return effects
