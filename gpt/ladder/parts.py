"""What are the rungs of the ladder built of?

Blocks, attention and feed-forward as the lecture first writes them; what it ends with is
``gpt.model``'s own. Named and laid out as there.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from gpt.hooks import ForkPoint
from gpt.model import MLP, Block, CausalSelfAttention, GPTConfig, LayerNorm
from gpt.protocol import AttentionWeights


class AttentionBlock(nn.Module):
    def __init__(self, config: GPTConfig, heads: int) -> None:
        super().__init__()
        self.attn = Attention(config, heads)
        self.hook_resid_pre = ForkPoint()  # [batch pos d_model], as are all below
        self.hook_attn_in = ForkPoint()
        self.hook_attn_out = ForkPoint()
        self.hook_resid_post = ForkPoint()

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        x = self.hook_resid_pre(x)
        attn_in = self.hook_attn_in(x)
        attn_out = self.attn(attn_in)
        attn_out = self.hook_attn_out(attn_out)
        x = attn_out
        x = self.hook_resid_post(x)
        return x


class Stream(nn.Module):
    """The hook points of a block of attention and feed-forward.

    Where a value is handed on as it is, the next hook point has a copy of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hook_resid_pre = ForkPoint()  # [batch pos d_model], as are all below
        self.hook_attn_in = ForkPoint()
        self.hook_attn_out = ForkPoint()
        self.hook_resid_mid = ForkPoint()
        self.hook_mlp_in = ForkPoint()
        self.hook_mlp_out = ForkPoint()
        self.hook_resid_post = ForkPoint()


class PlainBlock(Stream):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attn = Attention(config, config.n_head)
        self.mlp = FeedForward(config)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        x = self.hook_resid_pre(x)
        attn_in = self.hook_attn_in(x)
        attn_out = self.attn(attn_in)
        attn_out = self.hook_attn_out(attn_out)
        x = attn_out
        x = self.hook_resid_mid(x)
        mlp_in = self.hook_mlp_in(x)
        mlp_out = self.mlp(mlp_in)
        mlp_out = self.hook_mlp_out(mlp_out)
        x = mlp_out
        x = self.hook_resid_post(x)
        return x


class ResidualBlock(Stream):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attn = ProjectedAttention(config, config.n_head)
        self.mlp = ProjectedFeedForward(config)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        x = self.hook_resid_pre(x)
        attn_in = self.hook_attn_in(x)
        attn_out = self.attn(attn_in)
        attn_out = self.hook_attn_out(attn_out)
        x = x + attn_out
        x = self.hook_resid_mid(x)
        mlp_in = self.hook_mlp_in(x)
        mlp_out = self.mlp(mlp_in)
        mlp_out = self.hook_mlp_out(mlp_out)
        x = x + mlp_out
        x = self.hook_resid_post(x)
        return x


class NormedBlock(Stream):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attn = ProjectedAttention(config, config.n_head)
        self.mlp = ProjectedFeedForward(config)
        self.ln1 = LayerNorm(config)
        self.ln2 = LayerNorm(config)

    forward = Block.forward  # from here on the lecture and nanoGPT agree


class DropoutBlock(Block):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.attn = CausalSelfAttention(replace(config, bias=False))
        self.attn.proj = nn.Linear(config.n_embd, config.n_embd)
        self.mlp = ProjectedFeedForward(config)


class Attention(nn.Module):
    def __init__(self, config: GPTConfig, heads: int) -> None:
        super().__init__()
        self.n_head = heads
        self.d_head = config.n_embd // heads
        maps = [
            [nn.Linear(config.n_embd, self.d_head, bias=False) for _ in ("key", "query", "value")]
            for _ in range(heads)
        ]
        self.key, self.query, self.value = map(join_maps, zip(*maps, strict=True))
        # The lecture's code divides by the square root of the model's width. Its text, nanoGPT and
        # the last rung take the head's, which is the same only where there is one head.
        self.scale = config.n_embd**-0.5
        self.hook_q = HookPoint()  # [batch pos head d_head], as are k, v and z
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()  # [batch head query key]
        self.hook_pattern = HookPoint()  # [batch head query key]
        self.hook_z = HookPoint()

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
        scores = q @ k.transpose(-2, -1)
        scores = scores * self.scale
        future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
        scores = scores.masked_fill(future, -torch.inf)
        scores = self.hook_attn_scores(scores)
        pattern = scores.softmax(dim=-1)
        pattern = self.hook_pattern(pattern)
        z = pattern @ v
        z = z.transpose(1, 2)  # [batch pos head d_head]
        z = self.hook_z(z)
        x = z.reshape(batch, pos, d_model)
        return x


class ProjectedAttention(AttentionWeights, Attention):
    def __init__(self, config: GPTConfig, heads: int) -> None:
        super().__init__(config, heads)
        self.proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        x = super().forward(x)
        x = self.proj(x)
        return x


def join_maps(maps: Sequence[nn.Linear]) -> nn.Linear:
    """The maps of several heads as one, drawn head by head as the lecture draws them."""
    width = sum(head.out_features for head in maps)
    joint = nn.utils.skip_init(nn.Linear, maps[0].in_features, width, bias=False)
    with torch.no_grad():
        joint.weight.copy_(torch.cat([head.weight for head in maps]))
    return joint


class FeedForward(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.n_embd, config.n_embd)
        self.hook_pre = HookPoint()  # [batch pos d_mlp]
        self.hook_post = HookPoint()  # [batch pos d_mlp]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        x = self.fc(x)
        x = self.hook_pre(x)
        x = x.relu()
        x = self.hook_post(x)
        return x


class ProjectedFeedForward(MLP):
    """nanoGPT's MLP, four times as wide as the stream, with the lecture's activation."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.gelu = nn.ReLU()  # type: ignore[assignment]
