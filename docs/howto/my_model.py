"""Forty lines of somebody's own model: one layer of attention and a feed-forward layer."""

import torch
from torch import nn
from torch.nn import functional as F
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint


class MyGPT(HookedRootModule):
    def __init__(self, vocab_size: int, d_model: int = 32, n_ctx: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, d_model)
        self.position = nn.Embedding(n_ctx, d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        self.unembed = nn.Linear(d_model, vocab_size)
        self.hook_attn_out = HookPoint()  # [batch pos d_model]
        self.hook_post = HookPoint()  # [batch pos d_mlp]
        self.setup()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        x = x + self.position.weight[: tokens.shape[1]]
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        attn_out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        attn_out = self.out(attn_out)
        attn_out = self.hook_attn_out(attn_out)
        x = x + attn_out
        post = F.gelu(self.up(x))
        post = self.hook_post(post)
        x = x + self.down(post)
        return self.unembed(x)
