"""What is written is what a plain loop writes, whatever stands beside it and however it is run."""

import math
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import gpt.model
from gpt import GPT, GPTConfig
from gpt.text import CharTokenizer
from interp import Mean, Noise, Patch, Resample, Steer, Zero, cache, intervene, surgery
from interp.errors import InterventionError, NoEffectError, SurgeryError, UsageError
from interp.samples import write
from interp.samples.draws import Draws, choose, start_of
from interp.surgery.cutting.means import MEAN

PROMPT = [3, 1, 4, 1, 5]


@torch.no_grad()
def written_slowly(
    model: nn.Module, prompt: list[int], count: int, seed: int, temperature=1.0, top_k=None
) -> list[int]:
    """One text, by exponential races: a token waits the longer the less likely it is."""
    tokens, generator = list(prompt), torch.Generator().manual_seed(start_of(seed, prompt))
    for _ in range(count):
        logits = model(torch.tensor([tokens[-16:]]))[0, -1].double()
        if top_k is not None:
            allowed = sorted(logits.tolist(), reverse=True)[:top_k]
            logits[logits < allowed[-1]] = -torch.inf
        if temperature == 0:
            tokens.append(int(logits.argmax()))
            continue
        uniform = torch.rand(len(logits), generator=generator, dtype=torch.float64)
        waits = -uniform.log() / (logits / temperature).softmax(-1)
        tokens.append(int(waits.argmin()))
    return tokens[len(prompt) :]


def tokens_by(model, prompt=PROMPT, count=30, **settings) -> list[int]:
    (sample,) = write(model, torch.tensor([prompt]), count, **settings).samples
    return list(sample.tokens)


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_k": 1}, {"temperature": 0}, {"top_k": 10**6}],
    ids=str,
)
def test_a_text_is_that_of_a_plain_loop(model, settings):
    for seed in (0, 7):
        slow = written_slowly(model, PROMPT, 30, seed, **settings)
        assert tokens_by(model, seeds=[seed], **settings) == slow


def test_tokens_are_drawn_from_the_models_distribution():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    for temperature in (1.0, 0.5):
        drawn = Counter(
            int(choose(logits, temperature, None, Draws([(seed, PROMPT)]))) for seed in range(4000)
        )
        for token, share in enumerate((logits[0] / temperature).softmax(-1).tolist()):
            error = math.sqrt(share * (1 - share) / 4000)
            assert abs(drawn[token] / 4000 - share) < 4 * error


def test_a_sample_depends_neither_on_its_batch_nor_on_how_many_tokens_are_written(model):
    prompts = [torch.tensor(PROMPT), torch.tensor([2, 7]), torch.tensor([9, 9, 9, 8, 7])]
    together = write(model, prompts, 25, seeds=range(4))
    assert len(together.samples) == 12
    for number, prompt in enumerate(prompts):
        for seed in range(4):
            alone = tokens_by(model, prompt.tolist(), 12, seeds=[seed])
            assert list(together.samples[4 * number + seed].tokens)[:12] == alone


def test_prompts_have_random_numbers_of_their_own(model):
    one, other = (Draws([(0, prompt)]).next(50) for prompt in ([1, 2], [1, 3]))
    assert abs(torch.corrcoef(torch.cat([one, other]))[0, 1]) < 0.5
    assert torch.equal(one, Draws([(0, [1, 2])]).next(50))


def test_variants_part_only_where_their_distributions_do(model):
    as_it_is = tokens_by(model)
    nearly = {"ln_final.hook_normalized": Steer(torch.full((32,), 1e-9))}
    assert tokens_by(model, interventions=nearly) == as_it_is
    cut = {"blocks.1.hook_mlp_out": Zero()}
    assert tokens_by(model, interventions=cut) != as_it_is


def test_random_numbers_of_others_are_neither_read_nor_drawn(model):
    torch.manual_seed(1)
    as_it_is = tokens_by(model.train())
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert model.training and tokens_by(model) == as_it_is


def test_text_and_strings_are_the_tokenizers(text_tokens, model):
    model.tokenizer = CharTokenizer("".join(map(chr, range(40, 40 + model.config.vocab_size))))
    writing = write(model, ["+,", "-"], 6, seeds=(1, 2), variant="x")
    assert [(each.prompt, each.seed) for each in writing.samples] == [
        ("+,", 1),
        ("+,", 2),
        ("-", 1),
        ("-", 2),
    ]
    for each in writing.samples:
        assert each.text == "".join(each.strings) == model.to_string(torch.tensor(each.tokens))
    table = writing.table()
    assert list(table) == ["variant", "prompt", "seed", "text", "n"]
    assert set(table["variant"]) == {"x"} and set(table["n"]) == {6}
    assert writing.samples[0].text in str(writing)


