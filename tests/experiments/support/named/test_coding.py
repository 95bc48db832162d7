"""Tokens as people read them: spaces, bytes, special tokens; what an answer is after a text."""

import pytest
import torch

from experiments.support.measured import keeps_text
from experiments.support.named.coding import (
    TransformersTokenizer,
    split_shown,
    text_within,
    token_after,
)
from gpt.text import CharTokenizer

TEXT = "def naïve(x): 😀\n\treturn  x"


def test_names_put_together_are_the_text_and_bytes_are_counted(tokenizer):
    coder = TransformersTokenizer(tokenizer)
    tokens = coder.encode(TEXT)
    assert coder.decode(tokens) == TEXT
    assert b"".join(coder.bytes_of(int(token)) for token in tokens) == TEXT.encode()
    assert int(coder.byte_counts[tokens].sum()) == len(TEXT.encode())
    assert not len(coder.before)


def test_parts_of_a_character_are_shown_as_bytes_and_special_tokens_by_name(tokenizer):
    coder = TransformersTokenizer(tokenizer)
    names = coder.names(coder.encode("😀"))
    assert names == ["\\xf0", "\\x9f", "\\x98", "\\x80"]
    assert coder.names(torch.tensor([0])) == ["<|end|>"]
    assert int(coder.byte_counts[0]) == 0


def test_an_answer_is_the_token_that_goes_on_or_none(tokenizer):
    coder = TransformersTokenizer(tokenizer)
    assert token_after(coder, "return the", " x") is None or coder.names(
        [token_after(coder, "return the", " x")]
    ) == [" x"]
    (single,) = coder.encode(" the").tolist()
    assert token_after(coder, "in", " the") == single
    assert token_after(coder, "in", " Zanzibar") is None
    assert split_shown(coder, "in the") == "'in' ' the'"
    letters = CharTokenizer("abc")
    assert token_after(letters, "ab", "c") == 2
    assert token_after(letters, "ab", "cb") is None


def test_a_sentencepiece_vocabulary_is_read_with_its_spaces_and_bytes():
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    vocab = {"<s>": 0, "▁the": 1, "a": 2, "▁": 3, "<0xC3>": 4, "<0xA9>": 5}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    coder = TransformersTokenizer(PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>"))
    assert coder.names([0, 1, 2, 4]) == ["<s>", " the", "a", "\\xc3"]
    assert coder.byte_counts.tolist() == [0, 4, 1, 1, 1, 1]


@pytest.mark.parametrize("strips", [True, False])
def test_the_text_of_tokens_within_a_text_keeps_its_first_space(strips):
    """Llama 2's decoder leaves out the space with which its tokenizer begins each text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {letter: number for number, letter in enumerate(["▁", *"abcdefé"])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if strips else "never")
    strip = [decoders.Strip(" ", 1, 0)] if strips else []
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), *strip])
    coder = TransformersTokenizer(PreTrainedTokenizerFast(tokenizer_object=inner))
    text = "abc def éa fed"
    whole = coder.encode(text)
    assert coder.decode(whole) == text
    for start in range(strips + 1, len(whole)):
        rest = whole[start:]
        assert text_within(coder, rest) == text[start - strips :]
        assert keeps_text(coder, rest[None])
        assert int(coder.byte_counts[rest].sum()) == len(text[start - strips :].encode())


def test_a_token_that_is_none_is_refused(tokenizer):
    with pytest.raises(ValueError, match="100000 is no token"):
        TransformersTokenizer(tokenizer).decode([100_000])
