"""Which parts of a patched model carry the answer, told so that thirty layers can be read too?

carriers(run.table())       # the heads that are looked at
"""

import itertools

import numpy as np
import pandas as pd

from interp.characters import mark_spaces
from interp.verdicts import Verdict, verdict_of, verdict_words, verdicts_of

FEW_LAYERS = 6  # of which each can be told by itself
HEADS_SHOWN = 4  # of a model with more


def carriers(table: pd.DataFrame) -> list[tuple[int, int]]:
    """In each layer the head whose output restores most; of many layers, those of the few heads
    that restore most of all."""
    heads = table[table["component"] == "z"].sort_values("recovered", ascending=False)
    best = heads.drop_duplicates("layer")
    if best["layer"].nunique() > FEW_LAYERS:
        best = heads.head(HEADS_SHOWN)
    best = best.sort_values(["layer", "head"])
    return [
        (int(layer), int(head)) for layer, head in zip(best["layer"], best["head"], strict=True)
    ]


def strongest_head(table: pd.DataFrame) -> tuple[int, int]:
    """The head of the last layer shown that restores most; of many layers, of all."""
    heads = carriers(table)
    if table["layer"].nunique() <= FEW_LAYERS:
        return heads[-1]
    top = table[table["component"] == "z"].nlargest(1, "recovered").iloc[0]
    return int(top["layer"]), int(top["head"])


def held_where(stream: pd.Series, positions: pd.DataFrame) -> str:
    """Where the residual stream holds most, layer by layer; neighbours with the same place are told
    together, by the one that holds most."""
    best = [(int(layer), int(stream[layer].idxmax())) for layer in stream.index.unique("layer")]
    told = []
    for pos, group in itertools.groupby(best, key=lambda each: each[1]):
        layers = [layer for layer, _ in group]
        top = max(layers, key=lambda layer: stream[layer, pos])
        which = f"layer {layers[0]}"
        held = f"{stream[top, pos]:.2f}"
        if len(layers) > 1:
            which = f"layers {layers[0]} to {layers[-1]}"
            held += f" in layer {top}"
        told.append(f"{which}, position {pos} ({mark_spaces(positions['clean'][pos])}, {held})")
    return "; ".join(told)


def best_of(rows: pd.DataFrame) -> str:
    shown = rows[[verdict.is_effect for verdict in verdicts_of(rows)]]
    top = (shown if len(shown) else rows).nlargest(1, "recovered").iloc[0]
    interval = (
        f", 95 % interval {top['recovered_low']:.2f} to {top['recovered_high']:.2f}"
        if np.isfinite(top["recovered_low"])
        else f", {top['n']} pair{'s' if top['n'] > 1 else ''}, no interval from fewer than three"
    )
    verdict = verdict_of(top.to_dict())
    doubt = f"; {verdict_words(top.to_dict())}" if verdict is Verdict.NOT_SHOWN else ""
    return f"{top['site']} ({top['recovered']:.2f}{interval}{doubt})"
