"""Which box of the visualisation at bbycroft.net/llm is which class and line of this model?

Many readers have walked through that picture of a GPT before they open a model's source. Its boxes
are told by the hook points whose value they show, and lines are those that a run of the model came
past: nothing here is kept by hand but the two vocabularies.

    table = vocabulary(architecture(model), {"model.py": text})
    table[["box", "function", "line", "code"]]  # Q vectors  CausalSelfAttention.forward  111  q = …
"""

import ast
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import PurePath
from typing import Any, NamedTuple

import pandas as pd

from interp.report.source import any_block
from interp.report.values import empty

VISUALISATION = "https://bbycroft.net/llm"
COLUMNS = ("box", "function", "file", "line", "code", "name", "shape")


class Term(NamedTuple):
    """A box by its name there, and the row of ``architecture``'s table that it is here.

    ``kind`` is hook (the value of a hook point that ``name`` matches), add (an addition outside of
    blocks), source (the module that takes tokens) or last (the last module within the box that
    holds the hook point: its projection).
    """

    box: str
    kind: str
    name: str = ""
    in_block: bool = True


BOXES = (
    Term("Tokens", "source"),
    Term("Token Embed", "hook", "hook_embed", in_block=False),
    Term("Position Embed", "hook", "hook_pos_embed", in_block=False),
    Term("Input Embed", "add", in_block=False),
    Term("LN Agg: μ, \N{GREEK SMALL LETTER SIGMA}", "hook", "*.ln1.hook_scale"),
    Term("Layer Norm", "hook", "*.ln1.hook_normalized"),
    Term("Q vectors", "hook", "*.hook_q"),
    Term("K vectors", "hook", "*.hook_k"),
    Term("V vectors", "hook", "*.hook_v"),
    Term("Attention Matrix", "hook", "*.hook_attn_scores"),
    Term("Attn Matrix Softmax", "hook", "*.hook_pattern"),
    Term("V Output", "hook", "*.hook_z"),
    Term("Projection Weights", "last", "*.hook_z"),
    Term("Attention Output", "hook", "*.hook_attn_out"),
    Term("Attention Residual", "hook", "*.hook_resid_mid"),
    Term("Layer Norm (second)", "hook", "*.ln2.hook_normalized"),
    Term("MLP", "hook", "*.mlp.hook_pre"),
    Term("MLP Activation", "hook", "*.mlp.hook_post"),
    Term("MLP Projection Weights", "last", "*.mlp.hook_post"),
    Term("MLP Result", "hook", "*.hook_mlp_out"),
    Term("MLP Residual", "hook", "*.hook_resid_post"),
    Term("Layer Norm (last)", "hook", "ln_final.hook_normalized", in_block=False),
    Term("LM Head Weights, Logits", "hook", "hook_logits", in_block=False),
)
SOFTMAX = (
    "Its last box, Logits Softmax, is not in the model: what takes the logits, the loss or the "
    "sampling of a next token, turns them into probabilities."
)


def vocabulary(boxes: pd.DataFrame, sources: Mapping[str, str]) -> pd.DataFrame:
    """The visualisation's boxes that this model has, in its order.

    Args:
        boxes: what ``interp.architecture.architecture`` found.
        sources: the text of each file by its name, such as ``model.py``; of a file that is not
            among them, the functions are not named.

    Returns:
        Columns ``box`` (its name there), ``function`` (with its class), ``file line code``,
        ``name`` (of the hook point or module, for all blocks) and ``shape``. A box that the model
        has not got has no row.
    """
    trees = {name: functions_of(text) for name, text in sources.items()}
    rows = []
    for entry in BOXES:
        row = term_row(entry, boxes)
        if row is None or empty(row["line"]):
            continue
        functions = trees.get(PurePath(str(row["file"])).name, {})
        rows.append(
            {
                "box": entry.box,
                "function": functions.get(int(row["line"]), ""),
                "file": row["file"],
                "line": int(row["line"]),
                "code": row["code"],
                "name": "" if entry.kind == "add" else any_block(row["name"]),
                "shape": row["takes"] if entry.kind == "source" else row["shape"],
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def term_row(entry: Term, boxes: pd.DataFrame) -> dict[Any, Any] | None:
    """The first row that an entry is about; None where the model has none."""
    rows = boxes.to_dict("records")
    if entry.kind == "source":
        return next((row for row in rows if row["kind"] == "module" and row["source"]), None)
    there = [row for row in rows if (row["block"] != "") == entry.in_block]
    if entry.kind == "add":
        return next((row for row in there if row["kind"] == "add"), None)
    hook = next(
        (row for row in there if row["kind"] == "hook" and fnmatch(row["site"], entry.name)), None
    )
    if entry.kind == "hook" or hook is None:
        return hook
    holder = hook["block"], hook["part"]
    inner = [row for row in there if row["kind"] == "module" and row["depth"] == 2]
    return next((row for row in reversed(inner) if (row["block"], row["part"]) == holder), None)


def functions_of(text: str) -> dict[int, str]:
    """Which function each line of a file is in: ``Block.forward``."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return {}
    found: dict[int, str] = {}

    def walk(node: ast.AST, around: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = around
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{around}.{child.name}" if around else child.name
                last = child.end_lineno or child.lineno
                found.update(dict.fromkeys(range(child.lineno, last + 1), name))
            walk(child, name)

    walk(tree, "")
    return found
