"""Experiments on models of transformers: their numbers are what plain torch computes."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from experiments import attention, attribution, components, heads, neurons, patching
from experiments.check import verdicts
from experiments.support import sampling, trained
from experiments.support.trained import TrainedSubject, load_subject
from interp.metrics import bits_per_byte, loss, token_losses

WINDOW, EXAMPLES = 12, 4
CLEAN, CORRUPTED = "x is not the", "y is not the"
PAIR = {"clean": CLEAN, "corrupted": CORRUPTED, "answer": " a", "wrong": " t"}


@pytest.fixture(scope="module", autouse=True)
def short_samples() -> Iterator[None]:
    """Models write little here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "SAMPLE", 4)
        patch.setattr(sampling, "PROMPTS", 2)
        yield


@pytest.fixture(scope="module")
def llama(folder_of) -> str:
    return f"hf:{folder_of('llama')}"


@pytest.fixture(scope="module")
def subject(llama, runs, text) -> TrainedSubject:
    return load_subject(llama, text=str(text), runs=runs, context=WINDOW)


@pytest.fixture(scope="module")
def heads_folder(llama, runs, text) -> Path:
    config = heads.Config(
        model=llama, runs=runs, text=str(text), context=WINDOW, examples=EXAMPLES, name="llama"
    )
    return heads.main(config).parent


def test_the_loss_of_a_model_is_that_of_transformers(heads_folder, subject):
    table, measured = (
        pd.read_parquet(heads_folder / f"{name}.parquet") for name in ("results", "measured")
    )
    tokens = subject.examples(EXAMPLES)
    with torch.no_grad():
        logits = subject.inner(tokens).logits
    whole = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).item()
    assert table["baseline"].to_numpy() == pytest.approx(whole, abs=1e-5)
    assert measured["per_token"].item() == pytest.approx(whole, abs=1e-5)
    written = "".join(subject.tokenizer.decode(row) for row in tokens[:, 1:])
    nats = whole * tokens[:, 1:].numel()
    assert measured["bits_per_byte"].item() == pytest.approx(
        nats / math.log(2) / len(written.encode()), abs=1e-5
    )
    assert measured["per_character"].item() == pytest.approx(nats / len(written), abs=1e-5)


def test_zeroing_a_head_is_zeroing_its_columns_of_the_projection(heads_folder, subject):
    table = pd.read_parquet(heads_folder / "results.parquet")
    tokens = subject.examples(EXAMPLES)
    rows = table[table["intervention"] == "zero"].to_dict("records")
    assert [(row["layer"], row["head"]) for row in rows] == [
        (layer, head) for layer in (0, 1) for head in range(4)
    ]
    for row in rows:
        projection = subject.inner.model.layers[row["layer"]].self_attn.o_proj.weight
        whole = projection.detach().clone()
        with torch.no_grad():
            projection[:, 8 * row["head"] : 8 * (row["head"] + 1)] = 0
            value = loss(subject.inner(tokens).logits, tokens).mean().item()
            projection.copy_(whole)
        assert row["value"] == pytest.approx(value, abs=1e-5)


def test_what_suffers_is_told_token_by_token(heads_folder, subject):
    losses = pd.read_parquet(heads_folder / "tokens.parquet")
    tokens = subject.examples(EXAMPLES)
    assert list(losses["token"]) == subject.tokenizer.names(tokens[:, 1:].flatten())
    assert losses["token"].str.len().max() > 2
    page = (heads_folder / "report.html").read_text(encoding="utf-8")
    assert "token by token" in page and "bits per byte" in page


