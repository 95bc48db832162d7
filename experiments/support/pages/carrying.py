"""Which parts of a patched model carry the answer, told so that thirty layers can be read too?

carriers(run.table())       # the heads that are looked at
"""

import itertools

import numpy as np
import pandas as pd

from interp.characters import mark_spaces
from interp.verdicts import Verdict, too_few, verdict_of, verdict_words, verdicts_of

FEW_LAYERS = 6  # of which each can be told by itself
HEADS_SHOWN = 4  # of a model with more


def restoring(rows: pd.DataFrame) -> pd.DataFrame:
    """The cells that are shown to restore some of the answer, most first; of too few pairs to show
    anything, all that restored some."""
    verdicts = verdicts_of(rows)
    shown = rows[[each.is_effect or each is Verdict.UNKNOWN for each in verdicts]]
    return shown[shown["recovered"] > 0].sort_values("recovered", ascending=False, kind="stable")


def carriers(table: pd.DataFrame) -> list[tuple[int, int]]:
    """In each layer the head whose output restores most; of many layers, those of the few heads
    that restore most of all. Those that are shown to come before all others."""
    heads = heads_in_order(table)
    best = heads.drop_duplicates("layer")
    if best["layer"].nunique() > FEW_LAYERS:
        best = heads.head(HEADS_SHOWN)
    best = best.sort_values(["layer", "head"])
    return [
        (int(layer), int(head)) for layer, head in zip(best["layer"], best["head"], strict=True)
    ]


def heads_in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The heads' outputs, those that are shown to restore something first, most first."""
    heads = table[table["component"] == "z"].sort_values("recovered", ascending=False)
    shown = restoring(heads)
    return pd.concat([shown, heads.drop(index=shown.index)])


def strongest_head(table: pd.DataFrame) -> tuple[int, int]:
    """The head of the last layer shown that restores most; of many layers, of all."""
    if table["layer"].nunique() <= FEW_LAYERS:
        return carriers(table)[-1]
    top = heads_in_order(table).iloc[0]
    return int(top["layer"]), int(top["head"])


def held_where(stream: pd.DataFrame, positions: pd.DataFrame) -> str:
    """Where the residual stream is shown to hold most, layer by layer; neighbours with the same
    place are told together, by the one that holds most.

    Args:
        stream: the cells of what enters the layers, with ``layer pos recovered`` and what their
            verdicts are made of.
        positions: the tokens of the first clean text.
    """
    held, best = restoring(stream).drop_duplicates("layer").set_index("layer"), []
    for layer in stream["layer"].unique():
        best.append((int(layer), int(held["pos"][layer]) if layer in held.index else None))
    told = []
    for pos, group in itertools.groupby(best, key=lambda each: each[1]):
        layers = [layer for layer, _ in group]
        which = f"layer {layers[0]}"
        if len(layers) > 1:
            which = f"layers {layers[0]} to {layers[-1]}"
        if pos is None:
            told.append(f"{which}, no position that is shown to hold any")
            continue
        top = layers[int(held["recovered"][layers].argmax())]
        share = f"{held['recovered'][top]:.2f}" + (f" in layer {top}" if len(layers) > 1 else "")
        told.append(f"{which}, position {pos} ({mark_spaces(positions['clean'][pos])}, {share})")
    return "; ".join(told)


def most_of(what: str, rows: pd.DataFrame) -> str:
    """Which of some cells restores most, of those that are shown to restore any of the answer."""
    shown = restoring(rows)
    if len(shown):
        return f"Of {what}, {told_cell(shown.iloc[0])} restores most."
    top = told_cell(rows.nlargest(1, "recovered").iloc[0])
    return f"None of {what} is shown to restore any of it; the most is that of {top}."


def told_cell(cell: pd.Series) -> str:
    """A cell's name, with what it restored and its interval."""
    row = cell.to_dict()
    interval = (
        f", 95 % interval {row['recovered_low']:.2f} to {row['recovered_high']:.2f}"
        if np.isfinite(row["recovered_low"])
        else f", {row['n']} pair{'s' * (row['n'] > 1)}, no interval from fewer than three"
    )
    doubt = f"; {verdict_words(row)}" if verdict_of(row) is Verdict.NOT_SHOWN else ""
    return f"{row['site']} ({row['recovered']:.2f}{interval}{doubt})"


def heads_reading(table: pd.DataFrame) -> list[str]:
    """Which heads restore most: of each layer one, of many layers the few of all."""
    heads = table[table["component"] == "z"]
    if heads["layer"].nunique() <= FEW_LAYERS:
        layers = heads.groupby("layer")
        return [most_of(f"the heads of layer {layer}", rows) for layer, rows in layers]
    shown = restoring(heads).head(HEADS_SHOWN)
    if shown.empty:
        return [most_of(f"all {len(heads)} heads", heads)]
    named = [
        f"{row['layer']:.0f}.{row['head']:.0f} ({row['recovered']:.2f})"
        for row in shown.to_dict("records")
    ]
    few = "; no interval from fewer than three pairs" if too_few(shown.iloc[0].to_dict()) else ""
    return [f"Of all {len(heads)} heads, {', '.join(named)} restore most{few}."]
