from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

# The models of the tests are so small that a second thread costs more than it brings.
torch.set_num_threads(1)


@pytest.fixture
def bridge_over() -> Callable[[GPT2LMHeadModel], TransformerBridge]:
    """TransformerLens' bridge over a Hugging Face GPT-2, whose tokens are numbers."""

    def wrap(gpt2: GPT2LMHeadModel) -> TransformerBridge:
        numbers = {str(i): i for i in range(gpt2.config.vocab_size)}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel(numbers, unk_token="0")),
            **dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "0"),
            name_or_path="none",  # without a tokenizer that prepends, the bridge asks a hub for one
            add_bos_token=True,
        )
        return TransformerBridge.boot_transformers("gpt2", hf_model=gpt2, tokenizer=tokenizer)

    return wrap