def test_patching_a_head_is_replacing_what_the_projection_reads_of_it(llama, subject, runs, text):
    config = patching.Config(model=llama, runs=runs, text=str(text), name="llama", **PAIR)
    folder = patching.main(config).parent
    table = pd.read_parquet(folder / "results.parquet")
    clean, corrupted = (subject.tokenizer.encode(each)[None] for each in (CLEAN, CORRUPTED))
    model = subject.inner
    with torch.no_grad():
        answer, wrong = (int(subject.tokenizer.encode(PAIR[name])) for name in ("answer", "wrong"))

        def metric(tokens: torch.Tensor) -> float:
            last = model(tokens).logits[0, -1]
            return float(last[answer] - last[wrong])

        assert table["clean"].to_numpy() == pytest.approx(metric(clean), abs=1e-5)
        assert table["baseline"].to_numpy() == pytest.approx(metric(corrupted), abs=1e-5)
        kept: dict[int, torch.Tensor] = {}
        for number, layer in enumerate(model.model.layers):

            def keep(module: object, args: tuple, number: int = number) -> None:
                kept[number] = args[0].clone()

            layer.self_attn.o_proj.register_forward_pre_hook(keep)
        model(clean)
        for layer in model.model.layers:
            layer.self_attn.o_proj._forward_pre_hooks.clear()
        for row in table[table["component"] == "z"].to_dict("records"):
            where = slice(8 * int(row["head"]), 8 * (int(row["head"]) + 1))

            def put(module: object, args: tuple, row: dict = row, where: slice = where) -> tuple:
                value = args[0].clone()
                value[..., where] = kept[row["layer"]][..., where]
                return (value,)

            projection = model.model.layers[row["layer"]].self_attn.o_proj
            handle = projection.register_forward_pre_hook(put)
            assert row["value"] == pytest.approx(metric(corrupted), abs=1e-5)
            handle.remove()
    positions = pd.read_parquet(folder / "positions.parquet")
    assert "".join(positions["clean"]) == CLEAN
    assert len(positions) < len(CLEAN)


