"""The same GPT without hook points, and nanoGPT's recipe for training it, in plain torch.

What our model and training are measured against. The recipe is nanoGPT's as published: batches cut
one block at a time from a numpy memory map; on CPUs float32 and AdamW without the fused kernel, on
GPUs bfloat16, a compiled model and the fused kernel.
"""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt.model import GPTConfig
from gpt.train import TrainConfig


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.n_head, config.dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        parts = self.qkv(x).split(width, dim=2)
        q, k, v = (p.view(rows, length, self.heads, -1).transpose(1, 2) for p in parts)
        p = self.dropout if self.training else 0.0
        z = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        z = z.transpose(1, 2).contiguous().view(rows, length, width)
        return self.resid_dropout(self.proj(z))


class PlainBlock(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1, self.ln2 = Norm(config.n_embd), Norm(config.n_embd)
        self.attn = Attention(config)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd, bias=False),
            nn.GELU(),
            nn.Linear(4 * config.n_embd, config.n_embd, bias=False),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class PlainGPT(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.n_layer))
        self.ln_final = Norm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                scale = (2 * config.n_layer) ** -0.5 if "proj" in name or "mlp.2" in name else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        for block in self.blocks:
            x = block(x)
        logits = self.lm_head(self.ln_final(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def plain_trainer(model: nn.Module, config: TrainConfig, block_size: int, tokens: Path):
    """A function that makes one step of nanoGPT's recipe on the uint16 tokens in a file."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    options = {"fused": True} if on_gpu else {}
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), **options)
    run = torch.compile(model) if on_gpu else model
    autocast = torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext()

    def step() -> None:
        data = np.memmap(tokens, dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - block_size, (config.batch_size,)).tolist()
        rows = [torch.from_numpy(data[i : i + block_size + 1].astype(np.int64)) for i in starts]
        x, y = torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows])
        if on_gpu:
            x, y = (part.pin_memory().to(device, non_blocking=True) for part in (x, y))
        with autocast:
            loss = run(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