def test_a_model_without_text_writes_numbers(model):
    (sample,) = write(model, torch.tensor([PROMPT]), 3).samples
    assert sample.prompt == "3 1 4 1 5"
    assert sample.text == " ".join(map(str, sample.tokens))


# --- interventions and surgery


@torch.no_grad()
def test_an_intervention_acts_at_every_token(model):
    cut = {"blocks.*.hook_attn_out": Zero()}
    tokens = list(PROMPT)
    for _ in range(20):
        with intervene(model, cut):
            logits = model(torch.tensor([tokens[-16:]]))[0, -1]
        tokens.append(int(logits.argmax()))
    writing = write(model, torch.tensor([PROMPT]), 20, temperature=0, interventions=cut)
    assert list(writing.samples[0].tokens) == tokens[5:]
    (row,) = writing.receipt.to_dict("records")
    assert (row["runs"], row["positions"], row["sites"]) == (20, 24, 3)
    assert not writing.cached


def test_positions_of_a_site_are_counted(model):
    writing = write(
        model,
        torch.tensor([PROMPT, PROMPT[::-1]]),
        6,
        interventions={
            "blocks.0.hook_mlp_out[pos=2]": Zero(),
            "blocks.1.hook_mlp_out[pos=-1]": Zero(),
            "blocks.2.hook_mlp_out": Zero(),
        },
    )
    assert list(writing.receipt["positions"]) == [2, 12, 20]


def test_an_intervention_that_a_run_skips_is_an_error(model):
    forward = model.forward

    def skips(tokens, **settings):
        if tokens.shape[1] < 8:
            return forward(tokens, **settings)
        return forward(torch.randn(1, tokens.shape[1], 32), start_at_layer=1)

    model.forward = skips
    with pytest.raises(NoEffectError, match=r"did not act at blocks.0.hook_mlp_out .* 8 tokens"):
        write(model, torch.tensor([PROMPT]), 9, interventions={"blocks.0.hook_mlp_out": Zero()})


def test_interventions_that_know_their_batch_write_texts_one_by_one(model, clean):
    prompts = torch.tensor([PROMPT, PROMPT[::-1]])
    for what in (Noise(1.0), lambda value: value / value.norm()):
        change = {"blocks.0.hook_mlp_out": what}
        together = write(model, prompts, 8, interventions=change)
        for number in (0, 1):
            alone = tokens_by(model, prompts[number].tolist(), 8, interventions=change)
            assert list(together.samples[number].tokens) == alone
    reference = cache(model, clean, "blocks.0.hook_mlp_out")
    assert write(
        model, prompts, 4, interventions={"blocks.0.hook_mlp_out": Mean(reference)}
    ).samples
    for what in (Patch(reference), Resample(reference), Mean(reference, positions="each")):
        with pytest.raises(InterventionError, match=r"reference|patch"):
            write(model, prompts, 4, interventions={"blocks.0.hook_mlp_out": what})


@pytest.mark.parametrize(
    ("site", "what", "said"),
    [
        ("blocks.0.hook_mlp_out", Zero(examples=[True]), "leave examples out"),
        ("blocks.0.hook_mlp_out[pos=3]", Zero(), "another token once the text is longer than the"),
        ("blocks.0.hook_mlp_outt", Zero(), "nearest: blocks.0.hook_mlp_out"),
    ],
)
def test_what_has_no_meaning_while_a_text_grows_is_refused(model, site, what, said):
    with pytest.raises(UsageError, match=said):
        write(model, torch.tensor([PROMPT]), 30, interventions={site: what})


def test_a_cut_without_effect_is_an_error(model):
    with torch.no_grad():
        model.blocks[0].mlp.proj.weight.zero_()
        model.blocks[0].mlp.proj.bias.zero_()
    gone = {"blocks.0.hook_mlp_out": Zero()}
    with pytest.raises(NoEffectError, match="changed nothing"):
        tokens_by(model, interventions=gone)
    assert tokens_by(model, interventions=gone, allow_no_effect=True) == tokens_by(model)
    source = surgery.read_source(gpt.model)
    dead = surgery.find(source, "bypass-call", qualname="GPT.forward", target="ln_final")
    nothing = surgery.at_layers(dead, [0])
    with pytest.raises(NoEffectError, match="changes nothing in what the model says"):
        tokens_by(model, surgery=nothing)
    assert tokens_by(model, surgery=nothing, allow_no_effect=True) == tokens_by(model)