def test_a_run_is_checked_against_the_weights_that_it_read(heads_folder, subject):
    assert all(not verdict.fault for verdict in verdicts(heads_folder))
    assert any(
        verdict.file == f"model {subject.config['named']}" for verdict in verdicts(heads_folder)
    )
    folder = Path(subject.config["named"].removeprefix("hf:"))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    tensors = load_file(weights)
    save_file({name: 1.5 * tensor for name, tensor in tensors.items()}, weights)
    try:
        faults = [verdict.fault for verdict in verdicts(heads_folder) if verdict.fault]
    finally:
        weights.write_bytes(whole)
    assert faults == ["its weights are others than the run read"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"clean": "return the", "corrupted": "return a function"}, "'n' ' the'"),
        ({"clean": CLEAN, "corrupted": CORRUPTED, "answer": " Zanzibar"}, "it must be one token"),
        ({"clean": CLEAN * 20, "corrupted": CORRUPTED * 20}, "this model takes up to 32"),
        ({}, "the built-in task is for models of characters"),
    ],
)
def test_a_pair_that_a_model_cannot_read_is_one_sentence(llama, runs, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        patching.main(patching.Config(model=llama, runs=runs, name="never", **options))
    assert not (runs / "patching" / "never").exists()


@pytest.mark.parametrize(
    ("experiment", "given"),
    [
        (attention, {"show": CLEAN, "examples": EXAMPLES}),
        (components, {"examples": EXAMPLES}),
        (attribution, {**PAIR, "verify": 4}),
    ],
    ids=["attention", "components", "attribution"],
)
def test_other_experiments_run_on_such_a_model_to_their_page(
    folder_of, runs, text, experiment, given
):
    config = experiment.Config(
        model=f"hf:{folder_of('gpt2')}",
        runs=runs,
        text=str(text),
        context=24,
        name="gpt2",
        **given,
    )
    page = experiment.main(config)
    assert page.read_text(encoding="utf-8").count("<section") > 1
    table = pd.read_parquet(page.parent / "results.parquet")
    assert table["file"].str.endswith("modeling_gpt2.py").all()


def test_bits_per_byte_compare_models_with_different_tokens(subject, runs, text):
    whole = "def f(x):\n    return x"
    tokens = subject.tokenizer.encode(whole)[None]
    with torch.no_grad():
        losses = token_losses(subject.model(tokens), tokens)
    bits = bits_per_byte(losses, subject.tokenizer.byte_counts[tokens[:, 1:]])
    rest = whole[len(subject.tokenizer.names(tokens[0])[0]) :]
    assert bits == pytest.approx(losses.sum().item() / math.log(2) / len(rest.encode()))
    letters = torch.randint(0, 5, (3, 7))
    logits = torch.randn(3, 7, 5)
    each = token_losses(logits, letters)
    assert bits_per_byte(each, torch.ones_like(each)) == pytest.approx(
        loss(logits, letters).mean().item() / math.log(2)
    )
    with pytest.raises(ValueError, match="give one for each"):
        bits_per_byte([1.0], [1, 2])
    with pytest.raises(ValueError, match="no text at all"):
        bits_per_byte([1.0], [0])


@pytest.fixture(scope="module")
def neurons_folder(llama, runs, text) -> Path:
    config = neurons.Config(
        model=llama, runs=runs, text=str(text), context=WINDOW, examples=6, layer=1, name="llama"
    )
    return neurons.main(config).parent


def test_a_neuron_of_any_model_is_what_its_output_matrix_reads(neurons_folder, subject):
    texts = pd.read_parquet(neurons_folder / "texts.parquet")
    table = pd.read_parquet(neurons_folder / "results.parquet")
    tokens, mlp, read = subject.examples(6), subject.inner.model.layers[1].mlp, []
    keep = mlp.down_proj.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.no_grad():
        subject.inner(tokens)
        keep.remove()
        chosen = read[0].abs().amax(dim=(0, 1)).topk(4).indices.tolist()
        assert list(table["neuron"]) == chosen
        for site, neuron in zip(table["site"], chosen, strict=True):
            own = read[0][..., neuron]
            best, where = own.abs().max(dim=1)
            text = int(best.argmax())
            (top,) = texts[(texts["site"] == site) & (texts["rank"] == 0) & texts["top"]].to_dict(
                "records"
            )
            assert top["activation"] == pytest.approx(own[text, where[text]].item(), abs=1e-5)
            assert [top["character"]] == subject.tokenizer.names(tokens[text, where[text]][None])
    assert "is farthest from zero at" in (neurons_folder / "report.html").read_text()


def test_a_neuron_at_its_mean_costs_what_its_column_replaced_by_that_costs(neurons_folder, subject):
    table = pd.read_parquet(neurons_folder / "results.parquet")
    tokens, mlp, read = subject.examples(6), subject.inner.model.layers[1].mlp, []
    keep = mlp.down_proj.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.no_grad():
        subject.inner(subject.reference(6))
        keep.remove()
        for row in table.to_dict("records"):
            neuron = int(row["neuron"])
            mean = read[0][..., neuron].mean()

            def put(_: object, given: tuple, neuron: int = neuron, mean: object = mean) -> tuple:
                value = given[0].clone()
                value[..., neuron] = mean
                return (value,)

            cut = mlp.down_proj.register_forward_pre_hook(put)
            value = loss(subject.inner(tokens).logits, tokens).mean().item()
            cut.remove()
            assert row["value"] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layer": 2}, "--layer is 2; this model has 0 to 1"),
        ({"neuron": (64,)}, "--neuron is 64; a layer has 0 to 63"),
    ],
)
def test_a_neuron_that_a_model_has_not_is_one_sentence(llama, runs, text, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        neurons.main(
            neurons.Config(
                model=llama, runs=runs, text=str(text), context=WINDOW, name="never", **options
            )
        )
    assert not (runs / "neurons" / "never").exists()


def test_the_view_is_found_when_first_asked_for(llama, runs, text, monkeypatch):
    """Studies that need no hook points of a model do not wait for them."""
    with monkeypatch.context() as patch:
        patch.setattr(trained, "hook_lines", lambda *_: pytest.fail("nobody asked for a view"))
        subject = load_subject(llama, text=str(text), runs=runs, context=WINDOW)
        subject.examples(2)
    assert subject.model is subject.model


def test_random_strings_begin_as_texts_of_the_model_do(folder_of, runs, text):
    subject = load_subject(f"hf:{folder_of('gemma')}", text=str(text), runs=runs, context=9)
    strings = attention.repeats(subject, subject.examples(3), 0)
    assert (strings[:, 0] == 0).all()
    assert torch.equal(strings[:, 1:5], strings[:, 5:])
    assert strings.shape == (3, 9)
