"""Folders as save_pretrained writes them, of tiny models of several families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from gpt.text import load_corpus

SIZES = {
    "gpt2": {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 32},
    "gpt_neox": {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
    },
    "llama": {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
    },
}
SIZES["qwen2"] = SIZES["llama"]
SIZES["gemma"] = SIZES["llama"] | {"head_dim": 8}
CAUSAL = tuple(SIZES)
SIZES["bert"] = SIZES["gpt_neox"]
SIZES["t5"] = {"d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2, "d_kv": 16}


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Byte-level pairs of a stretch of real text, as GPT-2 has them."""
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([load_corpus("python-docs").text[:40_000]], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>")


@pytest.fixture(scope="session")
def tokenizer_with_start(tokenizer) -> Any:
    """The same, which puts a special token before each text, as Llama's and Gemma's do."""
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    inner.post_processor = processors.TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<|end|>", eos_token="<|end|>")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory, tokenizer, tokenizer_with_start) -> Callable[..., Path]:
    """Writes a family's folder once, and gives its path."""
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        BertForMaskedLM,
        T5ForConditionalGeneration,
    )

    special: dict[str, Any] = {
        "bert": BertForMaskedLM,
        "t5": T5ForConditionalGeneration,
    }
    written: dict[str, Path] = {}

    def write(family: str, **saved: Any) -> Path:
        key = f"{family}{saved}"
        if key not in written:
            path = tmp_path_factory.mktemp(family)
            config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **SIZES[family])
            torch.manual_seed(0)
            if family in special:
                model = special[family](config)
            else:
                model = AutoModelForCausalLM.from_config(config)
            model.save_pretrained(path, **saved)
            coder = tokenizer_with_start if family == "gemma" else tokenizer
            coder.save_pretrained(path)
            written[key] = path
        return written[key]

    return write
