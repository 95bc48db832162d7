"""What is a GPT, line by line?

nanoGPT's model, one operation per line, so that one line is one thing to ablate; comments have its
names where ours differ. Where nobody looks at a hook point, torch's fused kernels do what is spelt
out here. The residual stream, and its hook points under their names in TransformerLens:

    tokens ─→ wte ─→ hook_embed ─→ + ←─ hook_pos_embed ←─ wpe ←─ positions
    ┌ Block, n_layer times ────────┼─────────────────────────────────────┐
    │                       hook_resid_pre                               │
    │                              ├─→ hook_attn_in ─→ ln1 ─→ attn ─┐    │
    │                              + ←───────────────── hook_attn_out    │
    │                       hook_resid_mid                               │
    │                              ├─→ hook_mlp_in ─→ ln2 ─→ mlp ─┐      │
    │                              + ←──────────────── hook_mlp_out      │
    │                       hook_resid_post                              │
    └──────────────────────────────┼─────────────────────────────────────┘
                               ln_final ─→ lm_head ─→ hook_logits
    attn: hook_q, hook_k ─→ hook_attn_scores ─→ hook_pattern, hook_v ─→ hook_z ─→ hook_result
    ln:   hook_scale ─→ hook_normalized              mlp: hook_pre ─→ hook_post
"""

import math
import zlib
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens.hook_points import HookPoint

from gpt.errors import check_config
from gpt.hooks import ForkPoint, is_watched
from gpt.protocol import AttentionWeights, LanguageModel, MLPWeights, NormWeights
from gpt.running import takes_options

Stream = Float[Tensor, "batch pos d_model"]
Heads = Float[Tensor, "batch head pos d_head"]


@dataclass(frozen=True)
class GPTConfig:
    """The size of a GPT, under nanoGPT's names. Raises ``UsageError`` where sizes do not fit."""

    block_size: int = 64
    vocab_size: int = 65
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0
    bias: bool = False
    gelu_approximate: Literal["none", "tanh"] = "none"  # "tanh" is what GPT-2 was trained with

    def __post_init__(self) -> None:
        check_config(self)


class LayerNorm(NormWeights, nn.Module):
    """Each position's vector brought to mean 0 and variance 1, then scaled as was learned."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias else None
        self.eps = 1e-5
        self.hook_scale = HookPoint()  # [batch pos 1]
        self.hook_normalized = HookPoint()  # [batch pos d_model]

    def forward(self, x: Stream) -> Stream:
        if is_watched(self.hook_scale, self.hook_normalized):
            return self.normalize(x)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def normalize(self, x: Stream) -> Stream:
        x = x - x.mean(dim=-1, keepdim=True)
        variance = x.square().mean(dim=-1, keepdim=True)
        scale = torch.sqrt(variance + self.eps)
        scale = self.hook_scale(scale)
        x = x / scale
        x = self.hook_normalized(x)
        x = x * self.weight
        if self.bias is not None:
            x = x + self.bias
        return x


class CausalSelfAttention(AttentionWeights, nn.Module):
    """Each position reads from itself and those before it, through several heads side by side."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.d_head = config.n_embd // self.n_head
        self.query = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)  # c_attn: all three
        self.key = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.value = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)  # c_proj
        self.dropout = config.dropout
        self.hook_q = HookPoint()  # [batch pos head d_head], as are k, v and z
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()  # [batch head query key]
        self.hook_pattern = HookPoint()  # [batch head query key]
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()  # [batch pos head d_model]

    def forward(self, x: Stream) -> Stream:
        batch, pos, d_model = x.shape
        heads = (batch, pos, self.n_head, self.d_head)
        q = self.query(x).view(heads)
        q = self.hook_q(q)
        k = self.key(x).view(heads)
        k = self.hook_k(k)
        v = self.value(x).view(heads)
        v = self.hook_v(v)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [batch head pos d_head]
        if is_watched(self.hook_attn_scores, self.hook_pattern):
            z = self.attend(q, k, v)
        else:
            p = self.dropout if self.training else 0.0
            z = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        z = z.transpose(1, 2)  # [batch pos head d_head]
        z = self.hook_z(z)
        if is_watched(self.hook_result):
            out = self.sum_results(z)
        else:
            out = self.proj(z.reshape(batch, pos, d_model))
        out = F.dropout(out, self.dropout, self.training)
        return out

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        scores = q @ k.transpose(-2, -1)
        scores = scores / math.sqrt(self.d_head)
        future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
        scores = scores.masked_fill(future, -torch.inf)
        scores = self.hook_attn_scores(scores)
        pattern = scores.softmax(dim=-1)
        pattern = self.hook_pattern(pattern)
        pattern = F.dropout(pattern, self.dropout, self.training)
        z = pattern @ v
        return z

    def sum_results(self, z: Float[Tensor, "batch pos head d_head"]) -> Stream:
        result = torch.einsum("bphd,hdm->bphm", z, self.W_O)
        result = self.hook_result(result)
        out = result.sum(dim=2)
        out = out + self.b_O
        return out


