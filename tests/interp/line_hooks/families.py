"""Small random models of many families, and which module of each takes or returns what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from interp.line_hooks import HookedLines, hook_lines

TOKENS = torch.randint(31, (2, 7), generator=torch.Generator().manual_seed(3))
SIZES = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"vocab_size": 31, "n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 4}
ENDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}


@dataclass
class Family:
    """How a family's model is made, and where its values are.

    Args:
        kind: its classes' name in transformers.
        sizes: of the configuration.
        blocks: the list of its blocks.
        at: for names of the field, a module of the block, and whether it is what it takes or gives.
        heads: of z and q, and of k and v.
        parallel: whether attention and MLP read the same stream.
    """

    kind: str
    sizes: Mapping[str, Any]
    blocks: str
    at: Mapping[str, tuple[str, str]]
    heads: tuple[int, int] = (4, 4)
    parallel: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


LLAMA = {
    "hook_attn_out": ("self_attn", "out"),
    "hook_mlp_out": ("mlp", "out"),
    "attn.hook_q": ("self_attn.q_proj", "out"),
    "attn.hook_k": ("self_attn.k_proj", "out"),
    "attn.hook_v": ("self_attn.v_proj", "out"),
    "attn.hook_z": ("self_attn.o_proj", "in"),
    "mlp.hook_pre": ("mlp.gate_proj", "out"),
    "mlp.hook_pre_linear": ("mlp.up_proj", "out"),
    "mlp.hook_post": ("mlp.down_proj", "in"),
}
POST_NORMS = {
    "hook_attn_out": ("post_attention_layernorm", "out"),
    "hook_mlp_out": ("post_feedforward_layernorm", "out"),
}
FAMILIES = {
    "gpt2": Family(
        *("GPT2LMHeadModel", {**GPT2, **ENDS}, "transformer.h"),
        {
            "hook_attn_out": ("attn", "out"),
            "hook_mlp_out": ("mlp", "out"),
            "attn.hook_z": ("attn.c_proj", "in"),
            "mlp.hook_pre": ("mlp.c_fc", "out"),
            "mlp.hook_post": ("mlp.c_proj", "in"),
        },
    ),
    "neox": Family(
        *("GPTNeoXForCausalLM", SIZES, "gpt_neox.layers"),
        {
            "hook_attn_out": ("attention", "out"),
            "hook_mlp_out": ("mlp", "out"),
            "attn.hook_z": ("attention.dense", "in"),
            "mlp.hook_pre": ("mlp.dense_h_to_4h", "out"),
            "mlp.hook_post": ("mlp.dense_4h_to_h", "in"),
        },
        parallel=True,
    ),
    "gptj": Family(
        "GPTJForCausalLM",
        {**GPT2, **ENDS, "rotary_dim": 2},
        "transformer.h",
        {
            "hook_attn_out": ("attn", "out"),
            "hook_mlp_out": ("mlp", "out"),
            "attn.hook_q": ("attn.q_proj", "out"),
            "attn.hook_k": ("attn.k_proj", "out"),
            "attn.hook_v": ("attn.v_proj", "out"),
            "attn.hook_z": ("attn.out_proj", "in"),
            "mlp.hook_pre": ("mlp.fc_in", "out"),
            "mlp.hook_post": ("mlp.fc_out", "in"),
        },
        parallel=True,
    ),
    "llama": Family("LlamaForCausalLM", GROUPED, "model.layers", LLAMA, (4, 2)),
    "mistral": Family(
        "MistralForCausalLM", {**GROUPED, "sliding_window": 3}, "model.layers", LLAMA, (4, 2)
    ),
    "qwen2": Family("Qwen2ForCausalLM", GROUPED, "model.layers", LLAMA, (4, 2)),
    "qwen3": Family("Qwen3ForCausalLM", {**GROUPED, "head_dim": 6}, "model.layers", LLAMA, (4, 2)),
    "gemma": Family("GemmaForCausalLM", {**GROUPED, "head_dim": 6}, "model.layers", LLAMA, (4, 2)),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        {**GROUPED, "head_dim": 6, "sliding_window": 3, "query_pre_attn_scalar": 6},
        "model.layers",
        LLAMA | POST_NORMS,
        (4, 2),
    ),
    "olmo2": Family("Olmo2ForCausalLM", GROUPED, "model.layers", LLAMA | POST_NORMS, (4, 2)),
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 8}
# whose names are compared with what their own code computes; where their modules are is not told
OTHERS = {
    "gptneo": Family(
        "GPTNeoForCausalLM",
        {
            **SIZES,
            "num_layers": 2,
            "num_heads": 4,
            "window_size": 3,
            "attention_types": [[["global", "local"], 1]],
        },
        "transformer.h",
        {},
    ),
    "opt": Family(
        "OPTForCausalLM",
        {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16},
        "model.decoder.layers",
        {},
    ),
    "bloom": Family(
        *("BloomForCausalLM", {"vocab_size": 31, "hidden_size": 16, "n_layer": 2, "n_head": 4}),
        *("transformer.h", {}),
    ),
    "xglm": Family(
        "XGLMForCausalLM",
        {**SIZES, "d_model": 16, "attention_heads": 4, "num_layers": 2, "ffn_dim": 24},
        "model.layers",
        {},
    ),
    "bert": Family("BertForMaskedLM", SIZES, "bert.encoder.layer", {}),
    "stablelm": Family("StableLmForCausalLM", {**GROUPED, "hidden_size": 32}, "model.layers", {}),
    "phi3": Family("Phi3ForCausalLM", GROUPED, "model.layers", {}),
    "jamba": Family(
        "JambaForCausalLM",
        {**GROUPED, "num_experts": 1, "mamba_d_state": 4, "mamba_dt_rank": 4}
        | {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
        "model.layers",
        {},
    ),
    "mixtral": Family(
        "MixtralForCausalLM", {**GROUPED, **EXPERTS, "num_local_experts": 4}, "model.layers", {}
    ),
    "deepseek": Family(
        "DeepseekV3ForCausalLM",
        {**SIZES, **EXPERTS, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1}
        | {"topk_group": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "first_k_dense_replace": 1}
        | {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4},
        "model.layers",
        {},
    ),
}


def built(name: str, **options: Any) -> nn.Module:
    """A model of a family, with weights large enough that every part matters."""
    family = (FAMILIES | OTHERS)[name]
    kind = getattr(transformers, family.kind)
    torch.manual_seed(0)
    model: nn.Module = kind._from_config(kind.config_class(**family.sizes), **options)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 5 if weight.ndim > 1 else 1
            weight += 0.1 * torch.randn(weight.shape)  # norms and biases of their own
    return model.eval()


@lru_cache
def viewed(
    name: str, attention: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, HookedLines]:
    """A model of a family, and a view of it, made once for all tests: none changes either."""
    options = {} if attention is None else {"attn_implementation": attention}
    model = built(name, **options).to(dtype)
    return model, hook_lines(model, TOKENS)


def seen_by_hooks(model: nn.Module, family: Family, run: Callable[[], Any]) -> dict[str, Tensor]:
    """What modules take and return, by name in the field; seen by plain hooks of torch."""
    seen: dict[str, Tensor] = {}
    handles = []

    def note(name: str, side: str, path: str) -> None:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            value = (args[0] if args else kwargs["hidden_states"]) if side == "in" else output
            seen[name] = value[0] if isinstance(value, tuple) else value

        module = model.get_submodule(path)
        handles.append(module.register_forward_hook(hook, with_kwargs=True))

    for number in range(len(model.get_submodule(family.blocks))):
        block = f"{family.blocks}.{number}"
        note(f"blocks.{number}.hook_resid_pre", "in", block)
        note(f"blocks.{number}.hook_resid_post", "out", block)
        for name, (path, side) in family.at.items():
            note(f"blocks.{number}.{name}", side, f"{block}.{path}")
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return seen


class WithPositions(nn.Module):
    """Positions [pos width] and [1 pos width], which all texts share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(31, 8), nn.Linear(8, 31)

    def forward(self, tokens: Tensor, added: float | Tensor = 0.0) -> Tensor:
        plain = self.embed.weight[: tokens.shape[1]]
        leading = plain[None] * 2
        logits: Tensor = self.head(self.embed(tokens) + plain + leading + added)
        return logits


class StopsWhereChanged(nn.Module):
    """A model of which a block takes one stream alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(31, 8)
        self.layers = nn.ModuleList([Stubborn(), Stubborn()])

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return x


class Stubborn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2.0
        if y.abs().max() > 50:
            raise IndexError("amax(): Expected reduction dim")
        return x + y


class Masked(nn.Module):
    """A model that makes the attention mask of its tokens: 0 is padding."""

    def __init__(self, model: nn.Module, places: bool = True) -> None:
        super().__init__()
        self.model, self.places = model, places

    def forward(self, tokens: Tensor) -> Tensor:
        mask = (tokens != 0).long()
        options = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if self.places else {}
        logits: Tensor = self.model(tokens, attention_mask=mask, **options).logits
        return logits
