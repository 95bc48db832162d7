"""What does each idea of a GPT buy?

The lecture "Let's build GPT: from scratch, in code, spelled out" (Karpathy, 2023) climbs from a
table of letter pairs to a transformer, one idea at a time. Here every rung is a model: a small
class that takes over the rung below and changes one thing. Hook points bear the names and layouts
of ``gpt.model``, so that every instrument works on every rung.

    model, curve = climb(OneHead, data, vocab_size=tokenizer.vocab_size)
    curve[-1].val_loss      # 2.4084 on tiny shakespeare, as in the lecture
    print(step("one head"))  # what the rung changes in the code of the one below, as a diff

Trained with seed 1337, a rung makes the generator calls of the lecture in the lecture's order, from
initial weights to batches and evaluations, and arrives at the lecture's losses. The order in which
an ``__init__`` draws weights is therefore part of what it promises.
"""

import ast
import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from gpt.diverging import check_step
from gpt.errors import UsageError, nearest
from gpt.hooks import ForkPoint
from gpt.model import MLP, Block, CausalSelfAttention, GPTConfig, LayerNorm
from gpt.protocol import AttentionWeights, LanguageModel
from gpt.text import Data, windows
from gpt.train import Evaluation, mean_loss


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

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        logits = self.unembed(x)
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

    def unembed(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos vocab"]:
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

    def unembed(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos vocab"]:
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


def climb(
    rung: type[Bigram],
    data: Data,
    *,
    vocab_size: int,
    size: GPTConfig | None = None,
    recipe: Recipe | None = None,
    seed: int = 1337,
    device: torch.device | str = "cpu",
    report: Callable[[int], None] = lambda step: None,
) -> tuple[Bigram, list[Evaluation]]:
    """Build a rung and train it as the lecture does.

    One generator, torch's own, draws initial weights, training batches and evaluation batches in
    turn; its state is set by ``seed`` and stays where the training leaves it.

    Args:
        rung: the class.
        data: token ids of the two splits, on the CPU.
        vocab_size: of the text's tokenizer.
        size: of the model; the rung's own in the lecture by default.
        recipe: likewise.
        report: called after every step with the number of steps made.

    Returns:
        The model after the last step, in evaluation mode; and its losses in nats per token at
        every multiple of ``recipe.eval_interval`` below ``recipe.steps``, as the lecture prints
        them: no evaluation follows the last step.

    Raises:
        DivergedError: a loss or a gradient is no finite number any more.
    """
    recipe = recipe or rung.recipe
    torch.manual_seed(seed)
    model = rung(replace(size or rung.size, vocab_size=vocab_size)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    curve = []
    for number in range(recipe.steps):
        if number % recipe.eval_interval == 0:
            losses = [estimate(model, tokens, recipe) for tokens in (data.train, data.val)]
            curve.append(Evaluation(number, *losses))
        x, y = draw(data.train, model, recipe.batch_size)
        loss = model(x, y, return_type="loss")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        optimizer.step()
        check_step(number + 1, *torch.stack([loss.detach(), norm]).tolist())
        report(number + 1)
    return model.eval(), curve


def estimate(model: Bigram, tokens: Int[Tensor, "length"], recipe: Recipe) -> float:
    """The mean loss in nats per token over freshly drawn batches."""
    x, y = draw(tokens, model, recipe.eval_batches * recipe.batch_size)
    return mean_loss(model, x, y, rows=max(1, EVALUATED_AT_ONCE // model.config.block_size))


EVALUATED_AT_ONCE = 16384
"""Tokens: enough to keep a machine busy, few enough for the attention scores to fit."""


def draw(
    tokens: Int[Tensor, "length"], model: Bigram, rows: int
) -> tuple[Int[Tensor, "rows pos"], Int[Tensor, "rows pos"]]:
    """Blocks that start anywhere in the text, and for each position the token that follows.

    Many rows at once are the same blocks as several batches one after the other.
    """
    blocks = windows(tokens, model.config.block_size + 1)
    chosen = blocks[torch.randint(len(blocks), (rows,))].to(model.wte.weight.device)
    return chosen[:, :-1].contiguous(), chosen[:, 1:].contiguous()


def step(name: str) -> str:
    """What a rung changes in the code of the rung below it, as a unified diff.

    Methods that a class inherits are written out, and so are the parts that a rung is built of;
    hook points, which compute nothing, are left out. Empty for the first rung.

    Raises:
        UsageError: there is no such rung.
    """
    if name not in RUNGS:
        raise UsageError(f"there is no rung {name!r}; nearest: {nearest(name, RUNGS)}")
    names = list(RUNGS)
    place = names.index(name)
    if place == 0:
        return ""
    below = names[place - 1]
    diff = difflib.unified_diff(
        listing(RUNGS[below]), listing(RUNGS[name]), below, name, lineterm="", n=2
    )
    return "".join(f"{line if line[:2] != '@@' else ' ...'}\n" for line in diff)


def listing(rung: type[Bigram]) -> list[str]:
    """The code that a rung runs, line by line, wherever it was inherited from."""
    with torch.random.fork_rng(devices=[]):
        model = rung(replace(LECTURE, n_layer=1))
    lines = []
    for part in dict.fromkeys(type(module) for module in model.modules()):
        if part.__module__ in SHOWN:
            lines += [f"class {'Rung' if part is rung else part.__name__}:"]
            names = INSIDE_RUNG if part is rung else INSIDE_PARTS
            for name in names:
                if hasattr(part, name):
                    code = [unhooked(line) for line in written_out(part, name).splitlines()]
                    lines += [f"    {line}".rstrip() for line in code if line is not None]
                    lines.append("")
    return lines


SHOWN = (__name__, Block.__module__)
INSIDE_RUNG = ("build", "make_blocks", "forward", "embed", "unembed")
INSIDE_PARTS = ("__init__", "forward", "attend", "normalize")


def unhooked(line: str) -> str | None:
    """A line of code as it would be without its hook point; None for one that is nothing else."""
    if re.match(r"\s*self\.hook_\w+ = ", line):
        return None
    line = line.partition("  # type: ignore")[0]
    plain = re.sub(r"self\.hook_\w+\((.*)\)$", r"\1", line)
    name, _, value = plain.strip().partition(" = ")
    return None if name == value else plain


def written_out(part: type, name: str) -> str:
    """A method's source without its docstring, calls of the inherited method put in their place."""
    owner = next(base for base in part.__mro__ if name in vars(base))
    code = textwrap.dedent(inspect.getsource(inspect.unwrap(vars(owner)[name])))
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    documented = ast.get_docstring(function) is not None
    lines = code.splitlines()
    body = lines[function.body[documented].lineno - 1 :]
    written = lines[: function.body[0].lineno - 1]
    above = part.__mro__[part.__mro__.index(owner) + 1 :]
    parent = next((base for base in above if name in vars(base)), nn.Module)
    for line in body:
        if f"super().{name}(" in line and parent.__module__ in SHOWN:
            inherited = written_out(parent, name).splitlines()
            start = next(i for i, text in enumerate(inherited) if text.endswith(":")) + 1
            written += [text for text in inherited[start:] if not text.startswith("    return")]
        else:
            written.append(line)
    return "\n".join(written)


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
        self.key, self.query, self.value = map(side_by_side, zip(*maps, strict=True))
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


def side_by_side(maps: Sequence[nn.Linear]) -> nn.Linear:
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
