"""Does a model take the padding before a text for a part of it?

Texts of unequal length are padded to one batch. Padding behind a text is seen by none of its
tokens; padding before it is, unless the model is told of it, and every number is then about another
text.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from interp.errors import UsageError
from interp.hooking import bare, evaluating, modules_of
from interp.metrics import accuracy, loss

MASK = "attention_mask"
OF_WHOLE_TEXTS = (loss, accuracy)  # metrics that take every token for text


def check_padding(model: Any, tokens: Int[Tensor, "batch pos"] | Tensor) -> None:
    """See that a model knows padding before a text for what it is.

    It is padding where a row begins with the token that the model's tokenizer pads with; where that
    token also begins or ends texts, with two of them. The shortest such text is then run without
    it: a model that knows gives it the same logits.

    Raises:
        UsageError: it does not.
    """
    pad, _ = pad_of(model)
    if pad is None or not is_text(tokens):
        return
    leading = padding_before(model, tokens)
    row = int(leading.argmax())
    count = int(leading[row])
    if not count or agrees(model, tokens[row : row + 1], count):
        return
    raise UsageError(
        f"text {row} begins with {count} tokens of padding ({pad}), which this model takes for a "
        "part of the text: give texts of one length at a time, or a model that hands on an "
        "attention mask, such as a class with the model's hook_dict whose call is "
        "model(tokens, attention_mask=(tokens != pad).long())"
    )


def check_metric(model: Any, tokens: Int[Tensor, "batch pos"] | Tensor, metric: Any) -> None:
    """See that a mean over whole texts is not asked of texts in padding, which it would count.

    Raises:
        UsageError: it is, as the mask that the model hands on says, or its tokenizer's padding.
    """
    if metric not in OF_WHOLE_TEXTS or not is_text(tokens):
        return
    text = text_among(model, tokens)
    padding = tokens.shape[1] - text.sum(dim=1)
    row = int(padding.argmax())
    if padding[row]:
        raise UsageError(
            f"text {row} has {int(padding[row])} of its {tokens.shape[1]} tokens in padding, and "
            f"{metric.__name__} would count what is predicted there: measure with loss_at(mask), "
            "where mask [batch pos] is True at each token that a token of the same text follows"
        )


def text_among(model: Any, tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    """Which tokens are text and no padding, as far as anything says so."""
    mask = mask_handed_on(model, tokens)
    if mask is not None:
        return mask != 0
    before, after = padding_before(model, tokens), padding_before(model, tokens.flip(1))
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return (places >= before[:, None]) & (places < tokens.shape[1] - after[:, None])


def mask_handed_on(model: Any, tokens: Int[Tensor, "batch pos"]) -> Tensor | None:
    """The attention mask that a model makes of its tokens for another inside it, or that a view was
    made with for these; None where there is none."""
    is_view = hasattr(type(model), "watching")
    called = model.inner if is_view else model
    firsts = {type(module): module for module in reversed(modules_of(model))}
    takers = [module for module in modules_of(model) if firsts[type(module)] is module]
    taker = next((module for module in takers if MASK in parameters_of(module)), None)
    if taker is None:
        return None
    if taker is called:  # and gets none, where it is called with tokens alone
        known: Tensor | None = model.padding.mask_for(tokens) if is_view else None
        return known
    found: list[Tensor] = []

    def note(module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        names = dict(zip(parameters_of(module), args, strict=False)) | dict(kwargs)
        mask = names.get(MASK)
        if isinstance(mask, Tensor) and mask.shape == tokens.shape:
            found.append(mask)

    handle = taker.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with bare(model.hook_dict.values()), evaluating(model):
            model(tokens)
    finally:
        handle.remove()
    return found[0] if found else None


def parameters_of(module: nn.Module | None) -> Mapping[str, inspect.Parameter]:
    """What a module's ``forward`` takes."""
    return {} if module is None else inspect.signature(module.forward).parameters


def is_text(tokens: Tensor) -> bool:
    return tokens.ndim == 2 and not tokens.is_floating_point() and tokens.numel() > 0


def pad_of(model: Any) -> tuple[int | None, int]:
    """The token that a model's tokenizer pads with, and how many of it may begin or end a text."""
    tokenizer = getattr(model, "tokenizer", None)
    pad = getattr(tokenizer, "pad_token_id", None)
    roles = (getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "unk"))
    return pad, 1 if pad in roles else 0


def padding_before(model: Any, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch"]:
    """How many tokens of padding each row begins with; none where it is padding throughout."""
    pad, allowed = pad_of(model)
    if pad is None:
        return torch.zeros_like(tokens[:, 0])
    leading = (tokens == pad).long().cumprod(dim=1).sum(dim=1)
    return leading.where((leading > allowed) & (leading < tokens.shape[1]), 0)


def agrees(model: Any, padded: Int[Tensor, "1 pos"], count: int) -> bool:
    """Whether a text's logits are the same with the padding before it and without."""
    with bare(model.hook_dict.values()), evaluating(model):
        whole, alone = model(padded), model(padded[:, count:])
    if not isinstance(whole, Tensor) or whole.shape[1] != padded.shape[1]:
        return False
    tolerance = torch.finfo(alone.dtype).eps ** 0.5 * alone.abs().max()
    return bool((whole[:, count:] - alone).abs().max() <= tolerance)
