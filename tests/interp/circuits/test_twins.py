"""Each edge's patch as an edit of the source, against the hook's answer and by itself."""

import importlib.util
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import FalconConfig, FalconForCausalLM

import gpt.model
import interp as ip
from interp.circuits import check_twins, edge_twin, where
from interp.circuits.edges import measure_edges
from interp.circuits.pairs import take_pair
from interp.circuits.twins.places import EdgeLines
from interp.errors import SurgeryError, UsageError
from interp.hooking import evaluating
from tests.interp.circuits.by_hand import gap, loss_of, random_gpt, random_pair, run_by_hand
from tests.interp.line_hooks.families import built

SOURCE = Path(gpt.model.__file__)
PAIR = random_pair(batch=3)


@pytest.fixture(scope="module")
def model():
    return random_gpt(n_layer=2)


@pytest.fixture(scope="module")
def lines(model):
    return EdgeLines.of(model, PAIR[0])


def imported_from(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_every_edge_of_our_model_is_its_twin_in_the_source(model):
    table = check_twins(model, *PAIR, gap, progress=False)
    with evaluating(model):
        pair = take_pair(model, *PAIR)
        hooks = measure_edges(pair, pair.graph.edges, gap)
    assert list(table["edge"]) == [str(edge) for edge in pair.graph.edges]
    assert table["agrees"].all()
    assert (table["difference"] <= 1e-6).all()
    np.testing.assert_allclose(table["by_source"], hooks.values.mean(axis=1), atol=1e-6)
    assert (np.abs(hooks.values - hooks.baseline).max(axis=1) > 1e-5).all()  # no edge does nothing


def test_a_twin_reaches_a_file_that_was_loaded_again(tmp_path):
    path = tmp_path / "loaded_twice.py"
    path.write_text(SOURCE.read_text())
    found = []
    try:
        for _ in range(2):
            module = imported_from(path, "loaded_twice")
            model = module.GPT(module.GPTConfig(**asdict(random_gpt(n_layer=2).config)), seed=1)
            twin = edge_twin(model, "embed -> a1.h0.v", PAIR[0])
            found.append(twin.patch(*PAIR))
            assert not torch.allclose(found[-1], model(PAIR[0]))
    finally:
        del sys.modules["loaded_twice"]
    assert torch.equal(*found)


def test_in_double_precision_hook_and_source_agree_to_rounding():
    model = random_gpt(n_layer=2).double()
    for direction in ("corrupted into clean", "clean into corrupted"):
        edges = ["a0.h1 -> a1.h0.q", "embed -> a0.h1.v", "a1.h0 -> m1", "m1 -> logits"]
        table = check_twins(
            *(model, *PAIR, loss_of, edges), direction=direction, split_embed=False, progress=False
        )
        assert (table["difference"] < 1e-13).all()


def test_a_sample_of_edges_of_six_layers_of_six_heads():
    model = random_gpt(n_layer=6, n_head=6, n_embd=12)
    edges = ["a1.h2 -> a3.h0.k", "m2 -> logits", "embed -> a5.h5.v", "a4.h3 -> m4", "m0 -> a5.h0.q"]
    table = check_twins(model, *PAIR, gap, edges, progress=False)
    assert table["agrees"].all(), table[["edge", "difference", "detail"]]


def test_embeddings_apart_have_twins_of_their_own(model):
    edges = ["embed -> a1.h1.q", "pos_embed -> a0.h1.k", "pos_embed -> m0", "embed -> logits"]
    texts = PAIR[0], PAIR[1].roll(1, dims=0)
    table = check_twins(model, *texts, loss_of, edges, split_embed=True, progress=False)
    assert table["agrees"].all(), table["detail"]
    moved = table.set_index("edge")["by_hook"]
    assert abs(moved["embed -> logits"] - moved["pos_embed -> m0"]) > 1e-4


def test_a_twin_without_another_value_cuts_the_edge(model, lines):
    wrote = run_by_hand(model, PAIR[0])[1]
    for edge in ("a0.h1 -> a1.h0.k", "m0 -> m1", "embed -> logits", "a0.h0 -> m0"):
        writer, reader = edge.split(" -> ")
        twin = edge_twin(model, edge, PAIR[0], lines=lines)
        expected = run_by_hand(model, PAIR[0], {reader: -wrote[writer]})[0]
        torch.testing.assert_close(twin.run(PAIR[0]), expected, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(twin.written(PAIR[0]), wrote[writer], atol=2e-6, rtol=1e-5)


def test_a_twin_that_reads_what_was_written_changes_nothing(model, lines):
    twin = edge_twin(model, "a0.h1 -> a1.h0.v", PAIR[0], lines=lines)
    with torch.no_grad():
        whole = model(PAIR[0])
    torch.testing.assert_close(twin.run(PAIR[0], twin.written(PAIR[0])), whole)
    assert (twin.run(PAIR[0]) - whole).abs().max() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(model(PAIR[0]), whole, atol=0, rtol=0)  # all is put back
    assert not hasattr(gpt.model, "EDGE")


def test_the_readers_line_stands_in_the_diff(model, lines):
    twin = edge_twin(model, "a0.h1 -> a1.h0.k", PAIR[0], lines=lines)
    added = [line[1:].strip() for line in twin.diff.splitlines() if line.startswith("+")]
    assert 'edge_k = self.key(EDGE["read"]).view(heads)' in added
    assert "k[:, :, 0] = edge_k[:, :, 0]" in added
    assert not [line for line in twin.diff.splitlines() if line.startswith("-") and line[1] != "-"]
    place = where(model, "a0.h1 -> a1.h0.k", PAIR[0], lines=lines)
    assert place == twin.place
    code = (twin.line, twin.file, place.reader_code, place.variable)
    source = SOURCE.read_text().splitlines()
    assert code[1:] == ("gpt/model.py", "k = self.key(x).view(heads)", "k")
    assert source[twin.line - 1].strip() == place.reader_code
    assert (place.layer, place.head) == (0, 1)
    assert source[place.line - 1].strip().startswith(place.code)
    assert str(place).startswith(f"(gpt/model.py:{place.line}, layer 0, head 1) -> ")


@pytest.mark.parametrize("edge", ["a0.h1 -> a1.h0.k", "m0 -> logits", "embed -> m1"])
def test_a_twin_survives_as_a_file_that_is_imported_as_the_model(model, lines, edge, tmp_path):
    twin = edge_twin(model, edge, PAIR[0], lines=lines)
    (tmp_path / "model.py").write_bytes(SOURCE.read_bytes())
    saved = twin.save(tmp_path / "saved")
    assert [path.name for path in saved] == ["model.py", "edge.diff"]
    for command in (["git", "apply", "-v"], ["patch", "-p1", "-i"]):
        (tmp_path / "model.py").write_bytes(SOURCE.read_bytes())
        subprocess.run(
            [*command, str(saved[1])], cwd=tmp_path, check=True, capture_output=True, timeout=30
        )
        assert (tmp_path / "model.py").read_bytes() == saved[0].read_bytes()
    edited = imported_from(tmp_path / "model.py", "model_with_an_edge_cut")
    other = edited.GPT(edited.GPTConfig(**vars(model.config))).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other(PAIR[0]), twin.run(PAIR[0]), atol=0, rtol=0)
        other(PAIR[1])
        edited.EDGE["other"] = edited.EDGE["wrote"]
        patched = other(PAIR[0])
    torch.testing.assert_close(patched, twin.patch(*PAIR), atol=0, rtol=0)


OTHERS = {
    "gpt2": [
        "a0.h1 -> a1.h0.k",
        "m0 -> a1.h3.q",
        "embed -> a0.h2.v",
        "a1.h0 -> m1",
        "m1 -> logits",
    ],
    "llama": [
        "a0.h3 -> a1.h1.k",
        "m0 -> a1.h3.q",
        "embed -> a1.h0.v",
        "a0.h1 -> m0",
        "embed -> logits",
    ],
    "neox": [
        "a0.h1 -> a1.h0.k",
        "m0 -> a1.h3.q",
        "embed -> a0.h2.v",
        "m0 -> m1",
        "a1.h1 -> logits",
    ],
    "qwen3": ["a0.h3 -> a1.h2.q", "m0 -> a1.h1.k"],  # whose queries have no name before their norm
    "gptj": ["m0 -> m1", "a0.h1 -> a1.h0.v"],  # whose MLP and attention read one norm
    # whose heads are told apart, and go on, in methods that do not know their module
    "gptneo": ["a0.h1 -> a1.h0.k", "a0.h3 -> m1", "m0 -> a1.h2.q", "a1.h1 -> logits"],
    "bloom": ["a0.h1 -> a1.h2.v", "a0.h3 -> m0", "m0 -> a1.h2.q", "m0 -> m1", "a1.h0 -> logits"],
    "xglm": ["a0.h1 -> a1.h2.v", "a0.h3 -> m1", "a1.h2 -> logits", "m0 -> a1.h0.k"],
    # whose MLP reads and writes all texts one behind the other
    "opt": ["m0 -> m1", "a0.h1 -> m0", "m0 -> a1.h3.k", "m1 -> logits", "embed -> m1"],
}


@pytest.mark.parametrize("name", OTHERS)
def test_edges_of_other_peoples_code_have_twins_too(name):
    agree_on(name, OTHERS[name])


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_edges_have_twins_where_attention_is_spelled_out_too(name):
    agree_on(name, OTHERS[name], attn_implementation="eager")


def test_every_edge_of_a_llama_has_a_twin_where_attention_is_spelled_out():
    table = agree_on("llama", None, attn_implementation="eager")
    assert len(table) == 82


def test_what_a_line_wrote_is_noted_before_another_adds_to_it_in_place():
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = FalconForCausalLM(FalconConfig(**sizes)).eval()  # mlp_output += attention_output
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn(weight.shape)
    agree(model, ["m0 -> a1.h0.v", "m0 -> m1", "m1 -> logits", "a0.h1 -> a1.h2.q", "embed -> m1"])


def agree_on(name, edges, **options):
    return agree(built(name, **options), edges)


def agree(model, edges):
    """Twins of a model, all of which must agree with their hooks."""
    clean, corrupted = random_pair(batch=2, vocab=31)
    view = ip.hook_lines(model, clean)
    table = check_twins(view, clean, corrupted, loss_of, edges, progress=False)
    assert table["agrees"].all(), table[["edge", "difference", "detail"]]
    assert table["by_hook"].nunique() == len(table)
    assert all("modeling_" in diff and '+ EDGE["other"]' in diff for diff in table["diff"])
    return table


def test_a_line_that_cannot_be_rewritten_is_refused_in_a_sentence(monkeypatch):
    model = random_gpt(n_layer=2)
    monkeypatch.setattr(EdgeLines, "sites_in", lambda *_: iter(()))
    with pytest.raises(SurgeryError, match="m0 -> m1 has no twin in the source: no expression on"):
        edge_twin(model, "m0 -> m1", PAIR[0])
    table = check_twins(model, *PAIR, gap, ["m0 -> m1"], progress=False)
    assert pd.isna(table["agrees"][0]) and "no twin in the source" in table["detail"][0]
    assert np.isnan(table["by_source"][0]) and not np.isnan(table["by_hook"][0])


def test_a_difference_is_marked(model, monkeypatch):
    kind = type(edge_twin(model, "m0 -> m1", PAIR[0]))
    monkeypatch.setattr(kind, "patch", lambda self, clean, other: self.run(clean))
    table = check_twins(model, *PAIR, gap, ["m0 -> m1"], progress=False)
    assert not table["agrees"][0] and "differ" in table["detail"][0]


def test_a_direct_edge_has_no_twin_and_the_sentence_says_what_measures_it(model):
    sentence = r"only open edges have twins .* edge_effects\(\.\.\., meaning=.direct.\)"
    with pytest.raises(UsageError, match=sentence):
        edge_twin(model, "m0 -> m1", PAIR[0], meaning="direct")
    with pytest.raises(UsageError, match=sentence):
        check_twins(model, *PAIR, gap, ["m0 -> m1"], meaning="direct")


def test_what_differs_by_rounding_is_run_again_in_float64_and_a_true_difference_stays(
    model, monkeypatch
):
    monkeypatch.setattr("interp.circuits.twins.ROUNDING", 1e-12)
    weights = {name: (each.data_ptr(), each.clone()) for name, each in model.named_parameters()}
    edges = ["m0 -> m1", "a0.h1 -> a1.h0.k", "a1.h0 -> logits"]
    table = check_twins(model, *PAIR, gap, edges, progress=False)
    assert table["agrees"].all() and (table["precision"] == "float64").all()
    assert (table["difference"] <= 1e-12 * table["scale"]).all()
    for name, each in model.named_parameters():  # the very same tensors as before
        assert each.data_ptr() == weights[name][0] and torch.equal(each, weights[name][1])
    kind = type(edge_twin(model, "m0 -> m1", PAIR[0]))
    monkeypatch.setattr(kind, "patch", lambda self, clean, other: self.run(clean))
    table = check_twins(model, *PAIR, gap, ["m0 -> m1"], progress=False)
    assert not table["agrees"][0] and table["precision"][0] == "float64"
