"""The small GPT whose lines are studied, and how it is judged and trained."""

import torch
from torch.nn import functional as F

from gpt import model as model_file

TOKENS = torch.randint(0, 29, (6, 16), generator=torch.Generator().manual_seed(0))
OTHERS = torch.randint(0, 29, (6, 16), generator=torch.Generator().manual_seed(1))
CONFIG = {"vocab_size": 29, "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16}


def build(seed):
    return model_file.GPT(model_file.GPTConfig(**CONFIG, dropout=0.1), seed=seed)


def loss(model, tokens=TOKENS):
    logits = model(tokens)
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)


@torch.no_grad()
def judge(model):
    model.eval()
    return loss(model)


def train(model, seed, steps=12):
    torch.manual_seed(seed)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).mean().backward()
        optimizer.step()
    model.eval()
