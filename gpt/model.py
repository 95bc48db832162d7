"""What is a GPT, line by line?

The model under study, in the shape of nanoGPT: learned positions, pre-norm blocks, a GELU MLP four
times as wide as the residual stream, an unembedding tied to the token embedding. One operation per
line, so that one line is one thing to ablate; every value worth looking at passes a hook point,
named and laid out as in TransformerLens. Sizes in comments read [batch pos ...].

    model = GPT(GPTConfig(vocab_size=65))
    logits, cache = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_pattern")
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

from gpt.errors import UsageError, check_choice
from gpt.generating import check_logits, writing
from gpt.hooks import ForkPoint, watched
from gpt.lens import AttentionWeights, LensModel, MLPWeights


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
        for name in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.n_embd % self.n_head != 0:
            raise UsageError(
                f"n_embd ({self.n_embd}) is not divisible by n_head ({self.n_head}): "
                f"every head takes an equal share of the residual stream"
            )
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; it must be at least 0 and below 1")


class LayerNorm(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias else None
        self.eps = 1e-5
        self.hook_scale = HookPoint()  # [batch pos 1]
        self.hook_normalized = HookPoint()  # [batch pos d_model]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        if not watched(self.hook_scale, self.hook_normalized):
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
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
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.d_head = config.n_embd // self.n_head
        self.query = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.key = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.value = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = config.dropout
        self.hook_q = HookPoint()  # [batch pos head d_head], as are k, v and z
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()  # [batch head query key]
        self.hook_pattern = HookPoint()  # [batch head query key]
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()  # [batch pos head d_model]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        batch, pos, d_model = x.shape
        heads = (batch, pos, self.n_head, self.d_head)
        q = self.query(x).view(heads)
        q = self.hook_q(q)
        k = self.key(x).view(heads)
        k = self.hook_k(k)
        v = self.value(x).view(heads)
        v = self.hook_v(v)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [batch head pos d_head]
        if watched(self.hook_attn_scores, self.hook_pattern):
            z = self.attend(q, k, v)
        else:
            p = self.dropout if self.training else 0.0
            z = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        z = z.transpose(1, 2)  # [batch pos head d_head]
        z = self.hook_z(z)
        if watched(self.hook_result):
            x = self.sum_of_results(z)
        else:
            x = self.proj(z.reshape(batch, pos, d_model))
        x = F.dropout(x, self.dropout, self.training)
        return x

    def attend(
        self,
        q: Float[Tensor, "batch head pos d_head"],
        k: Float[Tensor, "batch head pos d_head"],
        v: Float[Tensor, "batch head pos d_head"],
    ) -> Float[Tensor, "batch head pos d_head"]:
        """The fused kernel spelt out, for when someone looks at its scores or its pattern."""
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

    def sum_of_results(
        self, z: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """The projection spelt out head by head, for when someone looks at one head's result."""
        result = torch.einsum("bphd,hdm->bphm", z, self.W_O)
        result = self.hook_result(result)
        x = result.sum(dim=2)
        x = x + self.b_O
        return x


