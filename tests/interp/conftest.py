import pytest
import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gpt import GPT, GPTConfig
from gpt.text import CharTokenizer, load_corpus

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


@pytest.fixture(scope="session")
def text_tokens() -> torch.Tensor:
    """Twelve stretches of sixteen characters of real text, [batch pos]."""
    text = load_corpus("python-docs").text[2000:2192]
    return CharTokenizer.from_text(text).encode(text).view(12, 16)


@pytest.fixture
def clean(text_tokens) -> torch.Tensor:
    return text_tokens[:4]


@pytest.fixture
def corrupted(text_tokens) -> torch.Tensor:
    return text_tokens[4:8]


@pytest.fixture
def model(text_tokens) -> GPT:
    """A GPT whose weights are random and large enough for every part to matter."""
    size = GPTConfig(
        block_size=16,
        vocab_size=int(text_tokens.max()) + 1,
        n_layer=3,
        n_head=4,
        n_embd=32,
        bias=True,
    )
    model = GPT(size).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    return model
