"""nanoGPT's checkpoints, and classes of a file with weights that were trained elsewhere."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from experiments.support.trained import load_subject
from gpt.errors import UsageError
from gpt.model import GPT, GPTConfig

CLASS = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, vocab_size, width=8, block_size=16):
        super().__init__()
        self.block_size = block_size
        self.embedding = nn.Embedding(vocab_size, width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.head(x.cumsum(dim=1))
"""


@pytest.fixture
def characters(text) -> str:
    return "".join(sorted(set(text.read_text(encoding="utf-8"))))


@pytest.fixture
def written(tmp_path, characters) -> Path:
    """A checkpoint as nanoGPT writes it, and the meta.pkl of its data set."""
    sizes = {"block_size": 16, "vocab_size": len(characters), "n_layer": 2, "n_head": 2}
    sizes |= {"n_embd": 16, "bias": False, "dropout": 0.0}
    model = GPT(GPTConfig(**sizes), seed=0)
    state = {"transformer.wte.weight": model.wte.weight, "transformer.wpe.weight": model.wpe.weight}
    state["transformer.ln_f.weight"] = model.ln_final.weight
    for number, block in enumerate(model.blocks):
        name, attn = f"transformer.h.{number}", block.attn
        fused = [attn.query.weight, attn.key.weight, attn.value.weight]
        state[f"{name}.attn.c_attn.weight"] = torch.cat(fused)
        state[f"{name}.attn.c_proj.weight"] = attn.proj.weight
        state[f"{name}.ln_1.weight"], state[f"{name}.ln_2.weight"] = (
            block.ln1.weight,
            block.ln2.weight,
        )
        state[f"{name}.mlp.c_fc.weight"] = block.mlp.fc.weight
        state[f"{name}.mlp.c_proj.weight"] = block.mlp.proj.weight
    path = tmp_path / "out" / "ckpt.pt"
    path.parent.mkdir()
    weights = {name: tensor.detach() for name, tensor in state.items()}
    torch.save({"model_args": sizes, "model": weights, "config": {"dataset": "docs_char"}}, path)
    return path


def write_meta(path: Path, characters: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    itos = dict(enumerate(characters))
    stoi = {character: token for token, character in itos.items()}
    path.write_bytes(pickle.dumps({"vocab_size": len(characters), "itos": itos, "stoi": stoi}))


@pytest.mark.parametrize("place", ["out/meta.pkl", "data/docs_char/meta.pkl"])
def test_a_checkpoint_of_nanogpt_has_the_characters_of_its_data_set(
    written, tmp_path, text, characters, place
):
    write_meta(tmp_path / place, characters)
    subject = load_subject(f"nanogpt:{written}", text=str(text), runs=tmp_path)
    assert subject.tokenizer.characters == characters
    tokens = subject.examples(3)
    expected = GPT(subject.model.config, seed=0).eval()
    torch.testing.assert_close(subject.model(tokens), expected(tokens))


def test_a_checkpoint_of_nanogpt_without_characters_is_one_sentence(written, text, tmp_path):
    with pytest.raises(UsageError, match=r"nothing says what the .* are: lay the meta"):
        load_subject(f"nanogpt:{written}", text=str(text), runs=tmp_path)


def test_a_meta_that_could_run_code_is_not_loaded(written, text, tmp_path):
    class Runs:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    written.with_name("meta.pkl").write_bytes(pickle.dumps({"itos": Runs()}))
    with pytest.raises(UsageError, match="could run code"):
        load_subject(f"nanogpt:{written}", text=str(text), runs=tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "tiny.py"
    path.write_text(CLASS)
    return path


def test_a_class_of_a_file_takes_weights_that_were_trained_elsewhere(
    file, tmp_path, text, characters
):
    torch.manual_seed(3)
    embedding = torch.randn(len(characters), 8)
    weights = tmp_path / "model.safetensors"
    save_file({"embedding.weight": embedding.half()}, weights)
    named = f"{file}:Tiny"
    given = [f"vocab_size={len(characters)}"]
    subject = load_subject(named, text=str(text), runs=tmp_path, weights=weights, given=given)
    tokens = subject.examples(2)
    x = embedding.half().float()
    expected = x[tokens].cumsum(dim=1) @ x.T
    torch.testing.assert_close(subject.model(tokens), expected)
    assert subject.context == 16
    with pytest.raises(UsageError, match=r"does not fit the model: embedding.weight is \(.*--set"):
        load_subject(named, text=str(text), runs=tmp_path, weights=weights, given=["vocab_size=7"])
    save_file({"embedding.weight": embedding, "other": embedding.clone()}, weights)
    with pytest.raises(UsageError, match="holds other, for which Tiny has no place"):
        load_subject(named, text=str(text), runs=tmp_path, weights=weights, given=given)
    weights.write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="is damaged or no safetensors file"):
        load_subject(named, text=str(text), runs=tmp_path, weights=weights, given=given)


def test_a_class_that_asks_for_its_vocabulary_has_that_of_its_texts(
    file, tmp_path, text, characters
):
    weights = tmp_path / "model.safetensors"
    save_file({"embedding.weight": torch.randn(len(characters), 8)}, weights)
    subject = load_subject(f"{file}:Tiny", text=str(text), runs=tmp_path, weights=weights)
    assert subject.inner.embedding.num_embeddings == len(characters)


@pytest.mark.usefixtures("small")
def test_a_class_of_a_file_without_weights_is_trained_for_a_moment_once(file, tmp_path, text):
    first = load_subject(f"{file}:Tiny", text=str(text), runs=tmp_path)
    (kept,) = (tmp_path / "models").iterdir()
    written = kept.stat().st_mtime_ns
    again = load_subject(f"{file}:Tiny", text=str(text), runs=tmp_path)
    assert kept.stat().st_mtime_ns == written
    assert first.config == again.config
    assert "embedding.output" in first.model.hook_dict


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weights": Path("w.safetensors")}, "--weights is for a class of a file"),
        ({"given": ["n=1"]}, "--set is for a class of a file"),
        ({"tokenizer": "smollm2"}, "--tokenizer is for a model that brings none"),
    ],
)
def test_options_of_another_kind_of_model_are_refused(options, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        load_subject(runs=tmp_path, **options)
