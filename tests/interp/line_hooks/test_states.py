"""A model that keeps a state and no keys is intervened on, and swept, as any other."""

import numpy as np
import torch
import transformers

import interp as ip
from interp.metrics import loss
from interp.site import Site
from tests.interp.line_hooks.families import TOKENS
from tests.interp.line_hooks.test_sweeps_by_block import compared


def test_a_state_space_model_is_swept_as_in_runs_of_the_whole_model():
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
    config = transformers.MambaConfig(**sizes, pad_token_id=0)
    model = transformers.MambaForCausalLM._from_config(config).eval()
    view = ip.hook_lines(model, TOKENS)
    name = "backbone.layers.0.mixer.output"
    with torch.no_grad(), ip.intervene(view, {name: ip.Zero()}):
        ours = view(TOKENS)
    mixer = model.backbone.layers[0].mixer
    taken = mixer.register_forward_hook(lambda module, args, output: 0 * output)
    with torch.no_grad():
        np.testing.assert_allclose(ours, model(TOKENS).logits, atol=1e-6)
    taken.remove()
    questions = [(Site(name, pos=pos), ip.Zero()) for pos in range(7)]
    compared(view, TOKENS, questions, loss)
