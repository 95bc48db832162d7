"""What is promised of the neuron view: questions and answers that the model itself confirms."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import neurons
from experiments.neurons import Config, main, read_neurons, through_embeddings
from experiments.support.cli import launch
from experiments.support.trainings import rungs
from gpt.ladder import RUNGS, Recipe
from gpt.model import GPTConfig
from gpt.text import CharTokenizer
from interp import Zero, intervene

SMALL = GPTConfig(block_size=8, vocab_size=11, n_layer=2, n_head=2, n_embd=16, bias=True)
TOKENIZER = CharTokenizer("abcdefghijk")


@pytest.fixture
def tokens():
    return torch.randint(11, (40, 8), generator=torch.manual_seed(1))


def model_of(rung: str):
    torch.manual_seed(0)
    return RUNGS[rung](SMALL).eval()


def test_a_neuron_of_the_last_layer_moves_the_logits_by_its_answer(tokens):
    """Without a final norm, cutting a neuron takes its activation times its answer away."""
    model = model_of("residual")
    hook = "blocks.1.mlp.hook_post"
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=hook)
        _, answers = through_embeddings(model, 1)
        with intervene(model, {f"{hook}[neuron=7]": Zero()}):
            moved = logits - model(tokens)
    torch.testing.assert_close(moved, cache[hook][..., 7:8] * answers[7], rtol=1e-4, atol=1e-5)


def test_a_question_is_what_a_neuron_of_the_first_layer_hears_of_a_character():
    """With attention and positions cut, two characters' pre-activations differ as asked."""
    model = model_of("residual")
    questions, _ = through_embeddings(model, 0)
    tokens = torch.arange(11)[:, None]
    cuts = {"hook_pos_embed": Zero(), "blocks.0.hook_attn_out": Zero()}
    with torch.no_grad(), intervene(model, cuts):
        _, cache = model.run_with_cache(tokens, names_filter="blocks.0.mlp.hook_pre")
    heard = cache["blocks.0.mlp.hook_pre"][:, 0]
    torch.testing.assert_close(heard - heard[0], (questions - questions[:, :1]).T)


def test_the_scale_and_centring_of_norms_belong_to_the_directions():
    model = model_of("layer norm")
    with torch.no_grad():
        model.ln_final.weight.copy_(torch.rand(16, generator=torch.manual_seed(2)))
    _, answers = through_embeddings(model, 1)
    stream = model.blocks[1].mlp.W_out[3]
    normed = model.ln_final(stream[None, None])[0, 0]
    scale = torch.sqrt(stream.var(unbiased=False) + model.ln_final.eps)
    torch.testing.assert_close(model.lm_head(normed) - model.b_U, answers[3] / scale)


def test_texts_are_those_with_the_highest_activations(tokens):
    model = model_of("layer norm")
    characters, texts = read_neurons(model, 0, (3, 5), tokens, TOKENIZER)
    assert list(characters["neuron"].unique()) == [3, 5]
    (line,) = characters["code"].unique()
    assert "self.gelu(" in line or "self.relu(" in line  # it makes what the hook point sees
    _, cache = model.run_with_cache(tokens, names_filter="blocks.0.mlp.hook_post")
    highest = cache["blocks.0.mlp.hook_post"][..., 3].amax(dim=1).topk(6).values
    shown = texts[texts["site"].str.contains("neuron=3")]
    tops = shown.groupby("rank")["activation"].max()
    assert tops.tolist() == highest.tolist()
    assert (shown[shown["top"]].set_index("rank")["activation"] == tops).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rungs, "DEMO", Recipe(8, 11, 10, eval_batches=2))
        page = main(Config(runs=tmp_path_factory.mktemp("runs")))
        patch.setattr(neurons, "climb", lambda *_, **__: pytest.fail("trained again"))
        patch.setattr(neurons, "present", lambda run, _: run.folder)
        main(Config(runs=page.parents[2], layer=1))
    return page.parent


def test_four_neurons_are_chosen_and_the_rung_is_trained_once(run):
    table = pd.read_parquet(run / "results.parquet")
    assert table["neuron"].nunique() == 4
    assert set(table["kind"]) == {"asks", "promotes", "suppresses"}
    assert (run / "figures" / "neurons.svg").exists()
    assert "Questions and answers" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--layer", "3"], "--layer is 3; this rung has 0 to 2"),
        (["--context", "8"], "--context is for a model that --model names"),
        (["--neuron", "128"], "--neuron is 128; a layer has 0 to 127"),
    ],
)
def test_a_neuron_that_is_none_is_refused_before_anything_is_written(
    tmp_path, capsys, arguments, sentence
):
    with pytest.raises(SystemExit) as exit_:
        launch(main, Config, ["--runs", str(tmp_path / "runs"), *arguments])
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
