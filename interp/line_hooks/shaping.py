"""How is a value shown whose axes a line keeps in one: texts with positions, or with heads?

OPT's MLP runs on [batch*pos d_model], XGLM's pattern is [batch*head pos key], and many a z is
[batch pos head*d_head]. Hooks see each with its axes apart, and what they return is put back.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens.conversion_utils.conversion_steps.base_tensor_conversion import (
    BaseTensorConversion,
)

from interp.errors import UsageError
from interp.line_hooks.bench import Bench, is_close
from interp.line_hooks.finding import FoundValue, axes_seen, in_other_sizes, tokens_among


class AxesApart(BaseTensorConversion):
    """Shows axes apart that a value holds in one.

    Args:
        texts: whose last number is that of the texts that the model runs on just now, where the
            first axis holds them with another; None where it does not.
        heads: how many the last axis holds; None where it holds none.
    """

    def __init__(self, texts: list[int] | None, heads: int | None = None) -> None:
        super().__init__()
        self.texts = texts
        self.heads = heads

    def handle_conversion(self, input_value: Tensor, *_: Any) -> Tensor:
        if self.texts is not None:
            input_value = texts_first(input_value, self.texts[-1] if self.texts else 0)
        return input_value.unflatten(-1, (self.heads, -1)) if self.heads else input_value

    def revert(self, input_value: Tensor, *_: Any) -> Tensor:
        value = input_value.flatten(-2) if self.heads else input_value
        return value if self.texts is None else value.flatten(0, 1)


def texts_first(value: Tensor, texts: int) -> Tensor:
    """A value whose first axis holds texts with another, with the two apart.

    Raises:
        UsageError: it does not hold as many of each text.
    """
    if not texts or len(value) % texts:
        raise UsageError(
            f"a value of {len(value)} rows does not hold as many of each of {texts} texts, as it "
            "did in the run that found it"
        )
    return value.unflatten(0, (texts, -1))


@contextmanager
def noting_texts(modules: Iterable[nn.Module], texts: list[int]) -> Iterator[None]:
    """Inside the block, ``texts`` ends with the number of texts that these modules run on."""

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        held = (x for x in given if x.ndim == 2 + x.is_floating_point())
        texts.append(len(next(held, torch.empty(0))))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        texts.pop()

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


def part_texts(
    model: nn.Module,
    found: Collection[FoundValue],
    inputs: Sequence[Any],
    options: Mapping[str, Any],
) -> None:
    """Notes which values hold texts with positions, or with heads, in their first axis: those that
    grow by as much with each text, and to which a text adds its rows at the end."""
    tokens = tokens_among(inputs, options)
    if tokens is None:
        return
    candidates = [each for each in found if may_hold_texts(each, *tokens.shape)]
    if not candidates:
        return
    bench = Bench(model, candidates)
    more = in_other_sizes(inputs, options)[0]
    with bench.set_up(), torch.no_grad():
        before, _ = bench.record(lambda: model(*inputs, **options), {})
        after, _ = bench.record(lambda: model(*more[0], **more[1]), {})
    for each in candidates:
        value, longer = before.get(each.origin), after.get(each.origin)
        if value is None or longer is None or each.origin in bench.again:
            continue
        size = len(value) // len(tokens)  # the text that was added is the first once more
        if is_close(longer[: len(value)], value) and is_close(longer[-size:], value[:size]):
            each.holds_texts = True
            shapes = [each.shape, *each.others]
            counts = (len(tokens), len(tokens) + 1, len(tokens))
            each.shape, *others = (
                (count, shape[0] // count, *shape[1:])
                for shape, count in zip(shapes, counts, strict=True)
            )
            each.axes = axes_seen(each.shape, others)


def may_hold_texts(value: FoundValue, texts: int, positions: int) -> bool:
    """Whether the sizes of a value are those of one whose first axis holds texts with positions, or
    with an axis that is as long whatever the text."""
    if (
        not value.shape
        or len(value.others) != 2
        or any(len(each) != len(value.shape) for each in value.others)
    ):
        return False
    (size, *_), (more, *_), (shorter, *_) = value.shape, *value.others
    each, rest = divmod(size, texts)
    if rest or each < 2 or more != (texts + 1) * each:
        return False
    return shorter == size or (each == positions and shorter == texts * (positions - 1))
