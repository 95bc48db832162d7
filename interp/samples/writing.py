"""What does a model write, as it is, with a part of it cut, with a line of its code cut?

    as_it_is = write(model, "def ", 200, seeds=(0, 1))
    cut = write(model, "def ", 200, seeds=(0, 1), interventions={"blocks.0.hook_mlp_out": Zero()})
    print(as_it_is, cut, sep="\\n\\n")

Prompts and random numbers are the same under every variant (``interp.samples.draws``), and an
intervention acts at every token: the text so far is run again for each new one, and the model's own
key/value cache is used only where nothing is changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor, nn

from interp.display import table_html
from interp.errors import NoEffectError, SurgeryError, UsageError
from interp.hooking import evaluating
from interp.interventions import intervene
from interp.receipts import Receipt
from interp.samples.acting import Acted
from interp.samples.checking import check_interventions, check_numbers, is_by_position
from interp.samples.draws import Draws, choose
from interp.samples.prompts import Coder, Prompts, encoded, split_text, text_maker
from interp.samples.running import (
    CacheDiffersError,
    cache_of,
    context_of,
    last_logits,
    write_on,
    write_on_with_cache,
)
from interp.surgery.cutting.means import needs_mean
from interp.surgery.cutting.performing import perform
from interp.surgery.source.edits import Surgery

ROWS = 8  # texts that are written side by side


@dataclass(frozen=True)
class Sample:
    """What a model wrote after a prompt.

    Args:
        variant: what was done to the model; empty for the model as it is.
        prompt: as text.
        seed: of the random numbers.
        text: what was written, without the prompt.
        tokens: the same, as token ids.
        strings: what each token is called.
    """

    variant: str
    prompt: str
    seed: int
    text: str
    tokens: tuple[int, ...]
    strings: tuple[str, ...]


@dataclass(frozen=True)
class Writing:
    """Samples that were written in one way; prints as prompts and texts.

    Args:
        samples: prompt by prompt, and in each seed by seed.
        receipt: what each intervention did: ``runs`` it acted in, and ``positions``, the tokens of
            all texts, read or written, at which it did. Empty without interventions.
        cached: whether the model's key/value cache was used.
    """

    samples: tuple[Sample, ...]
    receipt: pd.DataFrame
    cached: bool

    def table(self) -> pd.DataFrame:
        """One row for each sample: ``variant prompt seed text n``, ``n`` the tokens written."""
        columns = ["variant", "prompt", "seed", "text"]
        rows = [{name: getattr(each, name) for name in columns} for each in self.samples]
        return pd.DataFrame(rows).assign(n=[len(each.tokens) for each in self.samples])

    def __str__(self) -> str:
        return "\n\n".join(
            f"{each.variant or 'as it is'}, seed {each.seed}: {each.prompt!r} …\n{each.text}"
            for each in self.samples
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table_html(self.table())


def write(
    model: nn.Module,
    prompts: Prompts,
    tokens: int = 200,
    *,
    seeds: Sequence[int] = (0,),
    temperature: float | int = 1.0,
    top_k: int | None = None,
    interventions: Mapping[Any, Any] | None = None,
    surgery: Surgery | None = None,
    variant: str = "",
    tokenizer: Coder | None = None,
    context: int | None = None,
    use_cache: bool = True,
    allow_no_effect: bool = False,
) -> Writing:
    """Let a model continue prompts, each with every seed, without dropout.

    Args:
        model: any module from tokens [batch pos] to logits, alone, first in a tuple, or as
            ``.logits``; of the last position only will do.
        prompts: a text, several, or token ids [batch pos], or a list of token ids [pos].
        tokens: how many to write.
        seeds: of the random numbers; equal seeds and prompts get equal ones under every variant.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: draw from the k likeliest tokens only.
        interventions: as ``intervene`` takes them. They act in every run at every token.
        surgery: a cut of the model's source, made while it writes.
        variant: what to call this way of writing in tables.
        tokenizer: where the model has no ``to_tokens`` of its own.
        context: how many of the last tokens the model is given; by default as many as its
            configuration says it can read, else all.
        use_cache: whether to use the key/value cache of a model that has one. It never is used
            with an intervention, a surgery, or hooks on the model.
        allow_no_effect: let a cut pass that changes nothing.

    Raises:
        UsageError: prompts that are empty, longer than the context, or text for a model that takes
            none; numbers that cannot be meant; logits that are NaN or infinite.
        InterventionError: an intervention that does not fit, or one on examples of a batch.
        NoEffectError: an intervention that was skipped in a run, or changed nothing; a surgery that
            changes no logit.
        SurgeryError: a surgery that cannot be made on the model as it stands.
    """
    check_numbers(tokens, seeds, temperature, top_k)
    asked = encoded(model, prompts, tokenizer)
    context = context or context_of(model)
    for prompt in asked:
        if context is not None and len(prompt) > context:
            raise UsageError(
                f"a prompt has {len(prompt)} tokens, and this model reads {context} at once: give "
                "a shorter one"
            )
    if surgery is not None and needs_mean(surgery):
        raise SurgeryError(
            f"{surgery.id} puts in the mean of what a line computes over texts, which is not known "
            "here: take the line's zero, or Mean(reference) at the hook point that hands it on"
        )
    changes = dict(interventions or {})
    check_interventions(changes, max(map(len, asked)) + tokens, context)
    rows_at_once = ROWS if all(map(is_by_position, changes.values())) else 1
    cached = use_cache and not changes and surgery is None and bool(cache_of(model))
    cached = cached and not has_hooks(model)
    rows = [(seed, number) for number in range(len(asked)) for seed in seeds]
    batches = batches_of(rows, asked, rows_at_once)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    written: dict[tuple[int, int], list[int]] = {}

    def write_all(with_cache: bool) -> None:
        for batch in batches:
            start = torch.tensor([asked[number] for _, number in batch], device=device)
            draws = Draws([(seed, asked[number]) for seed, number in batch])

            def pick(logits: Tensor, draws: Draws = draws) -> Int[Tensor, "row"]:
                return choose(logits, temperature, top_k, draws)

            if with_cache:
                texts = write_on_with_cache(model, start, tokens, pick, context)
            else:
                texts = write_on(model, start, tokens, pick, context, acted.after_run)
            acted.texts += len(batch)
            acted.tokens_read += len(batch) * (texts.shape[1] - 1)
            written.update(zip(batch, texts[:, start.shape[1] :].tolist(), strict=True))

    acted = Acted()
    with evaluating(model):
        try:
            with with_changes(model, changes, surgery, allow_no_effect) as receipt:
                acted.receipt = receipt
                write_all(cached)
        except CacheDiffersError:
            cached, acted = False, Acted()
            write_all(cached)
        if surgery is not None and not allow_no_effect:
            check_cut(model, surgery, asked, written, context, device)
    text_of = text_maker(model, tokenizer)
    samples = []
    for seed, number in rows:
        new = written[seed, number]
        before, text = split_text(text_of, asked[number], new)
        strings = tuple(text_of([token]) for token in new)
        samples.append(Sample(variant, before, int(seed), text, tuple(new), strings))
    return Writing(tuple(samples), acted.table(tokens), cached)


@contextmanager
def with_changes(
    model: Any, changes: Mapping[Any, Any], surgery: Surgery | None, allow_no_effect: bool
) -> Iterator[Receipt | None]:
    """Inside the block the model is as asked for; yields the receipt of its interventions."""
    with ExitStack() as stack:
        if surgery is not None:
            stack.enter_context(perform(surgery, model))
        if not changes:
            yield None
            return
        yield stack.enter_context(intervene(model, changes, allow_no_effect=allow_no_effect))


def has_hooks(model: nn.Module) -> bool:
    """Whether anybody's hook sits on the model: it may not act on what a cache holds."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def batches_of(
    rows: Sequence[tuple[int, int]], asked: Sequence[Sequence[int]], at_once: int
) -> list[list[tuple[int, int]]]:
    """Rows whose prompts are of one length, so many at a time: nothing is padded."""
    by_length: dict[int, list[tuple[int, int]]] = {}
    for seed, number in rows:
        by_length.setdefault(len(asked[number]), []).append((seed, number))
    return [
        group[start : start + at_once]
        for group in by_length.values()
        for start in range(0, len(group), at_once)
    ]