class MLP(MLPWeights, nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU(config.gelu_approximate)
        self.proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = config.dropout
        self.hook_pre = HookPoint()  # [batch pos d_mlp]
        self.hook_post = HookPoint()  # [batch pos d_mlp]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        x = self.fc(x)
        x = self.hook_pre(x)
        x = self.gelu(x)
        x = self.hook_post(x)
        x = self.proj(x)
        x = F.dropout(x, self.dropout, self.training)
        return x


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1 = LayerNorm(config)
        self.attn = CausalSelfAttention(config)
        self.ln2 = LayerNorm(config)
        self.mlp = MLP(config)
        self.hook_resid_pre = ForkPoint()  # [batch pos d_model], as are all below
        self.hook_attn_out = HookPoint()
        self.hook_resid_mid = HookPoint()
        self.hook_mlp_in = ForkPoint()
        self.hook_mlp_out = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        x = self.hook_resid_pre(x)
        attn_in = self.ln1(x)
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


class GPT(LensModel):
    """A decoder-only transformer.

    Args:
        config: its size.
        seed: of its initial weights, see ``init_weights``.
    """

    def __init__(self, config: GPTConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_final = LayerNorm(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        self.hook_embed = HookPoint()  # [batch pos d_model]
        self.hook_pos_embed = ForkPoint()  # [batch pos d_model]
        self.hook_logits = HookPoint()  # [batch pos vocab]
        self.init_weights(seed)
        self.setup()

    def init_weights(self, seed: int) -> None:
        """Draw every weight afresh.

        | parameter                          | drawn from                    |
        |------------------------------------|-------------------------------|
        | norms                              | 1                             |
        | biases                             | 0                             |
        | projections into the residual      | N(0, 0.02 / sqrt(2 n_layer))  |
        | every other matrix, the embeddings | N(0, 0.02)                    |

        Each parameter has a generator of its own, seeded from ``seed`` and its name: two variants
        of the model start from the same weights wherever their shapes agree.
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
                continue
            generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {seed}".encode()))
            std = 0.02
            if name.endswith("proj.weight"):
                std = std / math.sqrt(2 * self.config.n_layer)
            nn.init.normal_(parameter, std=std, generator=generator)

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"] | Float[Tensor, "batch pos d_model"],
        targets: Int[Tensor, "batch pos"] | None = None,
        *,
        return_type: Literal["logits", "loss", "both"] | None = "logits",
        start_at_layer: int | None = None,
        stop_at_layer: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor] | None:
        """Run the model.

        Args:
            tokens: token ids; or, with ``start_at_layer``, the residual stream entering that layer.
            targets: the token that should follow each position; without it the tokens themselves,
                one to the right.
            return_type: logits [batch pos vocab], the mean loss in nats per token, both, or None.
            start_at_layer: the first layer to run, without the embeddings.
            stop_at_layer: the first layer not to run; the residual stream entering it is returned.

        Raises:
            UsageError: more positions than the block holds; a loss asked for without targets;
                another ``return_type``.
        """
        check_choice("return_type", return_type, ("logits", "loss", "both", None))
        x = self.embed(tokens) if start_at_layer is None else tokens
        for block in list(self.blocks)[start_at_layer:stop_at_layer]:
            x = block(x)
        if stop_at_layer is not None:
            return x
        if return_type is None:
            return None
        x = self.ln_final(x)
        logits = self.lm_head(x)
        logits = self.hook_logits(logits)
        if return_type == "logits":
            return logits
        loss = self.loss(logits, tokens, targets)
        return loss if return_type == "loss" else (logits, loss)

    def embed(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        batch, pos = tokens.shape
        if pos > self.config.block_size:
            raise UsageError(
                f"{pos} tokens are too many: this model's block holds {self.config.block_size}"
            )
        tok_emb = self.wte(tokens)
        tok_emb = self.hook_embed(tok_emb)
        positions = torch.arange(pos, device=tokens.device)
        pos_emb = self.wpe(positions)
        pos_emb = self.hook_pos_embed(pos_emb.expand(batch, -1, -1))
        x = tok_emb + pos_emb
        x = F.dropout(x, self.config.dropout, self.training)
        return x

    def loss(
        self,
        logits: Float[Tensor, "batch pos vocab"],
        tokens: Tensor,
        targets: Int[Tensor, "batch pos"] | None,
    ) -> Float[Tensor, ""]:
        if targets is None:
            if tokens.is_floating_point():
                raise UsageError("a loss needs targets when the run starts at a layer")
            logits, targets = logits[:, :-1], tokens[:, 1:]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "batch pos"],
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "batch longer"]:
        """Continue ``tokens`` by ``max_new_tokens``, each drawn from the model's distribution.

        Without dropout, whatever mode the model is in; it stays in that mode.

        Args:
            tokens: the prompt, at least one token, at most the block.
            temperature: divides the logits; 0 takes the likeliest token.
            top_k: draw from the k likeliest tokens only.
            generator: makes the draw reproducible.

        Raises:
            UsageError: an empty prompt, one longer than the block, or one with tokens outside the
                vocabulary; numbers that cannot be meant.
        """
        with writing(self, tokens, max_new_tokens, temperature, top_k):
            for _ in range(max_new_tokens):
                logits = self(tokens[:, -self.config.block_size :])[:, -1]  # [batch vocab]
                check_logits(logits)
                if top_k is not None:
                    kth = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
                    logits = logits.masked_fill(logits < kth, -torch.inf)
                if temperature == 0:
                    following = logits.argmax(dim=-1, keepdim=True)
                else:
                    probabilities = (logits / temperature).softmax(dim=-1)
                    following = torch.multinomial(probabilities, 1, generator=generator)
                tokens = torch.cat([tokens, following], dim=1)
        return tokens
