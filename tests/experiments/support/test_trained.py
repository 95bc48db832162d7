"""Which model an experiment studies: trained once, read after that, resumed in between."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpt.model
from experiments.support import trained_here
from experiments.support.named.checkpoints import opened
from experiments.support.trained import StudyOptions, find_subject
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.text import CharTokenizer
from gpt.train import train
from interp import surgery

pytestmark = pytest.mark.usefixtures("small")


def test_a_model_is_trained_once_and_read_after_that(text, tmp_path, monkeypatch):
    options = StudyOptions(runs=tmp_path, text=str(text))
    first = find_subject(options)
    monkeypatch.setattr(trained_here, "train", None)
    again = find_subject(options)
    tokens = first.examples(4)
    assert torch.equal(first.model(tokens), again.model(tokens))
    assert first.config == again.config
    with pytest.raises(TypeError, match="not callable"):
        find_subject(StudyOptions(runs=tmp_path, text=str(text), seed=1))


def test_weights_of_another_training_are_not_taken_for_these(text, tmp_path, capsys):
    first, other = (StudyOptions(runs=tmp_path, text=str(text), seed=seed) for seed in (0, 1))
    weights = find_subject(first).model.wte.weight.clone()
    (path,) = (tmp_path / "models").iterdir()
    find_subject(other)
    (others,) = set((tmp_path / "models").iterdir()) - {path}
    shutil.copy(others, path)
    assert torch.equal(find_subject(first).model.wte.weight, weights)
    assert "holds the weights of another training; it is made again" in capsys.readouterr().err


def test_a_training_that_was_interrupted_goes_on_to_the_same_weights(text, tmp_path, monkeypatch):
    whole = find_subject(StudyOptions(runs=tmp_path / "whole", text=str(text)))

    def interrupted(*args, report, **kwargs):
        def stop(progress):
            report(progress)
            if progress.step == 30:
                signal.raise_signal(signal.SIGINT)

        return train(*args, report=stop, **kwargs)

    options = StudyOptions(runs=tmp_path / "parts", text=str(text))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trained_here, "train", interrupted)
        find_subject(options)
    states = [path.suffix for path in (tmp_path / "parts" / "models").iterdir()]
    assert states == [".state"]
    tokens = whole.examples(4)
    assert torch.equal(whole.model(tokens), find_subject(options).model(tokens))


def test_examples_are_of_the_text_held_out_and_the_reference_is_not(text, runs):
    subject = find_subject(StudyOptions(runs=runs, text=str(text)))
    whole = text.read_text(encoding="utf-8")
    held_out = whole[int(0.9 * len(whole)) :]
    for tokens, where in ((subject.examples(8), held_out), (subject.reference(8), whole)):
        blocks = [subject.tokenizer.decode(block) for block in tokens]
        assert len(set(blocks)) == 8
        assert all(block in where for block in blocks)
    assert not any(subject.tokenizer.decode(block) in held_out for block in subject.reference(8))


def test_weights_of_an_edited_source_open_as_the_model_of_that_edit(tmp_path):
    source = surgery.read_source(gpt.model)
    cut = surgery.find(source, "untie")
    module = surgery.edited_module(source, cut)
    model = module.GPT(module.GPTConfig(vocab_size=4, block_size=8, n_embd=16)).eval()
    identity = checkpoint.Identity.of(model, text="", seed=0, surgery=cut.id)
    checkpoint.save(tmp_path / "untied.safetensors", model, identity, CharTokenizer("abcd"))
    again, tokenizer, about = opened(tmp_path / "untied.safetensors")
    tokens = tokenizer.encode("abcdabcd")[None]
    assert torch.equal(again(tokens), model(tokens))
    assert about["surgery"] == cut.id


def test_a_checkpoint_without_characters_is_refused(tmp_path):
    model = gpt.model.GPT(gpt.model.GPTConfig(vocab_size=4, block_size=8, n_embd=16))
    checkpoint.save(
        tmp_path / "mute.safetensors", model, checkpoint.Identity.of(model, text="", seed=0)
    )
    with pytest.raises(UsageError, match="does not say which characters"):
        opened(tmp_path / "mute.safetensors")


def test_a_text_that_the_checkpoint_cannot_read_is_refused(text, runs, tmp_path):
    find_subject(StudyOptions(runs=runs, text=str(text)))
    path, *_ = (runs / "models").glob("gpt-*.safetensors")
    other = tmp_path / "other.txt"
    other.write_text("Ω" * 1000, encoding="utf-8")
    with pytest.raises(UsageError, match="the character 'Ω' at position 0"):
        find_subject(StudyOptions(runs=runs, text=str(other), model=str(path)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence():
    with pytest.raises(UsageError, match="finds no GPU here"):
        find_subject(StudyOptions(device="cuda"))


def test_a_checkpoint_that_is_nowhere_is_one_sentence_and_nothing_is_written(tmp_path):
    command = [sys.executable, "-m", "experiments.heads", "--model", "nowhere.safetensors"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, "--runs", str(tmp_path / "runs")], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 2
    assert done.stderr == "error: there is no checkpoint at nowhere.safetensors\n"
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists()
