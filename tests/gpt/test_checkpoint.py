import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpt import GPT, GPTConfig
from gpt.checkpoint import Identity, identify, load, read, save, source_hash, verify, write_tensors
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
    tensors["blocks.0.mlp.fc.weight"] = torch.zeros(8, 8)
    write_tensors(path, tensors, metadata)
    with pytest.raises(
        UsageError, match=r"mlp.fc.weight is \(8, 8\) in .* and \(32, 8\) in the model"
    ):
        load(path)
    tensors["blocks.0.mlp.fc.weight"] = torch.zeros(32, 8, dtype=torch.int32)
    write_tensors(path, tensors, metadata)
    with pytest.raises(UsageError, match=r"is int32 in the file and float32 in the model"):
        load(path)


def test_a_bit_flipped_anywhere_is_refused_and_never_used(path):
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    places = [*range(0, 8 + header, 13), *range(8 + header, len(whole), 211)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"damaged|no checkpoint of this"):
            verify(path)
    path.write_bytes(whole)
    assert len(verify(path)) == 64


def test_the_checksum_is_of_names_shapes_dtypes_values_and_metadata(tmp_path):
    zeros = torch.zeros(2, 3)
    contents = [
        ({"a": zeros}, {"seed": 0}),
        ({"b": zeros}, {"seed": 0}),
        ({"a": zeros.T}, {"seed": 0}),
        ({"a": zeros.int()}, {"seed": 0}),
        ({"a": -zeros}, {"seed": 0}),
        ({"a": zeros}, {"seed": 1}),
        ({"a": zeros}, {"seed": 0, "step": 1}),
    ]
    sums = []
    for tensors, metadata in contents:
        write_tensors(tmp_path / "some", tensors, metadata)
        sums.append(verify(tmp_path / "some"))
    assert len(set(sums)) == len(contents)
    write_tensors(tmp_path / "again", *contents[0])
    assert verify(tmp_path / "again") == sums[0]
    # a tensor from elsewhere under a checksum that was right for another file
    header = {"format": "nanogpt-interp/2", "seed": "0", "sha256": sums[0]}
    save_file({"a": torch.ones(2, 3)}, tmp_path / "forged", header)
    with pytest.raises(UsageError, match="what it holds is not what was saved"):
        read(tmp_path / "forged")


def test_a_file_from_before_checksums_says_so(tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"format": "nanogpt-interp/1", "config": "{}"})
    with pytest.raises(UsageError, match="before files carried a checksum"):
        load(path)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"identity": {}, "step": 4, "curve": []}, "the state of a training that has not finished"),
        ({"about": {}, "seed": 0}, "weights of a model from somebody's own file"),
        ({"hello": 1}, "holds no model"),
        ({"identity": [], "config": {}, "characters": None}, "holds no model"),
        ({"identity": {"source": 1}, "config": {}, "characters": None}, "holds no model"),
    ],
)
def test_a_file_of_ours_that_holds_no_model_says_what_it_is(tmp_path, metadata, sentence):
    path = tmp_path / "some.safetensors"
    write_tensors(path, {"a": torch.zeros(2)}, metadata)
    assert len(verify(path)) == 64
    for use in (load, identify):
        with pytest.raises(UsageError, match=sentence):
            use(path)


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"n_embd": 16}, "n_embd is 16 there, and the weights are of 8"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000 there"),
        ({"block_size": 10**12}, "block_size is 1000000000000 there"),
        ({"n_layer": 10**12}, "n_layer is 1000000000000 there"),
        ({"n_head": 3}, "not divisible by n_head"),
        ({"n_head": "2"}, "n_head is '2'"),
        ({"rotary": True}, "unexpected keyword argument 'rotary'"),
    ],
)
def test_a_config_that_the_weights_do_not_have_is_refused_before_memory_is_taken(
    path, sizes, sentence
):
    tensors, metadata = read(path)
    metadata["config"] |= sizes
    write_tensors(path, tensors, metadata)
    with pytest.raises(UsageError, match=sentence):
        load(path)


def test_weights_that_are_no_numbers_are_neither_saved_nor_loaded(model, path):
    tensors, metadata = read(path)
    for bad in (torch.nan, torch.inf):
        tensors["wpe.weight"][0, 0] = bad
        write_tensors(path, tensors, metadata)
        with pytest.raises(UsageError, match=r"wpe\.weight holds a number that is not finite"):
            load(path)
    before = path.read_bytes()
    with torch.no_grad():
        model.wte.weight[0, 0] = torch.nan
    with pytest.raises(UsageError, match=r"was not saved: wte\.weight holds"):
        save(path, model, Identity.of(model, text="", seed=0))
    assert path.read_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_comes_back_in_its_own_precision(tmp_path, model, dtype):
    model = model.to(dtype).eval()
    save(tmp_path / "some", model, Identity.of(model, text="", seed=0))
    loaded = load(tmp_path / "some").model
    for ours, theirs in zip(loaded.parameters(), model.parameters(), strict=True):
        assert ours.dtype == dtype
        assert torch.equal(ours, theirs)


class Counting(GPT):
    """A GPT whose state is more than its parameters."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("passing", torch.zeros(1), persistent=False)


def test_buffers_are_part_of_a_checkpoint(model, tmp_path):
    counting = Counting(model.config)
    counting.seen += 7
    identity = Identity.of(counting, text="", seed=0)
    save(tmp_path / "some", counting, identity)
    loaded = load(tmp_path / "some", lambda config: Counting(GPTConfig(**config))).model
    assert loaded.seen == 7
    with pytest.raises(UsageError, match="seen is \\(\\) in the file and missing in the model"):
        load(tmp_path / "some", allow_other_source=True)


def test_what_is_no_file_is_one_sentence(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    for name, sentence in (
        ("", "is a folder"),
        ("pipe", "is no file that could hold weights"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("x" * 300, "cannot be read: File name too long"),
    ):
        with pytest.raises(UsageError, match=sentence):
            load(tmp_path / name)


def test_a_checkpoint_is_on_disk_with_its_folder_once_it_is_saved(model, path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink())
    )
    save(path, model, Identity.of(model, text="", seed=0))
    assert [place.parent == path.parent for place in synced[:-1]] == [True]
    assert synced[-1] == path.parent


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
