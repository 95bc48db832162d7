"""What a page says first of a circuit."""

import pandas as pd
import pytest

from experiments.support.circuits.asking import FIND
from experiments.support.circuits.telling import strongest_edge


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
