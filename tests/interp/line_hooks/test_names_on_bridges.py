"""What a view has under a name is what TransformerLens' bridge has under it."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedTokenizerFast

from tests.interp.line_hooks.families import TOKENS, built, viewed

BRIDGES = {
    "gpt2": "gpt2",
    "neox": "EleutherAI/pythia-70m",
    "llama": "meta-llama/Llama-2-7b-hf",
    "qwen3": "Qwen/Qwen3-0.6B",
    "gemma2": "google/gemma-2-2b",
    "olmo2": "allenai/OLMo-2-0425-1B",
}


def bridge_of(name):
    words = Tokenizer(models.WordLevel({str(i): i for i in range(31)}, unk_token="0"))
    special = dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "0")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, name_or_path="none", add_bos_token=True, **special
    )
    model = built(name, attn_implementation="eager")
    model.config.architectures = [type(model).__name__]  # as a folder's config says
    return TransformerBridge.boot_transformers(BRIDGES[name], hf_model=model, tokenizer=tokenizer)


@pytest.mark.parametrize("name", BRIDGES)
@torch.no_grad()
def test_values_are_the_bridges(name):
    _, view = viewed(name, "eager")
    _, seen = view.run_with_cache(TOKENS)
    _, expected = bridge_of(name).run_with_cache(TOKENS)
    compared = set()
    for each in view.naming.named:
        if each not in expected:  # turned q and k, with some
            continue
        value, axes = seen[each], view.hook_dict[each].axes
        if "key" not in axes and "batch" in axes:  # heads before positions, or after them
            value = value.movedim((axes.index("batch"), axes.index("pos")), (0, 1)).flatten(2)
            other = expected[each].flatten(2)
        else:
            other = expected[each]
            value = value.expand_as(other)  # what is the same for all texts
        hidden = value <= -1e4
        assert torch.equal(hidden, other <= -1e4), each
        shown = (value - other).masked_fill(hidden, 0)
        assert shown.abs().max() < 1e-5, each
        compared.add(each.removeprefix("blocks.1."))
    wanted = {f"attn.hook_{kind}" for kind in ("q", "k", "v", "z", "pattern", "attn_scores")}
    wanted |= {"hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post", "hook_embed"}
    if name in ("gemma2", "olmo2"):
        wanted |= {f"{norm}.hook_normalized" for norm in ("ln1_post", "ln2_post")}
    assert wanted | {"mlp.hook_pre", "mlp.hook_post", "unembed.hook_in"} <= compared
