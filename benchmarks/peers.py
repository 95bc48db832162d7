"""One model under every tool, and what each is asked: the metric of each of a workload's cells."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformer_lens import patching
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gpt import GPT
from gpt.foreign import from_huggingface
from interp.caching import cache
from interp.hooking import evaluating
from interp.interventions import Patch, Zero, intervene
from interp.metrics import logit_difference
from interp.site import Site
from interp.sweep import effects_of

METRIC = logit_difference(answer=3, wrong=5)


@dataclass(frozen=True)
class Workload:
    """Cells, each answered by every candidate: hook point, layer, and the head or position."""

    name: str
    part: str
    cells: list[tuple[int, int]]
    tokens: Tensor
    clean: Tensor
    metric: Callable[[Tensor, Tensor], Tensor]

    @property
    def hook(self) -> str:
        return "attn.hook_z" if self.part == "head" else "hook_resid_pre"

    def site(self, cell: tuple[int, int]) -> Site:
        name = f"blocks.{cell[0]}.{self.hook}"
        return Site(name, head=cell[1]) if self.part == "head" else Site(name, pos=cell[1])


class Peers:
    """One model, under every tool."""

    def __init__(self, config: GPT2Config, device: str, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        self.theirs = GPT2LMHeadModel(config).eval()
        with torch.no_grad():
            for weight in self.theirs.parameters():  # large enough for every part to matter
                weight += 0.02 * torch.randn(weight.shape)
        self.ours: GPT = from_huggingface(self.theirs).to(device, dtype)
        self.theirs.to(device, dtype)
        twin = GPT2LMHeadModel(config).eval()
        twin.load_state_dict(self.theirs.state_dict())
        self.bridge = bridge_over(twin.to(device, dtype))
        from nnsight import LanguageModel  # late: imported before beartype it breaks beartype

        self.wrapped = LanguageModel(self.theirs, tokenizer=numbered(config.vocab_size))
        self.heads = config.n_head
        self.device = device

    def transformer_lens(self, work: Workload, cells: list[tuple[int, int]]) -> Tensor:

        def measure(logits: Tensor) -> Tensor:
            return work.metric(logits, work.clean).mean()

        with torch.no_grad():
            if work.name == "head ablation":
                return torch.stack(
                    [self.zeroed(layer, head, work, measure) for layer, head in cells]
                )
            _, kept = self.bridge.run_with_cache(work.clean)
            generic, setter = {
                "pos": ("resid_pre", patching.layer_pos_patch_setter),
                "head": ("z", patching.layer_head_vector_patch_setter),
            }[work.part]
            index = pd.DataFrame(cells, columns=["layer", work.part])
            return patching.generic_activation_patch(
                self.bridge, work.tokens, kept, measure, setter, generic, index_df=index
            )

    def zeroed(self, layer: int, head: int, work: Workload, measure: Callable) -> Tensor:
        def zero(z: Tensor, hook: Any) -> Tensor:
            z[:, :, head] = 0
            return z

        hooks = [(f"blocks.{layer}.attn.hook_z", zero)]
        return measure(self.bridge.run_with_hooks(work.tokens, fwd_hooks=hooks))

    def torch_hooks(self, work: Workload, cells: list[tuple[int, int]]) -> Tensor:
        blocks = self.theirs.transformer.h
        kept: dict[int, Tensor] = {}
        modules = [block.attn.c_proj if work.part == "head" else block for block in blocks]
        with torch.no_grad():
            handles = [
                module.register_forward_pre_hook(
                    lambda _, args, layer=layer: kept.update({layer: args[0].clone()})
                )
                for layer, module in enumerate(modules)
            ]
            self.theirs(work.clean)
            for handle in handles:
                handle.remove()
            values = []
            for layer, number in cells:

                def edit(_: Any, args: tuple, layer: int = layer, number: int = number) -> tuple:
                    part = self.part_of(work, number, args[0])
                    value = args[0].clone()
                    value[part] = 0 if work.name == "head ablation" else kept[layer][part]
                    return (value, *args[1:])

                handle = modules[layer].register_forward_pre_hook(edit)
                values.append(work.metric(self.theirs(work.tokens).logits, work.clean).mean())
                handle.remove()
        return torch.stack(values)

    def part_of(self, work: Workload, number: int, value: Tensor) -> tuple[slice, ...]:
        if work.part == "pos":
            return slice(None), slice(number, number + 1)
        width = value.shape[2] // self.heads
        return slice(None), slice(None), slice(number * width, (number + 1) * width)

    def nnsight(self, work: Workload, cells: list[tuple[int, int]], several: bool) -> Tensor:
        """One trace per cell, or all cells of a layer as invokes of one trace."""
        wrapped = self.wrapped
        heads = work.part == "head"
        values: list[Tensor] = []
        with torch.no_grad():
            kept = []
            if work.name != "head ablation":
                with wrapped.trace(work.clean):
                    for block in wrapped.transformer.h:
                        module = block.attn.c_proj if heads else block
                        kept.append(module.input.clone().save())
            step = 8 if several else 1
            for begin in range(0, len(cells), step):
                found = []
                with wrapped.trace() as tracer:
                    for layer, number in cells[begin : begin + step]:
                        with tracer.invoke(work.tokens):
                            block = wrapped.transformer.h[layer]
                            module = block.attn.c_proj if heads else block
                            value = module.input.clone()
                            part = self.part_of(work, number, work_shape(self.theirs, work))
                            value[part] = 0 if work.name == "head ablation" else kept[layer][part]
                            module.input = value
                            logits = wrapped.lm_head.output
                            found.append(work.metric(logits, work.clean).mean().save())
                values += found
        return torch.stack(values)

    def our_loop(self, work: Workload, cells: list[tuple[int, int]]) -> Tensor:
        values = []
        with evaluating(self.ours):
            kept = cache(self.ours, work.clean, f"blocks.*.{work.hook}")
            what = Zero() if work.name == "head ablation" else Patch(kept)
            for cell in cells:
                with intervene(self.ours, {work.site(cell): what}, allow_no_effect=True):
                    values.append(work.metric(self.ours(work.tokens), work.clean).mean())
        return torch.stack(values)

    def questions(self, work: Workload) -> list[tuple[Site, Any]]:
        if work.name == "head ablation":
            return [(work.site(cell), Zero()) for cell in work.cells]
        kept = cache(self.ours, work.clean, f"blocks.*.{work.hook}")
        return [(work.site(cell), Patch(kept)) for cell in work.cells]

    def tools(self, work: Workload, cells: list[tuple[int, int]]) -> dict[str, Callable[[], Any]]:
        """What asks each tool for the metric of each cell; ours answers all cells of ``work``."""
        return {
            "TransformerLens": partial(self.transformer_lens, work, cells),
            "torch hooks": partial(self.torch_hooks, work, cells),
            "nnsight": partial(self.nnsight, work, cells, False),
            "nnsight, invokes": partial(self.nnsight, work, cells, True),
            "our loop": partial(self.our_loop, work, cells),
            "interp.sweep": partial(self.our_sweep, work),
        }

    def our_sweep(self, work: Workload) -> np.ndarray:
        effects = effects_of(
            self.ours,
            work.tokens,
            self.questions(work),
            work.metric,
            metric_tokens=work.clean,
            progress=False,
        )
        return effects.values.mean(axis=1)


def work_shape(model: GPT2LMHeadModel, work: Workload) -> Tensor:
    return torch.empty(*work.tokens.shape, model.config.n_embd, device="meta")


def numbered(vocab: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are numbers."""
    numbers = {str(i): i for i in range(vocab)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(numbers, unk_token="0")),
        **dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "0"),
        name_or_path="none",
        add_bos_token=True,
    )


def bridge_over(gpt2: GPT2LMHeadModel) -> TransformerBridge:
    tokenizer = numbered(gpt2.config.vocab_size)
    return TransformerBridge.boot_transformers("gpt2", hf_model=gpt2, tokenizer=tokenizer)
