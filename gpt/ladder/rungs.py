"""Which models lie between a table of letter pairs and a GPT?

Each class takes over the rung below it and changes one thing; what it is built of is in ``parts``.

    model = RUNGS["one head"](replace(LECTURE, vocab_size=65))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from gpt.errors import UsageError
from gpt.hooks import ForkPoint
from gpt.ladder.parts import (
    AttentionBlock,
    DropoutBlock,
    NormedBlock,
    PlainBlock,
    ResidualBlock,
)
from gpt.model import GPTConfig, LayerNorm
from gpt.protocol import LanguageModel
from gpt.running import takes_options


@dataclass(frozen=True)
class Recipe:
    """How the lecture trains: AdamW at a steady rate; now and then a loss over drawn batches."""

    batch_size: int = 32
    steps: int = 5000
    eval_interval: int = 500
    eval_batches: int = 200
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "eval_interval", "eval_batches"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")


# Queries, keys and values have no bias in the lecture; all other maps and the norms do.
LECTURE = GPTConfig(block_size=8, n_layer=3, n_head=4, n_embd=32, bias=True)
SCALED = GPTConfig(block_size=256, n_layer=6, n_head=6, n_embd=384, dropout=0.2, bias=True)


class Bigram(LanguageModel):
    """The next token from this token alone: its row in a table of logits."""

    idea: ClassVar[str] = "a table of which token follows which"
    size: ClassVar[GPTConfig] = LECTURE
    recipe: ClassVar[Recipe] = Recipe(steps=3000, eval_interval=300, learning_rate=1e-2)

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.hook_embed = HookPoint()  # [batch pos vocab]; d_model from the next rung on
        self.hook_logits = ForkPoint()  # [batch pos vocab]
        self.build()
        self.setup()

    def build(self) -> None:
        self.wte = nn.Embedding(self.config.vocab_size, self.config.vocab_size)

    @takes_options
    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        logits = self.wte(tokens)
        logits = self.hook_embed(logits)
        logits = self.hook_logits(logits)
        return logits


class PlusPosition(Bigram):
    """A residual stream: what the token is, plus where it stands. Still no look at any other."""

    idea: ClassVar[str] = "embeddings of token and position, read by a linear map"

    def build(self) -> None:
        self.hook_pos_embed = ForkPoint()  # [batch pos d_model]
        self.wte = nn.Embedding(self.config.vocab_size, self.config.n_embd)
        self.wpe = nn.Embedding(self.config.block_size, self.config.n_embd)
        self.blocks = nn.ModuleList(self.make_blocks())
        self.lm_head = nn.Linear(self.config.n_embd, self.config.vocab_size)

    def make_blocks(self) -> Sequence[nn.Module]:
        return []

    @takes_options
    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        logits = self.read_out(x)
        logits = self.hook_logits(logits)
        return logits

    def embed(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        batch, pos = tokens.shape
        tok_emb = self.wte(tokens)
        tok_emb = self.hook_embed(tok_emb)
        pos_emb = self.wpe(torch.arange(pos, device=tokens.device))
        pos_emb = self.hook_pos_embed(pos_emb.expand(batch, -1, -1))
        x = tok_emb + pos_emb
        return x

    def read_out(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos vocab"]:
        return self.lm_head(x)


class OneHead(PlusPosition):
    """Each token looks back at those before it, through one head of self-attention."""

    idea: ClassVar[str] = "one head of self-attention"
    recipe: ClassVar[Recipe] = Recipe()

    def make_blocks(self) -> Sequence[nn.Module]:
        return [AttentionBlock(self.config, heads=1)]


class SeveralHeads(OneHead):
    """Several heads side by side, each as wide as its share of the residual stream."""

    idea: ClassVar[str] = "several heads side by side"

    def make_blocks(self) -> Sequence[nn.Module]:
        return [AttentionBlock(self.config, heads=self.config.n_head)]


class PlusFeedForward(SeveralHeads):
    """After looking, each token thinks: a layer of ReLU neurons of its own."""

    idea: ClassVar[str] = "a feed-forward layer after attention"

    def make_blocks(self) -> Sequence[nn.Module]:
        return [PlainBlock(self.config)]


class Blocks(PlusFeedForward):
    """Look and think, several times over. Deeper, and harder to train."""

    idea: ClassVar[str] = "several blocks of both, one after the other"

    def make_blocks(self) -> Sequence[nn.Module]:
        return [PlainBlock(self.config) for _ in range(self.config.n_layer)]


class Residual(Blocks):
    """Each block adds to the stream instead of replacing it, through projections back into it."""

    idea: ClassVar[str] = "residual connections, projections, neurons four times as many"

    def make_blocks(self) -> Sequence[nn.Module]:
        return [ResidualBlock(self.config) for _ in range(self.config.n_layer)]


class LayerNormed(Residual):
    """Each part reads a normalised stream, and so does the unembedding."""

    idea: ClassVar[str] = "layer norm before each part and at the end"

    def build(self) -> None:
        super().build()
        self.ln_final = LayerNorm(self.config)

    def make_blocks(self) -> Sequence[nn.Module]:
        return [NormedBlock(self.config) for _ in range(self.config.n_layer)]

    def read_out(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos vocab"]:
        x = self.ln_final(x)
        return self.lm_head(x)


class Scaled(LayerNormed):
    """Dropout in every part, so that a model hundreds of times larger does not learn by heart."""

    idea: ClassVar[str] = "dropout, and with it a larger model"
    size: ClassVar[GPTConfig] = SCALED
    recipe: ClassVar[Recipe] = Recipe(batch_size=64, learning_rate=3e-4)

    def make_blocks(self) -> Sequence[nn.Module]:
        return [DropoutBlock(self.config) for _ in range(self.config.n_layer)]


RUNGS: dict[str, type[Bigram]] = {
    "bigram": Bigram,
    "position": PlusPosition,
    "one head": OneHead,
    "heads": SeveralHeads,
    "feed-forward": PlusFeedForward,
    "blocks": Blocks,
    "residual": Residual,
    "layer norm": LayerNormed,
    "scaled": Scaled,
}
