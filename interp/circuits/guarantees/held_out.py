"""Is a circuit that was found on some texts one on others too?

finding, judging = split_texts(clean, corrupted, answer, wrong)
clean, corrupted, answer, wrong = finding     # find the circuit on these
clean, corrupted, answer, wrong = judging     # and its faithfulness on those
"""

import torch
from torch import Tensor

from interp.errors import UsageError


def split_texts(
    *given: Tensor, share: float = 0.5, seed: int = 0
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Texts to find a circuit on, and others to judge it on.

    Texts that occur several times go to one side together, by the first tensor, so that none is on
    both sides.

    Args:
        given: clean texts, corrupted texts and whatever else there is one of for each text, such as
            the tokens of a metric; [batch ...] each.
        share: of the texts, those to find a circuit on; so many at least.
        seed: of the draw.

    Returns:
        What was given, of either side, texts in their order.

    Raises:
        UsageError: nothing given, tensors of different numbers of texts; a share that is not
            between 0 and 1; a side that is left without texts.
    """
    counts = [len(each) for each in given if each.ndim]
    if not counts or len(counts) < len(given) or len({*counts}) > 1:
        shapes = [list(each.shape) for each in given]
        raise UsageError(f"tensors of shapes {shapes} cannot be split: give one row for each text")
    if not 0 < share < 1:
        raise UsageError(f"share is {share}; it must be between 0 and 1")
    _, kinds = torch.unique(given[0].cpu(), dim=0, return_inverse=True)
    order = torch.randperm(int(kinds.max()) + 1, generator=torch.Generator().manual_seed(seed))
    sizes = torch.bincount(kinds)[order].cumsum(dim=0)
    wanted = share * counts[0] - 1e-9  # 0.1 of 30 is 3, whatever its last bit
    drawn = order[: int((sizes < wanted).sum()) + 1]
    first = torch.isin(kinds, drawn)
    if first.all():
        raise UsageError(
            f"a share of {share} of {counts[0]} texts, {len(order)} of them different, leaves none "
            "to judge on: give more texts, or a smaller share"
        )
    one, other = first.nonzero().flatten(), (~first).nonzero().flatten()
    return tuple(tuple(each[rows.to(each.device)] for each in given) for rows in (one, other))  # type: ignore[return-value]
