"""Tables of edges as ``edge_effects`` returns them, made up or real."""

import numpy as np
import pandas as pd

from interp.circuits import edge_effects
from tests.interp.circuits.by_hand import gap, random_gpt, random_pair


def made_table(graph, seed=0, sure=0.3):
    """A table as of ``edge_effects``, its numbers drawn at random; some effects show."""
    draw = np.random.default_rng(seed)
    rows = []
    for edge in graph.edges:
        delta = float(draw.normal())
        rows.append(
            {
                "edge": str(edge),
                "writer": str(edge.writer),
                "reader": str(edge.reader),
                "meaning": "open",
                "direction": "corrupted into clean",
                "kind": edge.reader.kind,
                "layer": edge.reader.layer,
                "head": edge.reader.head,
                "from_layer": edge.writer.layer,
                "from_head": edge.writer.head,
                "metric": "logit_difference",
                "delta": delta,
                "ci_low": delta - 0.01,
                "ci_high": delta + 0.01,
                "p_adjusted": 0.001 if draw.random() < sure else 0.5,
                "n": 24,
                "file": "model.py",
                "line": 10,
                "code": "x = x + attn_out",
                "reader_file": "model.py",
                "reader_line": 20,
                "reader_code": "q = self.query(x)",
            }
        )
    numbers = ["layer", "head", "from_layer", "from_head"]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, "Int64"))


def real_table():
    """Both meanings of every edge of a small GPT; a quarter of the effects show."""
    clean, corrupted = random_pair()
    model = random_gpt(n_layer=2)
    found = [
        edge_effects(model, clean, corrupted, gap, meaning=meaning, progress=False)
        for meaning in ("open", "direct")
    ]
    table = pd.concat(found, ignore_index=True)
    low, high = table["delta"] - 0.001, table["delta"] + 0.001
    sure = np.where(np.arange(len(table)) % 4 == 0, 0.01, 1.0)
    return table.assign(ci_low=low, ci_high=high, p_adjusted=sure)
