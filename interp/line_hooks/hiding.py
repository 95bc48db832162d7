"""Does a view's model see of a padded text what it sees of the text alone?

An attention mask hides padding from the tokens of a text. A model that counts positions from the
batch's first token still takes a text that stands behind padding for one that begins later, and a
call without the mask takes the padding for text. Both would be numbers about another text.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import UsageError
from interp.hooking import evaluating
from interp.line_hooks.finding import changed_alike, tokens_among
from interp.logits import found_in
from interp.padding import MASK, parameters_of

PLACES = "position_ids"


@dataclass
class MaskedCall:
    """One call of the module that takes the attention mask.

    Args:
        options: what it is called with, by name.
        tokens: among these.
        mask: which tokens are text; None where all are taken for it.
    """

    options: dict[str, Any]
    tokens: Tensor
    mask: Tensor | None

    def key(self, mask: Tensor) -> tuple[Any, ...]:
        """What decides whether padding that a mask shows is hidden: never which tokens it is."""
        places = self.options.get(PLACES)
        told = [(mask != 0).cpu().numpy().tobytes()]
        told += [places.cpu().numpy().tobytes()] if isinstance(places, Tensor) else []
        return self.mask is None, *self.tokens.shape, *told


class HiddenPadding:
    """Sees that the padding of every call of a view is hidden from its texts.

    Args:
        model: the view's.
        inputs, options: what the view was made with.
    """

    def __init__(
        self, model: nn.Module, inputs: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> None:
        takers = (module for module in model.modules() if MASK in parameters_of(module))
        self.taker = next(takers, None)
        self.hidden: set[tuple[Any, ...]] = set()  # the calls that were seen to hide it
        self.made: MaskedCall | None = None
        if self.taker is model:
            self.made = masked_call(model, tuple(inputs), options or {})

    def twin(self, model: nn.Module) -> "HiddenPadding":
        """The same for a copy of the model."""
        new = HiddenPadding(model)
        new.hidden, new.made = set(self.hidden), self.made
        return new

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Sees, at the end of the block, that the calls inside it hid their padding.

        Raises:
            UsageError: one did not.
        """
        if self.taker is None:
            yield
            return
        calls: list[MaskedCall] = []
        note = partial(note_call, calls)
        handle = self.taker.register_forward_pre_hook(note, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
        for call in calls:
            self.check(call)

    def check(self, call: MaskedCall) -> None:
        """Sees that texts which stand in padding have the logits that they have alone."""
        mask = self.known_mask(call) if call.mask is None else call.mask
        if mask is None or bool((mask != 0).all()) or call.key(mask) in self.hidden:
            return
        for row in padded_rows(mask != 0):
            text = (mask[row] != 0).nonzero()[:, 0]
            start, end = int(text[0]), int(text[-1]) + 1
            if not self.agrees(call, row, slice(start, end)):
                raise UsageError(self.why_seen(call, row, start, mask.shape[1] - end))
        self.hidden.add(call.key(mask))

    def known_mask(self, call: MaskedCall) -> Tensor | None:
        """Where a call without a mask has texts that the view was made with: the mask of these."""
        made = self.made
        if made is None or made.mask is None or made.tokens.shape[1] != call.tokens.shape[1]:
            return None
        same = (call.tokens[:, None] == made.tokens.to(call.tokens.device)).all(-1)
        if not same.any():
            return None
        rows = made.mask.to(same.device)[same.long().argmax(1)]
        return rows.where(same.any(1, keepdim=True), torch.ones_like(rows))

    def mask_for(self, tokens: Tensor) -> Tensor | None:
        """The mask of texts that the view was made with; None of others."""
        return self.known_mask(MaskedCall({}, tokens, None))

    def agrees(self, call: MaskedCall, row: int, text: slice) -> bool:
        """Whether a text in its padding has the logits of the text alone."""
        module = self.taker
        assert module is not None
        parameters = parameters_of(module)
        _, whole = changed_alike((), call.options, lambda x: x[row : row + 1])
        _, alone = changed_alike((), call.options, lambda x: x[row : row + 1, text])
        if PLACES in parameters and parameters[PLACES].default is not inspect.Parameter.empty:
            alone = {name: value for name, value in alone.items() if name != PLACES}
        with evaluating(module), torch.no_grad():
            one, other = (module(**each) for each in (whole, alone))
        if not isinstance(one, Tensor):
            one, other = found_in(one), found_in(other)
        if one.shape[:2] == (1, call.tokens.shape[1]):  # else one answer for each text
            one = one[:, text]
        if one.shape != other.shape:
            return False
        tolerance = torch.finfo(other.dtype).eps ** 0.5 * other.abs().max()
        return bool((one - other).abs().max() <= tolerance)

    def why_seen(self, call: MaskedCall, row: int, before: int, after: int) -> str:
        """A sentence on padding that is taken for text."""
        sides = [f"{n} {side} it" for n, side in ((before, "before"), (after, "after")) if n]
        told = f"text {row} has padding, {' and '.join(sides)}, and "
        if call.mask is None:
            return (
                f"{told}this call is without the attention_mask that the view was made with: give "
                "attention_mask=; for a sweep, view a class whose forward makes the mask of its "
                "tokens"
            )
        told += "other logits than the text alone although attention_mask hides that"
        if PLACES in parameters_of(self.taker) and call.options.get(PLACES) is None:
            return (
                f"{told}: the model counts positions from the padding on; give "
                "position_ids=(attention_mask.cumsum(-1) - 1).clamp(min=0) too"
            )
        return f"{told}: give texts of one length at a time"


def note_call(calls: list[MaskedCall], module: nn.Module, args: Any, kwargs: Any) -> None:
    """Keeps a call, where a mask may be in it."""
    call = masked_call(module, args, kwargs)
    if call is not None:
        calls.append(call)


def masked_call(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> MaskedCall | None:
    """A call with every argument under its name; None where no mask of its tokens can be in it."""
    names = [
        name
        for name, each in parameters_of(module).items()
        if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    if len(args) > len(names):
        return None
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    # a cache is the caller's: what is run again must not write into it
    options = {name: each for name, each in given.items() if not hasattr(each, "get_seq_length")}
    tokens, mask = tokens_among((), options), options.get(MASK)
    if tokens is None:
        return None
    if mask is not None and (not isinstance(mask, Tensor) or mask.shape != tokens.shape):
        return None  # of scores, or of what was run before too
    return MaskedCall(options, tokens, mask)


def padded_rows(text: Tensor) -> list[int]:
    """The texts with the most padding before and after them, of those that stand in one piece.

    Args:
        text: which tokens are text, [batch pos].
    """
    starts, ends = text.long().argmax(1), text.shape[1] - text.flip(1).long().argmax(1)
    whole = (text.sum(1) == ends - starts) & text.any(1)
    found = []
    for size in (starts, text.shape[1] - ends):
        size = size.where(whole, torch.zeros_like(size))
        row = int(size.argmax())
        if size[row] > 0 and row not in found:
            found.append(row)
    return found