def check_cut(
    model: nn.Module,
    surgery: Surgery,
    asked: Sequence[Sequence[int]],
    written: Mapping[tuple[int, int], list[int]],
    context: int | None,
    device: torch.device,
) -> None:
    """Raise ``NoEffectError`` where a surgery changes no logit after any of the whole texts."""
    for (_, number), added in written.items():
        text = torch.tensor([[*asked[number], *added]], device=device)
        text = text if context is None else text[:, -context:]
        as_it_is = last_logits(model(text), text)
        with perform(surgery, model):
            cut = last_logits(model(text), text)
        if not torch.equal(as_it_is, cut):
            return
    raise NoEffectError(
        f"{surgery.id} changes nothing in what the model says after these texts: its line does not "
        "run then, acts in building or training only, or computes what was there before "
        "(allow_no_effect=True lets that pass)"
    )


def tables_of(writings: Sequence[Writing]) -> pd.DataFrame:
    """The samples of several ways of writing, one row each.

    Raises:
        UsageError: two of them have the same name.
    """
    names = [writing.samples[0].variant for writing in writings]
    if len(set(names)) < len(names):
        raise UsageError(
            f"the variants are called {', '.join(map(repr, names))}: give each a name, variant=…"
        )
    return pd.concat([writing.table() for writing in writings], ignore_index=True)
