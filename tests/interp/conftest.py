import pytest
import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

VOCAB = 31


@pytest.fixture
def bridge() -> TransformerBridge:
    """TransformerLens' bridge over a small Hugging Face GPT-2 with random weights."""
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=16, vocab_size=VOCAB)
    words = Tokenizer(models.WordLevel({str(i): i for i in range(VOCAB)}, unk_token="0"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        **dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "0"),
        name_or_path="none",  # without a tokenizer that prepends, the bridge asks a hub for one
        add_bos_token=True,
    )
    model = GPT2LMHeadModel(config).eval()
    return TransformerBridge.boot_transformers("gpt2", hf_model=model, tokenizer=tokenizer)