def test_hook_and_source_write_the_same_text_for_every_twin():
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=8, vocab_size=11, n_layer=2, n_head=2, n_embd=8)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.4 * torch.randn(weight.shape)
    texts = torch.randint(11, (4, 8))

    @torch.no_grad()
    def judge(model):
        return torch.nn.functional.cross_entropy(model(texts)[:, :-1].mT, texts[:, 1:])

    study = surgery.study(
        build=lambda seed: GPT(model.config, seed=seed),
        judge=judge,
        files=[gpt.model],
        model=model,
        reference=lambda model: model(texts.flip(0)),
        workers=0,
    )
    pairs = [(cut, study.twins.of(cut)) for cut in study.surgeries]
    pairs = [(cut, twin) for cut, twin in pairs if twin is not None]
    single = [surgery.at_layers(cut, [1]) for cut, _ in pairs[::4] if cut.qualname[0] != "G"]
    pairs += [(cut, study.twins.of(cut)) for cut in single]
    assert {twin.kind for _, twin in pairs} == {"Zero", "Mean"}
    written, prompt = set(), torch.tensor([PROMPT])
    for cut, twin in pairs:
        changes = twin.interventions(study.hook_means)
        by_hook = write(model, prompt, 8, interventions=changes, allow_no_effect=True)
        if twin.kind == "Mean":
            with study.operated(cut):
                by_source = write(model, prompt, 8)
        else:
            by_source = write(model, prompt, 8, surgery=cut, allow_no_effect=True)
        assert by_hook.samples == by_source.samples, cut.id
        written.add(by_hook.samples[0].tokens)
    assert len(pairs) > 50 and len(written) > 10  # the cuts do something


def test_a_surgery_that_stands_a_mean_in_needs_a_study(model):
    source = surgery.read_source(gpt.model)
    zero = surgery.find(source, "bypass-call", qualname="GPT.forward", target="ln_final")
    (edit,) = zero.edits
    mean = replace(zero, edits=(replace(edit, replacement=f"{MEAN}(x, 0)"),))
    with pytest.raises(SurgeryError, match="is not known here"):
        write(model, torch.tensor([PROMPT]), surgery=mean)


# --- other people's models


@dataclass
class Answer:
    logits: torch.Tensor


@pytest.mark.parametrize("form", ["tuple", "last", "object"])
def test_logits_are_found_as_models_return_them(model, form):
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, tokens, targets=None):
            logits = self.inner(tokens)
            if form == "object":
                return Answer(logits)
            return (logits[:, -1:] if form == "last" else logits), None

    assert tokens_by(Other(), context=16) == tokens_by(model)


class Broken(nn.Module):
    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, tokens):
        logits = torch.zeros(*tokens.shape, 5)
        if tokens.shape[1] > 6:
            logits[:, -1, 2] = self.value
        return logits


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_that_are_no_numbers_are_refused(value, temperature):
    with pytest.raises(UsageError, match=r"after 7 tokens are (NaN|infinite)"):
        tokens_by(Broken(value), temperature=temperature)


def test_of_equal_logits_the_lowest_token_is_taken():
    assert tokens_by(Broken(0.0), temperature=0) == [0] * 30


@pytest.mark.parametrize(
    ("prompts", "settings", "said"),
    [
        ("text", {}, "set model.tokenizer, or pass tokens"),
        ([], {}, "there is no prompt"),
        ("", {}, "a prompt is empty"),
        (torch.zeros(1, 17, dtype=torch.long), {}, "reads 16 at once"),
        (torch.zeros(1, 3), {}, "must be token ids"),
        (torch.zeros(1, 3, dtype=torch.long), {"tokens": 0}, "tokens is 0"),
        (torch.zeros(1, 3, dtype=torch.long), {"seeds": ()}, "seeds is"),
        (torch.zeros(1, 3, dtype=torch.long), {"seeds": (1, 1)}, "each may be there once"),
        (torch.zeros(1, 3, dtype=torch.long), {"temperature": -1}, "temperature is -1"),
        (torch.zeros(1, 3, dtype=torch.long), {"temperature": math.nan}, "temperature is nan"),
        (torch.zeros(1, 3, dtype=torch.long), {"top_k": 0}, "top_k is 0"),
        (torch.zeros(1, 3, dtype=torch.long), {"top_k": True}, "top_k is True"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(model, prompts, settings, said):
    with pytest.raises(ValueError, match=said) as error:
        write(model, prompts, **settings)
    assert "\n" not in str(error.value)
