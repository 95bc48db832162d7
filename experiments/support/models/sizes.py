"""What do people call the sizes of a model?

sizes = sizes_of(preset, {"n_kv_head": 2})     # what --set says goes before the preset
sizes.of("hidden_size", 768)
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt.errors import UsageError, nearest
from gpt.train import Preset

# What the parameters of other people's models and configs are called, beside our own names.
ALIASES = {
    "vocab_size": (
        *("vocab_size", "n_vocab", "ntoken", "ntokens", "vocabulary_size", "num_tokens"),
        *("padded_vocab_size", "src_vocab_size", "tgt_vocab_size", "voc_size", "vocab_len"),
    ),
    "block_size": (
        *("block_size", "n_positions", "n_ctx", "ctx_len", "seq_len"),
        *("seq_length", "sequence_len", "sequence_length", "context_length", "context_len"),
        *("context_size", "context_window", "max_seq_len", "max_seq_length", "max_len"),
        *("max_length", "max_sequence_length", "max_context_length", "max_target_positions"),
        *("blocksize", "max_block_size"),
    ),
    "n_layer": (
        *("n_layer", "n_layers", "num_hidden_layers", "num_layers", "nlayers", "nlayer"),
        *("n_blocks", "num_blocks", "decoder_layers", "num_decoder_layers", "depth"),
    ),
    "n_head": (
        *("n_head", "n_heads", "num_attention_heads", "num_heads", "nhead", "nheads", "heads"),
        *("decoder_attention_heads", "num_decoder_attention_heads", "head_num", "n_attn_heads"),
    ),
    "n_embd": (
        *("n_embd", "n_embed", "nembed", "nembd", "d_model", "hidden_size", "dim", "embed_dim"),
        *("embedding_dim", "emb_dim", "emb_size", "embed_size", "embedding_size", "model_dim"),
        *("d_embed", "d_embd", "ninp", "n_emb", "dmodel"),
    ),
    "n_kv_head": (
        *("n_kv_head", "n_kv_heads", "num_key_value_heads", "num_kv_heads", "kv_heads"),
        *("n_query_groups", "num_query_groups", "n_kv_groups", "num_kv_groups"),
    ),
    "head_size": ("head_dim", "head_size", "d_head", "dim_head", "attention_head_size"),
    "rotary": ("rotary_dim", "rope_dim", "n_rot", "rotary_ndims"),
    "d_mlp": (
        *("d_mlp", "intermediate_size", "d_ff", "dff", "n_inner", "ff_dim", "ffn_dim", "mlp_dim"),
        *("dim_feedforward", "ffn_hidden", "nhid", "d_inner", "feedforward_dim", "n_hidden"),
        *("dim_ff", "ff_size", "hidden_dim", "d_hidden", "decoder_ffn_dim", "ffn_hidden_size"),
    ),
    "dropout": ("dropout", "drop_rate", "dropout_rate", "dropout_p", "p_drop", "dropout_prob"),
    "device": ("device",),
    "room": ("max_position_embeddings",),  # some start to count at their padding token
    "is_decoder": ("is_decoder",),
    "use_cache": ("use_cache",),  # of earlier keys: there are none where a whole text is read
    "token": (
        *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "pad_id"),
        *("padding_idx", "sep_token_id", "unk_token_id", "mask_token_id", "image_token_id"),
    ),
    "experts": ("num_experts", "n_routed_experts", "num_local_experts", "n_experts"),
    "experts_each": ("num_experts_per_tok", "num_experts_per_token", "moe_topk"),
    "expert_groups": ("n_group", "topk_group"),
    "experts_width": ("moe_intermediate_size", "shared_expert_intermediate_size"),
}
OPTIONAL = {
    "n_kv_head",
    "head_size",
    "rotary",
    "d_mlp",
    "device",
    "token",
    "experts",
    "room",
}  # None there means: make it


@dataclass
class Sizes:
    """What is known of a model to be built, by the names that people give it.

    Attributes:
        named: sizes by every name.
        given: what ``--set`` says; it goes before all else.
        used: the names of ``given`` that something asked for.
        left: what a config was left with from its own file, for the error of one that fails.
        fills: whether a size that the file leaves at None is given too.
    """

    named: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    left: dict[str, Any] = field(default_factory=dict)
    fills: bool = False

    @property
    def known(self) -> dict[str, Any]:
        """All names, those of ``--set`` first."""
        return {**self.named, **self.given}

    def of(self, name: str, default: Any) -> Any:
        """What a name stands for here; ``default``, what the file says, where nothing is known."""
        if name in self.given:
            self.used.add(name)
            return self.given[name]
        if name not in self.named or (
            default is None and KINDS[name] in OPTIONAL and not self.fills
        ):
            return default
        if KINDS[name] == "token":  # one that the vocabulary has not
            known = [item for item in as_list(default) if isinstance(item, int)]
            return 0 if any(item >= self.named["vocab_size"] for item in known) else default
        if KINDS[name].startswith("expert") and isinstance(default, int):
            return min(default, self.named[name])
        if isinstance(default, str) != isinstance(self.named[name], str) and default is not None:
            return default if default is not MISSING else self.named[name]
        return self.named[name]

    def require_used(self, names: set[str]) -> None:
        """Raise ``UsageError`` for a name of ``--set`` that nothing asked for."""
        for name in self.given:
            if name not in self.used and name not in names:
                known = sorted({*self.left, *names, *self.used})
                raise UsageError(
                    f"--set {name}={self.given[name]!r}: nothing that builds the model is called "
                    f"{name!r}; nearest: {nearest(name, known)}"
                )


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


KINDS = {alias: kind for kind, aliases in ALIASES.items() for alias in aliases}
MISSING: Any = inspect.Parameter.empty


def sizes_of(preset: Preset, given: Mapping[str, Any] | None = None) -> Sizes:
    """A preset's sizes, by all the names that people give them."""
    model = preset.model
    head_size = model.n_embd // model.n_head
    values = {
        **vars(model),
        "n_kv_head": model.n_head,
        "head_size": head_size,
        "rotary": head_size,
        "d_mlp": 4 * model.n_embd,
        "device": "cpu",
        "room": 2 * model.block_size,
        "is_decoder": True,
        "use_cache": False,
        "token": 0,
        "experts": 8,
        "experts_each": 2,
        "expert_groups": 1,
        "experts_width": model.n_embd,
    }
    named = {alias: values[kind] for alias, kind in KINDS.items()}
    return Sizes(named, dict(given or {}))
