"""What does a rung change in the code of the rung below it?

print(step("one head"))  # a diff, without the hook points
"""

import ast
import difflib
import inspect
import re
import textwrap
from dataclasses import replace

import torch
from torch import nn

from gpt.errors import UsageError, nearest
from gpt.ladder import parts
from gpt.ladder.rungs import LECTURE, RUNGS, Bigram
from gpt.model import Block

SHOWN = (Bigram.__module__, parts.__name__, Block.__module__)
INSIDE_RUNG = ("build", "make_blocks", "forward", "embed", "read_out")
INSIDE_PARTS = ("__init__", "forward", "attend", "normalize")


def step(name: str) -> str:
    """What a rung changes in the code of the rung below it, as a unified diff.

    Methods that a class inherits are written out, and so are the parts that a rung is built of;
    hook points, which compute nothing, are left out. Empty for the first rung.

    Raises:
        UsageError: there is no such rung.
    """
    if name not in RUNGS:
        raise UsageError(f"there is no rung {name!r}; nearest: {nearest(name, RUNGS)}")
    names = list(RUNGS)
    place = names.index(name)
    if place == 0:
        return ""
    below = names[place - 1]
    diff = difflib.unified_diff(
        list_code(RUNGS[below]), list_code(RUNGS[name]), below, name, lineterm="", n=2
    )
    return "".join(f"{line if line[:2] != '@@' else ' ...'}\n" for line in diff)


def list_code(rung: type[Bigram]) -> list[str]:
    """The code that a rung runs, line by line, wherever it was inherited from."""
    with torch.random.fork_rng(devices=[]):
        model = rung(replace(LECTURE, n_layer=1))
    lines = []
    for part in dict.fromkeys(type(module) for module in model.modules()):
        if part.__module__ in SHOWN:
            lines += [f"class {'Rung' if part is rung else part.__name__}:"]
            names = INSIDE_RUNG if part is rung else INSIDE_PARTS
            for name in names:
                if hasattr(part, name):
                    code = [strip_hook(line) for line in write_out(part, name).splitlines()]
                    lines += [f"    {line}".rstrip() for line in code if line is not None]
                    lines.append("")
    return lines


def strip_hook(line: str) -> str | None:
    """A line of code as it would be without its hook point; None for one that is nothing else."""
    if re.match(r"\s*(self\.hook_\w+ = |@)", line):
        return None
    line = line.partition("  # type: ignore")[0]
    plain = re.sub(r"self\.hook_\w+\((.*)\)$", r"\1", line)
    name, _, value = plain.strip().partition(" = ")
    return None if name == value else plain


def write_out(part: type, name: str) -> str:
    """A method's source without its docstring, calls of the inherited method put in their place."""
    owner = next(base for base in part.__mro__ if name in vars(base))
    code = textwrap.dedent(inspect.getsource(inspect.unwrap(vars(owner)[name])))
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    documented = ast.get_docstring(function) is not None
    lines = code.splitlines()
    body = lines[function.body[documented].lineno - 1 :]
    written = lines[: function.body[0].lineno - 1]
    above = part.__mro__[part.__mro__.index(owner) + 1 :]
    parent = next((base for base in above if name in vars(base)), nn.Module)
    for line in body:
        if f"super().{name}(" in line and parent.__module__ in SHOWN:
            inherited = write_out(parent, name).splitlines()
            start = next(i for i, text in enumerate(inherited) if text.endswith(":")) + 1
            written += [text for text in inherited[start:] if not text.startswith("    return")]
        else:
            written.append(line)
    return "\n".join(written)
