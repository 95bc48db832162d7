"""What a page says first of a circuit."""

import pandas as pd
import pytest

from experiments.support.circuits.asking import BOTH, FIND
from experiments.support.circuits.telling import strongest_edge, what_it_misses, what_it_needs


class TablesOfRun:
    """A run's tables, and nothing else."""

    def __init__(self, deltas: dict[str, float]) -> None:
        self.effects = pd.concat(
            pd.DataFrame(
                {
                    "edge": list(deltas),
                    "delta": list(deltas.values()),
                    "ci_low": [delta - 0.1 for delta in deltas.values()],
                    "ci_high": [delta + 0.1 for delta in deltas.values()],
                    "p_adjusted": 0.01,
                    "n": 8,
                    "why": "all are",
                    "metric": "logit_difference",
                    "from_head": [0.0 if edge[0] == "a" else None for edge in deltas],
                    "head": [1.0 if edge[-2] == "." else None for edge in deltas],
                    "meaning": meaning,
                }
            )
            for meaning in ("open", "direct")
        )

    def table(self, name: str = "results") -> pd.DataFrame:
        if name == "pairs":
            return pd.DataFrame({"clean_value": [6.0], "corrupted_value": [-4.0], "use": [FIND]})
        return self.effects


@pytest.mark.parametrize(
    ("deltas", "said"),
    [
        ({"embed -> m0": -9, "a0.h0 -> a1.h1.k": -2}, "a0.h0 → a1.h1.k carries most between heads"),
        ({"a0.h0 -> a1.h1.k": -0.5, "a1.h0 -> logits": -2}, "a1.h0 → logits carries most out of"),
        ({"embed -> m0": -9, "m0 -> logits": -3}, "embed → m0 carries most of all edges"),
        ({"a0.h0 -> a1.h1.k": 4, "a1.h0 -> logits": -2}, "a1.h0 → logits carries most out of"),
    ],
)
def test_an_edge_between_heads_leads_where_it_carries_a_tenth(deltas, said):
    told = strongest_edge(TablesOfRun(deltas))
    assert told.startswith(said)
    assert ("of all edges it is embed → m0" in told) == ("embed -> m0" in deltas and "a" in said[0])


class OfFewPairs:
    """The tables on a circuit that was judged on so many pairs."""

    def __init__(self, count: int) -> None:
        self.count = count

    def table(self, name: str) -> pd.DataFrame:
        verdict = {"minimality": "needed", "completeness": "differ"}.get(name, "")
        row = {"edge": "embed -> m0", "without": "a0", "circuit": 0.8, "model": 0.7, "delta": 0.2}
        row |= {"ci_low": None, "ci_high": None, "p_adjusted": None, "n": self.count}
        row |= {"verdict": verdict if self.count >= 3 else "not known", "use": BOTH}
        return pd.DataFrame([row] * 2)


def test_of_too_few_pairs_it_is_not_said_that_nothing_is_shown():
    one, three = OfFewPairs(1), OfFewPairs(3)
    assert "1 pair, too few to show which of the circuit's 2 edges" in what_it_needs(one)
    assert "3 pairs, 2 of the circuit's 2 edges are shown to be needed" in what_it_needs(three)
    assert "1 pair cannot show which of 2 cuts leave them different" in what_it_misses(one)
    assert "2 of 2 cuts are shown to leave them different" in what_it_misses(three)
