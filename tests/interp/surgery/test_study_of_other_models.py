"""Models and files that nobody here wrote, or that do what no model should."""

import sys
import textwrap

import pytest
import torch
from torch.nn import functional as F

from interp import surgery
from tests.interp.surgery.small_gpt import judge, loss

HOSTILE = """
    import os, time
    import torch
    from torch import nn

    class Tiny(nn.Module):
        def __init__(self, vocab_size=29, d=8):
            super().__init__()
            self.embed = nn.Embedding(vocab_size, d)
            self.out = nn.Linear(d, vocab_size)
            self.limit = 3

        def forward(self, tokens):
            x = self.embed(tokens)
            turns = 0
            while turns < self.limit:
                turns = turns + self.step()
            steady = self.guard(torch.ones(1))
            x = x * steady
            return self.out(x)

        def step(self):
            done = torch.ones(1)
            done = done * 0.5 + done * 0.5
            return int(done)

        def guard(self, safe):
            safe = torch.relu(safe)
            if float(safe) != 1.0:
                os._exit(3)
            return safe

    if __name__ == "__main__":
        raise RuntimeError("a script's side effects")
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    path = tmp_path / "hostile_model.py"
    path.write_text(textwrap.dedent(HOSTILE))
    monkeypatch.syspath_prepend(str(tmp_path))
    import hostile_model

    yield hostile_model
    sys.modules.pop("hostile_model")


def test_mutants_that_hang_or_exit_hurt_nothing(hostile):
    study = surgery.study(
        build=lambda seed: hostile.Tiny(), judge=judge, files=[hostile], limit_s=1.5, workers=2
    )
    cuts = {s.id: s for s in study.surgeries}
    hang = next(
        id
        for id, s in cuts.items()
        if s.qualname == "Tiny.step"
        and s.operator == "zero"
        and s.before.startswith("done = done * 0.5")
    )
    leave = next(
        id
        for id, s in cuts.items()
        if s.qualname == "Tiny.guard" and s.operator == "zero" and s.before.startswith("safe =")
    )
    fine = next(id for id, s in cuts.items() if s.before == "x = self.embed(tokens)")
    before = {name: value.clone() for name, value in study.model.state_dict().items()}
    table = study.posthoc([hang, leave, fine]).set_index("id")
    assert table.loc[hang, "status"] == "timeout"
    assert table.loc[leave, "status"] == "error"
    assert table.loc[leave, "detail"] == "the process ended with code 3"
    assert table.loc[fine, "status"] == "changed"
    assert all(torch.equal(value, before[name]) for name, value in study.model.state_dict().items())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_files_nobody_here_wrote_are_studied(name):
    if name == "gpt2":
        from transformers.models.gpt2 import modeling_gpt2 as file
        from transformers.models.gpt2.configuration_gpt2 import GPT2Config

        config = GPT2Config(
            vocab_size=29,
            n_positions=16,
            n_embd=16,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            attn_implementation="eager",
        )
        make, block, norm = file.GPT2LMHeadModel, "GPT2Block.forward", "self.ln_1"
    else:
        from transformers.models.llama import modeling_llama as file
        from transformers.models.llama.configuration_llama import LlamaConfig

        config = LlamaConfig(
            vocab_size=29,
            max_position_embeddings=16,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            bos_token_id=0,
            eos_token_id=0,
            attn_implementation="eager",
        )
        make, block, norm = (
            file.LlamaForCausalLM,
            "LlamaDecoderLayer.forward",
            "self.input_layernorm",
        )

    def make_one(seed):
        torch.manual_seed(seed)
        return make(config)

    @torch.no_grad()
    def judge_one(model):
        model.eval()
        return loss(lambda tokens: model(input_ids=tokens).logits)

    study = surgery.study(build=make_one, judge=judge_one, files=[file], workers=0)
    skips = [s for s in study.surgeries if s.operator == "cut-skip" and s.qualname == block]
    assert len(skips) == 2
    norms = [s for s in study.surgeries if s.target == norm and s.operator == "bypass-call"]
    mask = [s for s in study.surgeries if s.operator == "zero" and "create_causal_mask" in s.before]
    chosen = [s.id for s in (*skips, *norms, *mask)]
    assert len(chosen) == 4
    found = study.posthoc(chosen, layers="each").set_index("id")
    for skip in skips:
        assert found.loc[skip.id, "status"] == "changed"
        assert {f"{skip.id}@0", f"{skip.id}@1"} <= set(found.index)
    assert found.loc[norms[0].id, "status"] == "changed"
    assert found.loc[mask[0].id, "status"] == "leak"


ENCODER = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(13, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 13)

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.size(1))
        x = 2.0 * self.embed(tokens)
        x = self.encoder(x, mask=mask, is_causal=True)
        return self.head(x)
"""


def test_mutants_take_the_way_through_an_encoder_that_the_model_takes(tmp_path, monkeypatch):
    """``nn.TransformerEncoderLayer`` heeds its mask on the fast way only, which any hook on one of
    its modules closes."""
    path = tmp_path / "encoder_for_surgery.py"
    path.write_text(ENCODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    import encoder_for_surgery as module

    def build(seed):
        torch.manual_seed(seed)
        return module.Net()

    @torch.no_grad()
    def judge(model):
        model.eval()
        return F.cross_entropy(model(OTHER).transpose(1, 2), OTHER, reduction="none").mean(1)

    OTHER = torch.randint(0, 13, (4, 10), generator=torch.Generator().manual_seed(5))
    study = surgery.study(build=build, judge=judge, files=[module], model=build(0), workers=0)
    names = ("self.embed = nn.Embedding", "mask = ", "is_causal=True")
    ids = [cut.id for cut in study.surgeries if any(name in cut.before for name in names)]
    rows = study.posthoc(ids)
    zero = rows[(rows["operator"] == "zero") & (rows["target"] == "mask")].iloc[0]
    cut = study.find(zero["id"])
    edited = surgery.edited_module(cut.source, cut)
    torch.manual_seed(0)
    by_hand = float((judge(edited.Net()) - judge(build(0))).mean())
    assert zero["status"] == "leak"
    assert zero["delta"] == pytest.approx(by_hand, abs=1e-6)
    assert abs(by_hand) > 1e-4
    embed = rows[rows["operator"] == "identity-module"].iloc[0]
    assert embed["status"] != "equivalent"
    del sys.modules["encoder_for_surgery"]
