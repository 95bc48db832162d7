"""A GPT whose every reader can be handed a stream of its own, in plain torch without hooks."""

import math

import torch
from torch.nn import functional as F

from gpt import GPT, GPTConfig

VOCAB, LENGTH = 13, 7


def random_gpt(seed=0, **size):
    """A GPT whose weights are random and large enough for every part to matter."""
    size = {"block_size": 8, "vocab_size": VOCAB, "n_layer": 3, "n_head": 2, "n_embd": 8} | size
    model = GPT(GPTConfig(**size, bias=True), seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def random_pair(batch=4, length=LENGTH, begin=2, vocab=VOCAB):
    """Clean and corrupted texts that begin alike."""
    generator = torch.Generator().manual_seed(5)
    clean = torch.randint(vocab, (batch, length), generator=generator)
    corrupted = torch.randint(vocab, (batch, length), generator=generator)
    corrupted[:, :begin] = clean[:, :begin]
    return clean, corrupted


def run_by_hand(model, tokens, readers=None, writers=None):
    """Logits, and what each writer wrote by name.

    Args:
        readers: what is added to the stream that a reader sees, by its name.
        writers: what is put in the place of what a writer wrote, by its name.
    """
    readers, put, wrote = readers or {}, writers or {}, {}
    asked = any(delta.requires_grad for delta in readers.values())

    def write(name, value):
        wrote[name] = put.get(name, value)
        return wrote[name]

    def norm(x, layer_norm):
        return F.layer_norm(x, x.shape[-1:], layer_norm.weight, layer_norm.bias)

    def one_head(linear, head, d_head):
        rows = slice(head * d_head, (head + 1) * d_head)
        return linear.weight[rows], linear.bias[rows]

    with torch.set_grad_enabled(asked):
        positions = torch.arange(tokens.shape[1])
        x = write("embed", model.wte.weight[tokens] + model.wpe.weight[positions])
        for layer, block in enumerate(model.blocks):
            attn, mlp, total, d_head = block.attn, block.mlp, x, block.attn.d_head
            future = torch.ones(len(positions), len(positions)).triu(1).bool()
            for head in range(attn.n_head):
                q, k, v = (
                    F.linear(
                        norm(x + readers.get(f"a{layer}.h{head}.{kind}", 0), block.ln1),
                        *one_head(linear, head, d_head),
                    )
                    for kind, linear in (("q", attn.query), ("k", attn.key), ("v", attn.value))
                )
                scores = q @ k.transpose(1, 2) / math.sqrt(d_head)
                pattern = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
                W_O = attn.proj.weight[:, head * d_head : (head + 1) * d_head]
                total = total + write(f"a{layer}.h{head}", F.linear(pattern @ v, W_O))
            x = total + attn.proj.bias
            hidden = F.linear(
                norm(x + readers.get(f"m{layer}", 0), block.ln2), *mlp.fc.parameters()
            )
            x = x + write(f"m{layer}", F.linear(F.gelu(hidden), *mlp.proj.parameters()))
        return norm(x + readers.get("logits", 0), model.ln_final) @ model.lm_head.weight.T, wrote


def gap(logits, tokens):
    """How much more likely than one token another is, at the last position."""
    return logits[:, -1, 3] - logits[:, -1, 5]


def loss_of(logits, tokens):
    """The mean loss of a text: it reads all positions."""
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)


def open_by_hand(model, into, other, edges, metric, metric_tokens):
    """Each edge in a run of its own, [edge batch]."""
    wrote, theirs = run_by_hand(model, into)[1], run_by_hand(model, other)[1]
    found = []
    for edge in map(str, edges):
        writer, reader = edge.split(" -> ")
        logits, _ = run_by_hand(model, into, {reader: theirs[writer] - wrote[writer]})
        found.append(metric(logits, metric_tokens))
    return torch.stack(found)


