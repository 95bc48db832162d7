"""A view with a tokenizer takes text where it takes tokens, and says what each token is called."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gpt.text import CharTokenizer
from interp import hook_lines
from interp.errors import UsageError
from interp.tokens import strings_of, token_of, tokens_of

MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the")]


def of_bytes():
    """A tokenizer of bytes as GPT-2's, that knows the word "the" and begins texts with <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", *alphabet, *("".join(pair) for pair in MERGES)]
    made = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")


def of_pieces():
    """A tokenizer of pieces as Llama's, which leaves out the space at the start of a text."""
    words = ["<s>", "▁the", "▁a", "the", "<0xC3>", "<0xA9>"]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "<s>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.fixture
def view():
    config = GPT2Config(vocab_size=300, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    return hook_lines(GPT2LMHeadModel(config).eval(), torch.tensor([[1, 2, 3]]))


def test_text_is_tokens_and_tokens_are_text(view):
    view.tokenizer = of_bytes()
    tokens = tokens_of(view, "the the é")
    assert tokens.shape == (1, 5)
    assert strings_of(view, tokens[0]) == ["the", " the", " ", "�", "�"]
    assert view.to_str_tokens("the the é") == strings_of(view, tokens[0])
    assert view.to_string(tokens[0]) == "the the é"
    assert view.to_tokens("the", special=True).tolist() == [[0, *view.to_tokens("the")[0].tolist()]]
    assert token_of(view, " the") == int(tokens[0, 1])
    assert view(tokens).shape == (1, 5, 300)
    assert torch.equal(tokens_of(view, ["the", " the"]), tokens[0, :2, None])


def test_a_space_that_is_left_out_at_the_start_of_a_text_is_seen(view):
    view.tokenizer = of_pieces()
    assert view.to_string(torch.tensor([1, 2])) == "the a"
    assert view.to_str_tokens(torch.tensor([1, 2, 3, 4])) == [" the", " a", "the", "�"]


def test_tokenizers_of_others_and_of_the_model_itself(view, model, clean):
    view.tokenizer = CharTokenizer.from_text("hello")
    assert view.to_str_tokens("hole") == ["h", "o", "l", "e"]
    own = hook_lines(model, clean)
    model.tokenizer = CharTokenizer.from_text("hello")
    try:
        assert torch.equal(own.to_tokens("hole"), model.to_tokens("hole"))
        assert own.to_str_tokens("hole") == model.to_str_tokens("hole")
    finally:
        model.tokenizer = None


def test_what_is_no_text_is_one_sentence(view):
    with pytest.raises(UsageError, match=r"no tokenizer: set view\.tokenizer"):
        tokens_of(view, "the")
    assert strings_of(view, torch.tensor([3, 4])) == ["3", "4"]
    view.tokenizer = of_bytes()
    with pytest.raises(UsageError, match=r"'the the' is 2 tokens, \['the', ' the'\], not one"):
        token_of(view, "the the")
    with pytest.raises(UsageError, match=r"as many tokens each, not \[1, 2\]"):
        view.to_tokens(["the", "the the"])