class MLP(MLPWeights, nn.Module):
    """Each position by itself, through a layer of neurons four times as wide as the stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)  # c_fc
        self.gelu = nn.GELU(config.gelu_approximate)
        self.proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)  # c_proj
        self.dropout = config.dropout
        self.hook_pre = HookPoint()  # [batch pos d_mlp]
        self.hook_post = HookPoint()  # [batch pos d_mlp]

    def forward(self, x: Stream) -> Stream:
        x = self.fc(x)
        x = self.hook_pre(x)
        x = self.gelu(x)
        x = self.hook_post(x)
        x = self.proj(x)
        x = F.dropout(x, self.dropout, self.training)
        return x


class Block(nn.Module):
    """One layer: attention, then the MLP; each reads the stream through a norm and adds to it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1 = LayerNorm(config)  # ln_1
        self.attn = CausalSelfAttention(config)
        self.ln2 = LayerNorm(config)  # ln_2
        self.mlp = MLP(config)
        self.hook_resid_pre = ForkPoint()  # [batch pos d_model], as are all below
        self.hook_attn_in = ForkPoint()  # TransformerLens has one for each head
        self.hook_attn_out = HookPoint()
        self.hook_resid_mid = HookPoint()
        self.hook_mlp_in = ForkPoint()
        self.hook_mlp_out = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(self, x: Stream) -> Stream:
        x = self.hook_resid_pre(x)
        attn_in = self.hook_attn_in(x)
        attn_in = self.ln1(attn_in)
        attn_out = self.attn(attn_in)
        attn_out = self.hook_attn_out(attn_out)
        x = x + attn_out
        x = self.hook_resid_mid(x)
        mlp_in = self.hook_mlp_in(x)
        mlp_in = self.ln2(mlp_in)
        mlp_out = self.mlp(mlp_in)
        mlp_out = self.hook_mlp_out(mlp_out)
        x = x + mlp_out
        x = self.hook_resid_post(x)
        return x


class GPT(LanguageModel):
    """The whole: for each token, the logits of the next. It writes, too: ``LanguageModel``."""

    def __init__(self, config: GPTConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))  # h
        self.ln_final = LayerNorm(config)  # ln_f
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        self.hook_embed = HookPoint()  # [batch pos d_model]
        self.hook_pos_embed = ForkPoint()  # [batch pos d_model]
        self.hook_logits = HookPoint()  # [batch pos vocab]
        self.init_weights(seed)
        self.setup()

    @takes_options  # to give a loss, or to run some of the layers
    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        x = self.ln_final(x)
        logits = self.lm_head(x)
        logits = self.hook_logits(logits)
        return logits

    def embed(self, tokens: Int[Tensor, "batch pos"]) -> Stream:
        batch, pos = tokens.shape
        tok_emb = self.wte(tokens)
        tok_emb = self.hook_embed(tok_emb)
        positions = torch.arange(pos, device=tokens.device)
        pos_emb = self.wpe(positions)
        pos_emb = self.hook_pos_embed(pos_emb.expand(batch, -1, -1))
        x = tok_emb + pos_emb
        x = F.dropout(x, self.config.dropout, self.training)
        return x

    def init_weights(self, seed: int) -> None:
        # Norms start at 1, biases at 0, matrices at N(0, 0.02); those that add to the residual
        # stream start smaller, for there are 2 n_layer of them. Each has a generator of its own,
        # seeded from its name: two variants of the model start alike wherever shapes agree.
        for name, parameter in self.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {seed}".encode()))
            std = 0.02
            if name.endswith("proj.weight"):
                std = std / math.sqrt(2 * self.config.n_layer)
            if parameter.ndim == 1:
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
            else:
                nn.init.normal_(parameter, std=std, generator=generator)
