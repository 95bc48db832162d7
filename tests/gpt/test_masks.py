import pytest
import torch
from torch.nn import functional as F

from gpt.masks import quick_masks


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_mask_is_one_as_often_as_asked(p):
    torch.manual_seed(0)
    n = 400_003  # not a multiple of four
    with quick_masks():
        mask = torch.empty(n).bernoulli_(p)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert abs(mask.mean().item() - p) <= 4 * (p * (1 - p) / n) ** 0.5


def test_neighbours_that_share_a_draw_are_independent():
    torch.manual_seed(0)
    with quick_masks():
        fours = torch.empty(200_000, 4).bernoulli_(0.5)
    together = torch.corrcoef(fours.T) - torch.eye(4)
    assert together.abs().max() < 5 / 200_000**0.5


def test_dropout_scales_what_it_keeps_and_follows_the_seed():
    x = torch.ones(64, 64, dtype=torch.bfloat16)

    def dropped(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with quick_masks():
            return F.dropout(x, 0.2)

    assert set(dropped(0).unique().tolist()) == {0.0, 1.25}
    assert torch.equal(dropped(0), dropped(0))
    assert not torch.equal(dropped(0), dropped(1))


def test_attention_drops_weights_by_the_same_masks():
    """One query, keys whose values are one-hot: what comes out is the dropped pattern."""
    torch.manual_seed(0)
    q, k = torch.zeros(2000, 1, 1, 8), torch.zeros(2000, 1, 8, 8)
    v = torch.eye(8).expand(2000, 1, 8, 8)
    with quick_masks():
        z = F.scaled_dot_product_attention(q, k, v, dropout_p=0.25)
    assert sorted(z.unique().tolist()) == pytest.approx([0, 1 / 8 / 0.75])
    assert abs((z == 0).float().mean().item() - 0.25) < 0.02
