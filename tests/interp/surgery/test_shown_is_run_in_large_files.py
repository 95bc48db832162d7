"""What is shown is what ran, in files that nobody here wrote: a sample of every operator's cuts.

``python -m tests.interp.surgery.test_shown_is_run_in_large_files`` compares every cut.
"""

import sys
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, MambaConfig, T5Config
from transformers.models.llama import modeling_llama
from transformers.models.mamba import modeling_mamba
from transformers.models.t5 import modeling_t5

from gpt import model as gpt_model
from interp import surgery
from interp.surgery.source.syntax import parse

V, B, T = 23, 4, 10
TOKENS = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(3))
TARGETS = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(4))
SMALL = {"vocab_size": V, "use_cache": False}


def gpt(module):
    size = {"vocab_size": V, "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": T}
    return module.GPT(module.GPTConfig(**size))


def llama(module):
    config = LlamaConfig(
        **SMALL,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    return module.LlamaForCausalLM(config)


def mamba(module):
    config = MambaConfig(**SMALL, hidden_size=16, state_size=4, num_hidden_layers=2)
    return module.MambaForCausalLM(config)


def t5(module):
    config = T5Config(
        **SMALL,
        d_model=16,
        d_kv=4,
        d_ff=24,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    return module.T5ForConditionalGeneration(config)


FILES = {
    "gpt": (gpt_model, gpt),
    "llama": (modeling_llama, llama),
    "mamba": (modeling_mamba, mamba),
    "t5": (modeling_t5, t5),
}


@torch.no_grad()
def judge(model):
    model.eval()
    both = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    output = model(TOKENS, decoder_input_ids=TOKENS) if both else model(TOKENS)
    logits = getattr(output, "logits", output)
    return F.cross_entropy(logits.double().transpose(1, 2), TARGETS, reduction="none").mean(1)


def studied(name):
    module, make = FILES[name]

    def build(seed):
        torch.manual_seed(seed)
        return make(module)

    model = build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    return surgery.study(
        build=build, judge=judge, files=[module], model=model, workers=1, limit_s=60.0
    )


def by_hand(cut, make, weights):
    """What the judge says of the model built from the cut's text, with the same weights."""
    torch.manual_seed(0)
    model = make(surgery.edited_module(cut.source, cut))
    fits = model.load_state_dict(weights, strict=False)  # a cut model may have fewer weights
    assert not fits.missing_keys
    return float(judge(model).mean())


def differences(name, study, table):
    """By how much each row's number is another than its text's, by the row's id."""
    make = FILES[name][1]
    cuts = {cut.id: cut for cut in study.surgeries}
    weights = study.model.state_dict()
    found = {}
    for row in table.to_dict("records"):
        for word in ("SyntaxError", "IndentationError", "surgery_"):
            assert word not in str(row["detail"]), (row["id"], row["detail"])
        if row["status"] in ("changed", "leak"):
            found[row["id"]] = abs(by_hand(cuts[row["id"]], make, weights) - row["value"])
    return found


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_the_text_of_a_cut_is_what_ran(name):
    study = studied(name)
    ran = {
        node.lineno
        for source, noted in study.observations.items()
        for node in parse(source).statements
        if noted.phases(node)
    }
    assert ran <= set(study.enumerate()["line"])
    sample = []
    for operator in dict.fromkeys(cut.operator for cut in study.surgeries):
        cuts = [cut for cut in study.surgeries if cut.operator == operator]
        forwards = [cut for cut in cuts if not cut.qualname.endswith("__init__")]
        sample += (forwards or cuts)[:: max(1, len(forwards or cuts) // 2)][:2]
    found = differences(name, study, study.posthoc(sample))
    assert len(found) > 5
    assert max(found.values()) < 1e-5, max(found, key=found.get)


def main(names):
    warnings.simplefilter("ignore")
    for name in names or FILES:
        study = studied(name)
        table = study.posthoc()
        found = differences(name, study, table)
        worst = max(found, key=found.get)
        wrong = {id: gap for id, gap in found.items() if not gap < 1e-5}
        print(name, len(table), "rows,", len(found), "numbers,", len(wrong), "wrong", wrong)
        print("   worst", worst, found[worst], np.median(list(found.values())))
        print("  ", table["status"].value_counts().to_dict(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
