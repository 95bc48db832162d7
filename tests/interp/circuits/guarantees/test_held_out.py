"""No text is on both sides, and what belongs to a text stays with it."""

import pytest
import torch

from interp.circuits.guarantees.held_out import split_texts
from interp.errors import UsageError


def test_every_text_is_on_one_side_with_all_that_belongs_to_it():
    clean = torch.arange(40).view(10, 4)
    corrupted, answer = clean + 100, torch.arange(10)
    one, other = split_texts(clean, corrupted, answer, share=0.3, seed=4)
    assert len(one[0]) == 3
    assert sorted([*one[2].tolist(), *other[2].tolist()]) == list(range(10))
    for side in (one, other):
        assert torch.equal(side[0], clean[side[2]])
        assert torch.equal(side[1], side[0] + 100)
    again, _ = split_texts(clean, corrupted, answer, share=0.3, seed=4)
    assert torch.equal(again[2], one[2])
    drawn = {tuple(split_texts(clean, answer, seed=seed)[0][1].tolist()) for seed in range(5)}
    assert len(drawn) > 1


def test_a_text_that_occurs_twice_is_on_one_side():
    clean = torch.arange(6)[:, None].repeat(3, 2)
    for seed in range(5):
        (one, _), (other, _) = split_texts(clean, torch.arange(18), seed=seed)
        assert not {*one[:, 0].tolist()} & {*other[:, 0].tolist()}
        assert len(one) + len(other) == 18
        assert len(one) == 9


@pytest.mark.parametrize(
    ("given", "share", "said"),
    [
        ([], 0.5, "give one row for each text"),
        ([torch.zeros(3, 2), torch.zeros(4)], 0.5, "give one row for each text"),
        ([torch.zeros(3, 2), torch.tensor(1)], 0.5, "give one row for each text"),
        ([torch.zeros(3, 2)], 1.0, "between 0 and 1"),
        ([torch.zeros(3, 2)], 0.5, "3 texts, 1 of them different, leaves none"),
        ([torch.arange(3)[:, None]], 0.9, "leaves none"),
    ],
)
def test_what_cannot_be_split_is_refused(given, share, said):
    with pytest.raises(UsageError, match=said):
        split_texts(*given, share=share)
