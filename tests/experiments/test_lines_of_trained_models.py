"""Lines of models that come with weights: nothing is trained, tokens are the model's own."""

import math
from functools import cached_property

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from experiments import lines
from experiments.lines import Config
from experiments.support.line_models import losses_of, studied_model, uninitialized
from gpt.errors import UsageError
from interp.errors import SurgeryError
from interp.runs import SavedRun
from interp.surgery.studying.uncut import Uncut

SCRIPT = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.mlp = nn.Linear(dim, dim)

    def forward(self, x):
        y = self.mlp(x).relu()
        x = x + y
        return x

class Stack(nn.Module):
    def __init__(self, vocab_size, dim=8, n_layers=2):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList([Layer(dim) for _ in range(n_layers)])
        self.head = nn.Linear(dim, vocab_size)

    def forward(self, idx):
        x = self.tokens(idx)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
"""


@pytest.fixture
def only_blocks(monkeypatch):
    """Of all cuts those of the decoder layer's residual stream."""
    found = Uncut.__dict__["surgeries"].func
    few = cached_property(
        lambda study: tuple(
            cut
            for cut in found(study)
            if cut.qualname == "LlamaDecoderLayer.forward" and "residual + " in cut.before
        )
    )
    few.__set_name__(Uncut, "surgeries")
    monkeypatch.setattr(Uncut, "surgeries", few)


def test_a_folder_of_transformers_is_studied_and_its_page_made(
    folder_of, text, tmp_path, only_blocks, monkeypatch
):
    monkeypatch.setattr("interp.surgery.studying.uncut.training_fingerprint", None)
    asked = {"model": f"hf:{folder_of('llama')}", "text": str(text), "runs": tmp_path}
    config = Config(**asked, texts=3, context=12, layers=(1,), workers=1)
    page = lines.main(config)
    run = SavedRun.at(page.parent)
    table, measured = run.table(), run.table("measured").iloc[0]
    assert set(table["file"]) == {"modeling_llama.py"} and set(table["layer"]) == {"all", "1"}
    assert not run.holds("retrained") and not run.holds("trainings")
    assert (measured["texts"], measured["tokens"]) == (3, 12)
    assert table["baseline"].dropna().unique() == pytest.approx(measured["per_token"])

    studied = studied_model(config)
    model, tokens = studied.model(None), studied.subject.examples(3)
    with torch.no_grad():
        before = F.cross_entropy(model(tokens).logits[:, :-1].transpose(1, 2), tokens[:, 1:])
        layer = model.model.layers[1]
        attention, mlp = layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight
        for weight, line in ((attention, "self_attn"), (mlp, "mlp")):
            kept = weight.clone()
            weight.zero_()
            after = F.cross_entropy(model(tokens).logits[:, :-1].transpose(1, 2), tokens[:, 1:])
            weight.copy_(kept)
            cuts = table[(table["operator"] == "cut-branch") & (table["layer"] == "1")]
            found = cuts["delta"].iloc[("self_attn", "mlp").index(line)]
            assert found == pytest.approx((after - before).item(), abs=2e-6)

    shown = page.read_text()
    assert "Measured on 3 texts of 12 tokens" in shown and "bits per byte" in shown
    assert "the model comes trained" in shown and "one layer each was run whole too" in shown
    samples = run.table("samples")
    assert samples["text"].str.len().gt(0).any()
    (run.folder / "report.html").unlink()
    monkeypatch.setattr("interp.surgery.study", None)
    assert lines.main(config) == page and page.is_file()


def test_a_class_with_weights_is_studied_in_its_own_file(tmp_path, text):
    path, weights = tmp_path / "stack_of_layers.py", tmp_path / "model.safetensors"
    path.write_text(SCRIPT)
    model = studied_class(path, text)
    save_file(model.state_dict(), weights)
    config = Config(
        model=f"{path}:Stack", weights=weights, set=SIZES, text=str(text), runs=tmp_path / "runs",
        texts=3, context=16, workers=1,
    )  # fmt: skip
    run = SavedRun.at(lines.main(config).parent)
    table = run.table()
    assert set(table["file"]) == {path.name} and set(table["layer"]) == {"all", "0", "1"}
    studied = studied_model(config)
    assert studied.context == 16 and studied.train is None
    trained = studied.model(None)
    assert all(torch.equal(w, trained.state_dict()[n]) for n, w in model.state_dict().items())
    other = {name: value for name, value in model.state_dict().items() if name != "head.bias"}
    save_file(other, weights)
    with pytest.raises(UsageError, match=r"lacks .*head\.bias|head\.bias"):
        studied_model(config)


SIZES = ("vocab_size=200",)


def studied_class(path, text):
    """The class of a file with weights of chance."""
    namespace: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    torch.manual_seed(0)
    return namespace["Stack"](200)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"retrain_top": 2},
            r"--retrain-top is for a model that is trained here; .* comes trained",
        ),
        ({"steps": 9}, r"--steps is for a model that is trained here"),
        ({"judge": "ask.py:ask"}, r"--build and --judge are for a class that is trained here"),
        ({"context": 33}, r"--context is 33; this model reads 32 tokens at once"),
        ({"files": ("nothing.py",)}, r"--files nothing.py: no such file ran; nearest: "),
    ],
)
def test_what_does_not_fit_a_trained_model_is_one_sentence(
    folder_of, text, tmp_path, given, sentence
):
    model = f"hf:{folder_of('llama')}"
    with pytest.raises(UsageError, match=sentence):
        studied_model(Config(model=model, text=str(text), runs=tmp_path, **given))


def test_a_layer_that_is_not_there_is_said_before_anything_is_cut(folder_of, text, tmp_path):
    model = f"hf:{folder_of('llama')}"
    config = Config(model=model, text=str(text), runs=tmp_path, layers=(0, 7))
    with pytest.raises(SurgeryError, match=r"has no layer 7; its layers are \[0, 1\]"):
        lines.main(config)
    assert not (tmp_path / "lines").exists()


def test_a_model_trained_here_takes_no_context(tmp_path):
    with pytest.raises(UsageError, match="--context is for a model that comes with weights"):
        studied_model(Config(runs=tmp_path, context=8))


def test_losses_of_many_tokens_are_those_in_double_precision():
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 9, 30_000) * 5, torch.randint(0, 30_000, (2, 9))
    precise = F.cross_entropy(
        logits[:, :-1].double().transpose(1, 2), tokens[:, 1:], reduction="none"
    )
    torch.testing.assert_close(losses_of(logits, tokens), precise, rtol=0, atol=1e-7)
    assert losses_of(torch.zeros(1, 2, 8), torch.zeros(1, 2).long()).item() == math.log(8)


def test_weights_that_are_put_in_later_are_not_drawn():
    with uninitialized():
        drawn = torch.nn.init.normal_(torch.zeros(3))
    assert drawn.tolist() == [0, 0, 0] and torch.nn.init.normal_(torch.zeros(3)).abs().min() > 0
