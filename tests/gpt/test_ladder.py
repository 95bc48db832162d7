"""What is promised of the ladder: the lecture's losses, and hook points that work on every rung."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt.errors import DivergedError, UsageError
from gpt.ladder import LECTURE, RUNGS, Bigram, Recipe, climb, step
from gpt.model import GPTConfig
from gpt.text import CharTokenizer, Data, load_corpus, split
from interp import Zero, head_scores, intervene, source_lines

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
SMALL = GPTConfig(block_size=8, vocab_size=11, n_layer=2, n_head=4, n_embd=16, bias=True)
OF_LECTURE = [name for name in RUNGS if name != "scaled"]
WITH_ATTENTION = list(RUNGS)[2:]


def built(name: str) -> Bigram:
    torch.manual_seed(0)
    return RUNGS[name](SMALL).eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(11, (3, 8), generator=torch.manual_seed(1))


# The lecture's numbers


@pytest.mark.parametrize(
    ("name", "published"), [("bigram", 2.4911), ("position", 2.5114), ("one head", 2.4084)]
)
def test_a_rung_ends_at_the_published_loss_to_four_decimals(monkeypatch, name, published):
    folder = Path(os.environ.get("GPT_TEXT_DIR") or SHARED)
    if not any((folder / file).is_file() for file in ("tinyshakespeare.txt", "input.txt")):
        pytest.skip("no local copy of tiny shakespeare: set GPT_TEXT_DIR")
    monkeypatch.setenv("GPT_TEXT_DIR", str(folder))
    corpus = load_corpus("shakespeare")
    tokenizer = CharTokenizer.from_text(corpus.text)
    data = split(corpus, tokenizer, LECTURE.block_size)
    _, curve = climb(RUNGS[name], data, vocab_size=tokenizer.vocab_size)
    assert round(curve[-1].val_loss, 4) == published


class LectureHead(nn.Module):
    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, size, bias=False)
        self.query = nn.Linear(width, size, bias=False)
        self.value = nn.Linear(width, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        time, width = x.shape[1:]
        weights = self.query(x) @ self.key(x).mT * width**-0.5
        mask = torch.tril(torch.ones(time, time))
        weights = weights.masked_fill(mask == 0, float("-inf")).softmax(dim=-1)
        return weights @ self.value(x)


class LectureHeads(nn.Module):
    def __init__(self, width: int, heads: int, projected: bool) -> None:
        super().__init__()
        self.heads = nn.ModuleList(LectureHead(width, width // heads) for _ in range(heads))
        self.proj = nn.Linear(width, width) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class LectureBlock(nn.Module):
    def __init__(self, width: int, heads: int, residual: bool, norm: bool) -> None:
        super().__init__()
        self.sa = LectureHeads(width, heads, residual)
        self.ff = (
            nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
            if residual
            else nn.Sequential(nn.Linear(width, width), nn.ReLU())
        )
        self.residual = residual
        self.ln1 = nn.LayerNorm(width) if norm else nn.Identity()
        self.ln2 = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if not self.residual:
            return self.ff(self.sa(x))
        x = x + self.sa(self.ln1(x))
        return x + self.ff(self.ln2(x))


class LectureModel(nn.Module):
    """The lecture's model at a rung, put together from torch's modules alone."""

    def __init__(self, rung: str, size: GPTConfig) -> None:
        super().__init__()
        width, heads, vocabulary = size.n_embd, size.n_head, size.vocab_size
        self.table = rung == "bigram"
        self.tokens = nn.Embedding(vocabulary, vocabulary if self.table else width)
        if self.table:
            return
        self.positions = nn.Embedding(size.block_size, width)
        layers = size.n_layer
        self.body = {
            "position": nn.Identity,
            "one head": lambda: LectureHead(width, width),
            "heads": lambda: LectureHeads(width, heads, False),
            "feed-forward": lambda: LectureBlock(width, heads, False, False),
            "blocks": lambda: nn.Sequential(
                *(LectureBlock(width, heads, False, False) for _ in range(layers))
            ),
            "residual": lambda: nn.Sequential(
                *(LectureBlock(width, heads, True, False) for _ in range(layers))
            ),
            "layer norm": lambda: nn.Sequential(
                *(LectureBlock(width, heads, True, True) for _ in range(layers)),
                nn.LayerNorm(width),
            ),
        }[rung]()
        self.head = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        if self.table:
            return self.tokens(x)
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        return self.head(self.body(x))


def lecture_losses(rung: str, data: Data, size: GPTConfig, recipe: Recipe) -> list[float]:
    """The lecture's loop: batches of training and evaluation drawn one by one, in turn."""

    def loss_on(tokens: Tensor) -> Tensor:
        starts = torch.randint(len(tokens) - size.block_size, (recipe.batch_size,))
        x = torch.stack([tokens[i : i + size.block_size] for i in starts])
        y = torch.stack([tokens[i + 1 : i + size.block_size + 1] for i in starts])
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    torch.manual_seed(1337)
    model = LectureModel(rung, size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    losses = []
    for number in range(recipe.steps):
        if number % recipe.eval_interval == 0:
            with torch.no_grad():
                for tokens in (data.train, data.val):
                    drawn = [loss_on(tokens).item() for _ in range(recipe.eval_batches)]
                    losses.append(sum(drawn) / len(drawn))
        optimizer.zero_grad(set_to_none=True)
        loss_on(data.train).backward()
        optimizer.step()
    return losses


@pytest.mark.parametrize("rung", OF_LECTURE)
def test_a_rung_trains_as_the_lecture_s_code_does_number_for_number(rung):
    text = torch.randint(11, (600,), generator=torch.manual_seed(2)).sort().values
    data = Data(text[:500], text[400:], "")
    recipe = Recipe(batch_size=4, steps=31, eval_interval=10, eval_batches=5, learning_rate=1e-2)
    _, curve = climb(RUNGS[rung], data, vocab_size=11, size=SMALL, recipe=recipe)
    assert [evaluation.step for evaluation in curve] == [0, 10, 20, 30]
    ours = [loss for evaluation in curve for loss in (evaluation.train_loss, evaluation.val_loss)]
    assert ours == pytest.approx(lecture_losses(rung, data, SMALL, recipe), abs=2e-5)
    assert ours[-2] < ours[0]


def test_a_rung_whose_training_diverges_stops_and_says_so():
    text = torch.randint(11, (600,), generator=torch.manual_seed(2))
    recipe = Recipe(batch_size=4, steps=60, eval_interval=60, eval_batches=1, learning_rate=1e30)
    steps: list[int] = []
    with pytest.raises(
        DivergedError, match=r"training stopped at step .* take a lower learning rate"
    ):
        climb(
            RUNGS["residual"],
            Data(text[:500], text[400:], ""),
            vocab_size=11,
            size=SMALL,
            recipe=recipe,
            report=steps.append,
        )
    assert len(steps) < 5


# Hook points


@pytest.mark.parametrize("name", RUNGS)
def test_every_hook_point_of_a_rung_fires_and_knows_its_line(name):
    model = built(name)
    fired = source_lines(model, torch.zeros((1, 8), dtype=torch.long))
    silent = {hook for hook in model.hook_dict if not hook.endswith("hook_result")} - set(fired)
    assert not silent
    assert all(line.code for line in fired.values())


@pytest.mark.parametrize("name", RUNGS)
def test_an_edit_in_place_and_a_returned_one_are_the_same_at_every_hook_point(name, tokens):
    model = built(name)

    def returned(value: Tensor, hook: object) -> Tensor:
        return value * 0.5

    def in_place(value: Tensor, hook: object) -> None:
        value *= 0.5

    plain = model(tokens)
    for hook in source_lines(model, tokens):
        with torch.no_grad():
            one = model.run_with_hooks(tokens, fwd_hooks=[(hook, returned)])
            other = model.run_with_hooks(tokens, fwd_hooks=[(hook, in_place)])
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        assert model(tokens).equal(plain)


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_instruments_work_on_every_rung_with_attention(name, tokens):
    model = built(name)
    heads = 1 if name == "one head" else 4
    layers = len(model.blocks)
    assert len(head_scores(model, tokens)) == 3 * heads * layers
    with intervene(model, {f"blocks.0.attn.hook_z[head={heads - 1}]": Zero()}) as receipt:
        cut = model(tokens)
    assert receipt
    assert not torch.allclose(cut, model(tokens))


@pytest.mark.parametrize("name", RUNGS)
def test_no_rung_sees_the_future(name, tokens):
    model = built(name)
    later = tokens.clone()
    later[:, 5:] = (later[:, 5:] + 1) % 11
    torch.testing.assert_close(model(tokens)[:, :5], model(later)[:, :5], rtol=0, atol=1e-6)


def test_tokens_before_matter_from_the_first_head_on(tokens):
    earlier = tokens.clone()
    earlier[:, 0] = (earlier[:, 0] + 1) % 11
    reaches = [
        not torch.allclose(built(name)(tokens)[:, -1], built(name)(earlier)[:, -1])
        for name in RUNGS
    ]
    assert reaches == [name in WITH_ATTENTION for name in RUNGS]


def test_dropout_acts_in_training_alone(tokens):
    torch.manual_seed(0)
    model = RUNGS["scaled"](GPTConfig(**{**vars(SMALL), "dropout": 0.5}))
    assert not torch.allclose(model(tokens), model(tokens))
    model.eval()
    assert model(tokens).equal(model(tokens))


# Text


def test_generation_follows_its_generator_beyond_the_block():
    model = built("layer norm")
    start = torch.zeros((1, 1), dtype=torch.long)
    one, two = (
        model.generate(start, 20, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert one.shape == (1, 21)
    assert one.equal(two)


def test_a_rung_writes_without_dropout_and_only_what_makes_sense():
    torch.manual_seed(0)
    model = RUNGS["scaled"](GPTConfig(**{**vars(SMALL), "dropout": 0.5})).train()
    start = torch.zeros((1, 1), dtype=torch.long)
    one = model.generate(start, 20, generator=torch.Generator().manual_seed(3))
    assert model.training
    assert one.equal(model.eval().generate(start, 20, generator=torch.Generator().manual_seed(3)))
    with pytest.raises(UsageError, match="the prompt has the token 11; this model knows 0 to 10"):
        model.generate(start + 11, 1)
    with pytest.raises(UsageError, match="max_new_tokens is -1"):
        model.generate(start, -1)


def test_more_tokens_than_the_block_holds_are_refused():
    with pytest.raises(UsageError, match="9 tokens are too many: this model's block holds 8"):
        built("bigram")(torch.zeros((1, 9), dtype=torch.long))


# Steps


def test_a_step_is_the_difference_of_two_rungs_code():
    assert step("bigram") == ""
    lines = step("heads").splitlines()
    assert lines[:2] == ["--- one head", "+++ heads"]
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        "-        return [AttentionBlock(self.config, heads=1)]",
        "+        return [AttentionBlock(self.config, heads=self.config.n_head)]",
    ]
    residual = step("residual").splitlines()
    assert "-        x = attn_out" in residual
    assert "+        x = x + attn_out" in residual
    assert not any("self.hook_" in line for line in residual)


def test_asking_for_a_step_draws_nothing():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    step("layer norm")
    assert torch.get_rng_state().equal(state)


def test_a_step_to_no_rung_names_the_nearest():
    with pytest.raises(UsageError, match="no rung 'layernorm'; nearest: layer norm"):
        step("layernorm")