def gradients_by_hand(model, into, other, edges, metric, metric_tokens, embedded=None):
    """Each edge's delta times the gradient at a stream that its reader alone sees, [edge batch].

    Args:
        embedded: what is put in the place of the embeddings when the gradient is taken.
    """
    wrote, theirs = run_by_hand(model, into)[1], run_by_hand(model, other)[1]
    ends = [str(edge).split(" -> ") for edge in edges]
    zeros = torch.zeros_like(wrote["embed"])
    seen = {reader: zeros.clone().requires_grad_() for _, reader in ends}
    writers = {} if embedded is None else {"embed": embedded}
    total = metric(run_by_hand(model, into, seen, writers)[0], metric_tokens).sum()
    found = dict(zip(seen, torch.autograd.grad(total, [*seen.values()]), strict=True))
    return torch.stack(
        [((theirs[w] - wrote[w]) * found[reader]).sum(dim=(1, 2)) for w, reader in ends]
    )


def direct_by_hand(model, into, other, paths, metric, metric_tokens):
    """Each edge, or path, whose last reader's answer alone goes to the logits, [path batch]."""
    wrote, theirs = run_by_hand(model, into)[1], run_by_hand(model, other)[1]
    found = []
    for path in map(str, paths):
        first, *nodes = path.split(" -> ")
        delta = theirs[first] - wrote[first]
        for node in nodes:
            if node != "logits":
                name = node if node.startswith("m") else node.rpartition(".")[0]
                delta = run_by_hand(model, into, {node: delta})[1][name] - wrote[name]
        logits, _ = run_by_hand(model, into, {"logits": delta})
        found.append(metric(logits, metric_tokens))
    return torch.stack(found)


def circuit_by_hand(model, clean, kept, rest, metric):
    """The whole model again for every reader, each on a stream of its own, in their order.

    Args:
        kept: edges as they are written.
        rest: what replaces each writer, by its name.
    """
    heads, wrote = model.config.n_head, dict(run_by_hand(model, clean)[1])
    names = list(wrote)  # in the order in which they are written
    readers = {name: [name] if name.startswith("m") else [] for name in names}
    readers |= {name: [f"{name}.{kind}" for kind in "qkv"] for name in names if "." in name}
    assert len(names) == 1 + len(model.blocks) * (heads + 1)
    now = {}

    def delta(reader):
        """What is added to the stream of an unchanged run, so that the reader sees its own."""
        layer = int(reader[1]) if reader != "logits" else len(model.blocks)
        before = [
            name
            for name in names
            if name == "embed"
            or int(name[1]) < layer
            or (reader.startswith("m") and name.startswith("a") and int(name[1]) == layer)
        ]
        total = 0
        for name in before:
            seen = now[name] if f"{name} -> {reader}" in kept else rest[name]
            total = total + seen - wrote[name]
        return total

    for name in names:
        if name == "embed":
            now[name] = wrote[name]
            continue
        deltas = {reader: delta(reader) for reader in readers[name]}
        now[name] = run_by_hand(model, clean, deltas)[1][name]
    return metric(run_by_hand(model, clean, {"logits": delta("logits")})[0], clean)


def two_copies():
    """A model in which two heads of the first layer do the same, and each is enough; texts on which
    they speak, others on which they are silent; and a metric: whether the answer is as it was."""
    model = random_gpt(n_layer=2, n_head=2)
    generator = torch.Generator().manual_seed(1)
    block = model.blocks[0]
    attn, half = block.attn, block.attn.d_head
    with torch.no_grad():
        for each in model.blocks:
            each.mlp.proj.weight.zero_()
            each.mlp.proj.bias.zero_()
        for each in model.blocks[1:]:
            each.attn.proj.weight.zero_()
        tokens = model.wte.weight
        tokens.mul_(0.05)
        axis = torch.randn(tokens.shape[1], generator=generator)
        tokens[:6] += axis
        tokens[6:] -= axis
        model.wpe.weight.mul_(0.05)
        block.ln1.bias.zero_()
        normed = F.layer_norm(tokens[:6], tokens.shape[1:], block.ln1.weight)
        attn.value.bias.copy_(attn.value.weight @ normed.mean(dim=0))
        for linear in (attn.query, attn.key, attn.value):
            linear.weight[half:], linear.bias[half:] = linear.weight[:half], linear.bias[:half]
        attn.proj.weight[:, :half] *= 100
        attn.proj.weight[:, half:] = attn.proj.weight[:, :half]
        clean = torch.randint(6, (12, LENGTH), generator=generator)
        own = model(clean)[:, -1].argmax(dim=1)

    def as_it_was(logits, tokens):
        return (logits[:, -1].argmax(dim=1) == own).float()

    return model, clean, clean + 6, as_it_was
