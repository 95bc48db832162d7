"""Does a model take the padding before a text for a part of it?

Texts of unequal length are padded to one batch. Padding behind a text is seen by none of its
tokens; padding before it is, unless the model is told of it, and every number is then about another
text.
"""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import UsageError
from interp.hooking import bare, evaluating


def check_padding(model: Any, tokens: Int[Tensor, "batch pos"] | Tensor) -> None:
    """See that a model knows padding before a text for what it is.

    It is padding where a row begins with the token that the model's tokenizer pads with; where that
    token also begins or ends texts, with two of them. The shortest such text is then run without
    it: a model that knows gives it the same logits.

    Raises:
        UsageError: it does not.
    """
    tokenizer = getattr(model, "tokenizer", None)
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None or tokens.ndim != 2 or tokens.is_floating_point() or not tokens.numel():
        return
    roles = (getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "unk"))
    allowed = 1 if pad in roles else 0
    leading = (tokens == pad).long().cumprod(dim=1).sum(dim=1)
    leading = leading.where(leading < tokens.shape[1], 0)
    row = int(leading.argmax())
    count = int(leading[row])
    if count <= allowed or agrees(model, tokens[row : row + 1], count):
        return
    raise UsageError(
        f"text {row} begins with {count} tokens of padding ({pad}), which this model takes for a "
        "part of the text: give texts of one length at a time, or a model that hands on an "
        "attention mask, such as a class with the model's hook_dict whose call is "
        "model(tokens, attention_mask=(tokens != pad).long())"
    )


def agrees(model: Any, padded: Int[Tensor, "1 pos"], count: int) -> bool:
    """Whether a text's logits are the same with the padding before it and without."""
    with bare(model.hook_dict.values()), evaluating(model):
        whole, alone = model(padded), model(padded[:, count:])
    if not isinstance(whole, Tensor) or whole.shape[1] != padded.shape[1]:
        return False
    tolerance = torch.finfo(alone.dtype).eps ** 0.5 * alone.abs().max()
    return bool((whole[:, count:] - alone).abs().max() <= tolerance)
