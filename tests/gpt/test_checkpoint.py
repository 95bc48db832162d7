import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpt import GPT, GPTConfig
from gpt.checkpoint import Identity, load, read, save, source_hash, write
from gpt.errors import UsageError
from gpt.text import CharTokenizer


@pytest.fixture
def model() -> GPT:
    return GPT(GPTConfig(block_size=8, vocab_size=3, n_layer=1, n_head=2, n_embd=8), seed=5)


@pytest.fixture
def path(model, tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    identity = Identity.of(model, text="f00d", seed=5)
    save(path, model, identity, CharTokenizer.from_text("abc"))
    return path


def test_a_checkpoint_brings_back_model_tokenizer_and_identity(model, path):
    loaded = load(path)
    tokens = torch.tensor([[0, 1, 2, 1]])
    assert torch.equal(loaded.model(tokens), model.eval()(tokens))
    assert not loaded.model.training
    assert loaded.model.config == model.config
    assert loaded.identity == Identity(source_hash(model), "", "f00d", 5)
    assert loaded.model.to_tokens("cab").tolist() == [[2, 0, 1]]
    assert loaded.model.lm_head.weight is loaded.model.wte.weight


def test_the_source_hash_is_that_of_the_file():
    import hashlib

    import gpt.model

    model = GPT(GPTConfig(n_layer=1))
    content = Path(gpt.model.__file__).read_bytes()
    assert source_hash(model) == hashlib.sha256(content).hexdigest()


def test_weights_of_another_source_are_refused_and_loaded_on_request(model, tmp_path):
    path = tmp_path / "cut.safetensors"
    save(path, model, Identity("0" * 64, "model.py:189:cut-skip", "f00d", 5))
    with pytest.raises(UsageError, match=r"with the surgery model\.py:189:cut-skip, from a source"):
        load(path)
    other = load(path, allow_other_source=True)
    assert other.identity.surgery == "model.py:189:cut-skip"


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"there is no checkpoint at .*nowhere\.safetensors"):
        load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_checkpoint_is_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match="is damaged or no safetensors file"):
        load(path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UsageError, match="no checkpoint of this project"):
        load(path)


def test_weights_that_do_not_fit_are_named(path):
    tensors, metadata = read(path)
    metadata["config"]["n_embd"] = 16
    write(path, tensors, metadata)
    with pytest.raises(UsageError, match=r"does not fit the model: .* is \(8.*and \(16"):
        load(path)


def test_a_full_disk_leaves_the_old_checkpoint_whole(model, path, monkeypatch):
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="could not be saved: No space left on device"):
        save(path, model, Identity.of(model, text="", seed=0))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_sentence(model, path):
    with pytest.raises(UsageError, match="could not be saved: Not a directory"):
        save(path / "below" / "model.safetensors", model, Identity.of(model, text="", seed=0))
