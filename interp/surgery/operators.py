"""Which cuts are there?

Each operator is generic over models: a pattern of syntax, a condition on what the expressions were
when they ran, what stands there instead, and a reading in a few words of what that takes away. None
knows a model by name. Without observations every operator that needs none proposes what the syntax
alone allows.

    for proposal in propose(parse(source)):
        print(proposal.operator, proposal.target)
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from torch import Tensor, nn

from interp.surgery.dataflow import Dataflow
from interp.surgery.edits import merge_statements, replace_node
from interp.surgery.observing import Observations, Place, Seen, place_of
from interp.surgery.syntax import Edit, FunctionNode, Syntax

# From the most telling to the least: the first whose effect is known is a line's headline.
OPERATORS = (
    "cut-skip",
    "cut-branch",
    "drop-term",
    "bypass-call",
    "drop-factor",
    "untie",
    "pin-attribute",
    "trim-loop",
    "flip-bool",
    "swap-axis",
    "identity-module",
    "delete-statement",
    "zero",
    "mean",
    "shuffle",
    "set-constant",
    "force-branch",
)
AXIS_NAMES = {"dim", "axis"}
AXIS_METHODS = {"softmax", "log_softmax", "mean", "sum", "cumsum", "var", "std", "norm", "amax"}


@dataclass(frozen=True)
class Proposal:
    """A cut that an operator proposes: what is cut, where, and what it takes away.

    ``safe`` predicts that shapes fit after the cut; it ranks, and never keeps a cut from being
    tried.
    """

    operator: str
    node: ast.AST
    target: str
    reading: str
    edits: tuple[Edit, ...]
    safe: bool = True


@dataclass(frozen=True)
class View:
    """A file's syntax, what is known of its expressions, and how many positions a text has."""

    syntax: Syntax
    observations: Observations | None = None
    positions: int | None = None

    def code(self, node: ast.AST) -> str:
        return self.syntax.code(node)

    def seen(self, node: ast.AST) -> Seen | None:
        return None if self.observations is None else self.observations.of(node)

    def ran(self, statement: ast.stmt) -> bool:
        return self.observations is None or bool(self.observations.phases(statement))

    def fits(self, node: ast.expr, into: ast.expr) -> bool:
        """Whether ``node`` has the shape of what it would stand for."""
        one, other = self.seen(node), self.seen(into)
        return one is None or other is None or one.shape == other.shape

    def proposal(
        self,
        operator: str,
        node: ast.expr | ast.stmt,
        target: str,
        reading: str,
        code: str,
        safe: bool = True,
    ) -> Proposal:
        edits = (replace_node(self.syntax, node, code),)
        return Proposal(operator, node, target, reading, edits, safe)


def propose(
    syntax: Syntax, observations: Observations | None = None, positions: int | None = None
) -> list[Proposal]:
    """Every cut that every operator proposes, in the order of the file.

    Args:
        syntax: the file's.
        observations: from a run; only what ran is cut then, and types decide what can be cut.
        positions: the length of the texts of that run; tells which axis is the positions'.
    """
    view = View(syntax, observations, positions)
    proposals: list[Proposal] = []
    lines = None if observations is None else observations.lines
    flows: dict[FunctionNode, Dataflow] = {}
    for node in syntax.bodies:
        statement = syntax.statement(node)
        function = syntax.function(node)
        assert function is not None
        if not view.ran(statement):
            continue
        if function not in flows:
            flows[function] = Dataflow(function, lines)
        proposals += cuts_of(view, node, function, flows[function])
    proposals += linked_calls(syntax, proposals)
    proposals += linked_sizes(view)
    proposals += deletions(view, {p.edits[0].line for p in proposals})
    order = {operator: rank for rank, operator in enumerate(OPERATORS)}
    return sorted(proposals, key=lambda p: (p.edits[0].line, order[p.operator], not p.safe))


def cuts_of(
    view: View, node: ast.expr | ast.stmt, function: FunctionNode, flow: Dataflow
) -> Iterator[Proposal]:
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            yield from cut_sum(view, node, flow)
        case ast.BinOp(op=ast.Mult() | ast.Div()):
            yield from drop_factor(view, node)
        case ast.Call():
            yield from bypass_call(view, node)
            yield from swap_axis(view, node)
            yield from identity_module(view, node)
        case ast.Constant(value=bool()):
            yield from flip_bool(view, node)
        case ast.Constant(value=int() | float()):
            yield from set_constant(view, node)
        case ast.For():
            yield from trim_loop(view, node)
        case ast.If() | ast.IfExp():
            yield from force_branch(view, node)
        case ast.AugAssign():
            yield from cut_update(view, node)
        case ast.Assign() | ast.Return():
            if isinstance(node, ast.Assign) and function.name == "__init__":
                yield from pin_attribute(view, node)
            if isinstance(node, ast.Assign):
                yield from untie(view, node)
            yield from stand_in(view, node)


def cut_sum(view: View, node: ast.BinOp, flow: Dataflow) -> Iterator[Proposal]:
    """``x + f(x)``: without the skip, without the branch. ``a + b``: without each term."""
    if not is_number(view.seen(node)):
        return
    left, right = view.code(node.left), view.code(node.right)
    left_fits, right_fits = view.fits(node.left, node), view.fits(node.right, node)
    added = isinstance(node.op, ast.Add)
    for skip, branch in ((node.left, node.right), (node.right, node.left)):
        if added and flow.is_skip(skip, branch) and not flow.is_skip(branch, skip):
            kept, dropped = view.code(branch), view.code(skip)
            fits = view.fits(branch, node)
            reading = f"no skip: only the branch {kept} passes"
            yield view.proposal("cut-skip", node, dropped, reading, kept, fits)
            fits = view.fits(skip, node)
            reading = f"no branch: {dropped} passes {kept} by"
            yield view.proposal("cut-branch", node, kept, reading, dropped, fits)
            return
    yield view.proposal("drop-term", node, right, f"without the term {right}", left, left_fits)
    kept = right if added else f"-{right}"
    yield view.proposal("drop-term", node, left, f"without the term {left}", kept, right_fits)


def cut_update(view: View, node: ast.AugAssign) -> Iterator[Proposal]:
    """``x += y`` and ``x *= y``: without the update, and ``y`` alone."""
    target, value = view.code(node.target), view.code(node.value)
    if isinstance(node.op, (ast.Add, ast.Sub)):
        reading = f"without the term {value}"
        yield view.proposal("cut-branch", node, value, reading, "pass")
        update = value if isinstance(node.op, ast.Add) else f"-({value})"
        reading = f"no skip: only {value} passes"
        yield view.proposal("cut-skip", node, target, reading, f"{target} = {update}")
    elif isinstance(node.op, (ast.Mult, ast.Div)):
        reading = f"without the factor {value}"
        yield view.proposal("drop-factor", node, value, reading, "pass")


def drop_factor(view: View, node: ast.BinOp) -> Iterator[Proposal]:
    """``a * b`` without each factor, ``a / b`` without the divisor."""
    if not is_number(view.seen(node)):
        return
    left, right = view.code(node.left), view.code(node.right)
    fits = view.fits(node.left, node)
    yield view.proposal("drop-factor", node, right, f"without the factor {right}", left, fits)
    if isinstance(node.op, ast.Mult):
        fits = view.fits(node.right, node)
        yield view.proposal("drop-factor", node, left, f"without the factor {left}", right, fits)


def is_number(seen: Seen | None) -> bool:
    """Whether a value takes part in the computation: a tensor or a float, no count of things."""
    return seen is None or seen.is_tensor or seen.kind is float


def bypass_call(view: View, node: ast.Call) -> Iterator[Proposal]:
    """``f(x)`` gives way to ``x``, and ``x.m()`` to ``x``."""
    kept = passed_by(view, node)
    if kept is None:
        return
    method = isinstance(node.func, ast.Attribute) and node.func.value is kept
    called = f".{node.func.attr}" if method else view.code(node.func)  # type: ignore[attr-defined]
    reading = f"{called.removeprefix('self.')} is passed by"
    code = view.code(kept)
    result = view.seen(node)
    fits = view.fits(kept, node)
    if result is not None and result.parts:
        code = f"({code}, {', '.join(['None'] * (len(result.parts) - 1))})"
        fits = True
    yield view.proposal("bypass-call", node, called, reading, code, fits)


def passed_by(view: View, node: ast.Call) -> ast.expr | None:
    """What would pass a call by: the value whose method it is, else an argument."""
    receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
    arguments = [a for a in node.args if not isinstance(a, ast.Starred)]
    arguments += [keyword.value for keyword in node.keywords if keyword.arg]
    if view.observations is None:
        if receiver is not None and not is_named(view.syntax, receiver):
            return receiver
        return node.args[0] if node.args and arguments[:1] == node.args[:1] else None
    result = view.seen(node)
    if result is not None and len(result.parts) > 1:
        result = result.parts[0]
    if result is None or not result.is_tensor:
        return None
    candidates = [receiver, *arguments] if receiver is not None else arguments
    tensors = [
        (item, found)
        for item in candidates
        if (found := view.seen(item)) is not None
        and found.is_tensor
        and found.is_float_tensor >= result.is_float_tensor
    ]
    same = [item for item, found in tensors if found.shape == result.shape]
    if receiver is not None and tensors and tensors[0][0] is receiver:
        return receiver
    return same[0] if same else tensors[0][0] if tensors else None


def is_named(syntax: Syntax, node: ast.expr) -> bool:
    """Whether a dotted name starts at ``self``, ``cls`` or something the file imports or defines:
    what is called on it is a function or module, not a method of a value."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return isinstance(node, ast.Name) and node.id in {"self", "cls", *module_names(syntax)}


@lru_cache(maxsize=64)
def module_names(syntax: Syntax) -> frozenset[str]:
    """The names that a file imports or defines."""
    names = set()
    for statement in syntax.tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
        elif isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            names.add(statement.name)
    return frozenset(names)


def swap_axis(view: View, node: ast.Call) -> Iterator[Proposal]:
    """``softmax(dim=-1)`` over another axis."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in AXIS_METHODS:
        return
    named = [keyword.value for keyword in node.keywords if keyword.arg in AXIS_NAMES]
    for axis in [*named, *node.args]:
        if not isinstance(axis, (ast.Constant, ast.UnaryOp)):
            continue
        try:
            number = ast.literal_eval(axis)
        except ValueError:
            continue
        if type(number) is int:
            other = {-1: -2, 0: 1}.get(number, number + 1 if number < 0 else number - 1)
            reading = f"{node.func.attr} over axis {other} instead of {number}"
            yield view.proposal("swap-axis", axis, f".{node.func.attr}", reading, str(other))
            return


def identity_module(view: View, node: ast.Call) -> Iterator[Proposal]:
    """``self.ln = LayerNorm(...)`` becomes ``self.ln = nn.Identity()``."""
    statement = view.syntax.parent[node]
    result = view.seen(node)
    if not isinstance(statement, ast.Assign) or statement.value is not node:
        return
    if result is None or not issubclass(result.kind, nn.Module):
        return
    for target in own_attributes(statement.targets):
        for name, code in (("nn", "nn.Identity()"), ("torch", "torch.nn.Identity()")):
            if name in module_names(view.syntax):
                reading = f"{target.attr} does nothing"
                yield view.proposal("identity-module", node, view.code(target), reading, code)
                break


def flip_bool(view: View, node: ast.Constant) -> Iterator[Proposal]:
    """``is_causal=True`` becomes ``is_causal=False``."""
    parent = view.syntax.parent[node]
    code = view.code(node)
    name = str(parent.arg) if isinstance(parent, ast.keyword) else code
    reading = f"{name} is {not node.value} instead of {code}"
    yield view.proposal("flip-bool", node, name, reading, str(not node.value))


def set_constant(view: View, node: ast.Constant) -> Iterator[Proposal]:
    """A float ten times as large; a whole number that multiplies or divides becomes 1."""
    code = view.code(node)
    parent = view.syntax.parent[node]
    if isinstance(node.value, float) and node.value != 0:
        value = repr(10 * node.value) if abs(node.value) >= 1e-3 else f"{10 * node.value:.6g}"
    elif isinstance(parent, ast.BinOp) and isinstance(node.value, int) and node.value > 1:
        if not isinstance(parent.op, (ast.Mult, ast.Div, ast.FloorDiv)):
            return
        if view.observations is not None and not is_number(view.seen(parent)):
            return  # a size: linked_sizes
        value = "1"
    else:
        return
    reading = f"{value} instead of {code}"
    yield view.proposal("set-constant", node, code, reading, value)


def linked_sizes(view: View) -> Iterator[Proposal]:
    """A whole factor of a size becomes 1 wherever the same expression sets one, together: the
    width of the MLP in the layer that makes it and in the layer that reads it."""
    if view.observations is None:
        return
    uses: dict[tuple[str, str], list[ast.Constant]] = defaultdict(list)
    for node in view.syntax.bodies:
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Mult, ast.FloorDiv)):
            continue
        seen = view.seen(node)
        if seen is None or seen.value is None:
            continue
        for side in (node.left, node.right):
            if isinstance(side, ast.Constant) and type(side.value) is int and side.value > 1:
                uses[view.syntax.qualname[node], view.code(node)].append(side)
    for (_, code), constants in uses.items():
        edits = [replace_node(view.syntax, constant, "1") for constant in constants]
        merged = merge_statements(view.syntax.source, edits)
        reading = f"1 instead of {view.code(constants[0])} in {code}"
        yield Proposal("set-constant", constants[0], code, reading, merged)


def trim_loop(view: View, node: ast.For) -> Iterator[Proposal]:
    """A loop without its first turn, without its last, and backwards."""
    code = view.code(node.iter)
    for name, cut in (("first", "[1:]"), ("last", "[:-1]"), ("reverse", "[::-1]")):
        reading = "the loop runs backwards" if name == "reverse" else f"without the {name} turn"
        yield view.proposal("trim-loop", node.iter, name, reading, f"list({code}){cut}")


def force_branch(view: View, node: ast.If | ast.IfExp) -> Iterator[Proposal]:
    """``if c:`` as if the condition held, and as if it did not."""
    condition = view.code(node.test)
    for value in (True, False):
        reading = f"as if {condition} were {value}"
        if isinstance(node, ast.If):
            yield view.proposal("force-branch", node.test, str(value), reading, str(value))
        else:
            taken = view.code(node.body if value else node.orelse)
            yield view.proposal("force-branch", node, str(value), reading, taken)


def pin_attribute(view: View, node: ast.Assign) -> Iterator[Proposal]:
    """``self.n_head = config.n_head`` in ``__init__`` becomes ``self.n_head = 1``."""
    seen = view.seen(node.value)
    if view.observations is not None and (seen is None or (seen.value or 0) <= 1):
        return
    for target in own_attributes(node.targets):
        if isinstance(node.value, (ast.Attribute, ast.Name, ast.BinOp)):
            reading = f"{target.attr} is 1"
            yield view.proposal("pin-attribute", node.value, view.code(target), reading, "1")


def own_attributes(targets: Sequence[ast.expr]) -> list[ast.Attribute]:
    return [
        target
        for target in targets
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    ]


def untie(view: View, node: ast.Assign) -> Iterator[Proposal]:
    """``self.a.weight = self.b.weight`` is left out: each keeps its own."""
    target, value = node.targets[0], node.value
    if (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Attribute)
        and isinstance(value, ast.Attribute)
        and target.attr == value.attr == "weight"
    ):
        reading = f"{view.code(target)} is a weight of its own"
        yield view.proposal("untie", node, view.code(target), reading, "pass")


def stand_in(view: View, node: ast.Assign | ast.Return) -> Iterator[Proposal]:
    """An assigned float tensor becomes zero, each position's another one's, or a mean."""
    if view.observations is None:
        return
    for number, value in enumerate(assigned_values(node)):
        seen = view.seen(value)
        if seen is None:
            continue
        target = assigned_name(view, node, number)
        code = view.code(value)
        if seen.parts and all(part.is_float_tensor for part in seen.parts):
            new = f"tuple({zeros(view, 'part')} for part in {code})"
            yield view.proposal("zero", value, target, f"{target} is zero", new)
        if not seen.is_float_tensor or not issubclass(seen.kind, Tensor):
            continue
        yield view.proposal("zero", value, target, f"{target} is zero", zeros(view, code))
        assert seen.shape is not None
        if view.positions not in seen.shape[1:]:
            continue
        axis = seen.shape.index(view.positions, 1)
        new = f"surgery_shuffle({code}, {axis})"
        reading = f"each position's {target} is that of another, not later one"
        yield view.proposal("shuffle", value, target, reading, new)
        if seen.shape.count(view.positions) == 1:  # of [query key] the mean would see the future
            new = f'surgery_mean({code}, "{mean_key(view.syntax, value)}")'
            reading = f"{target} is its mean over the reference texts"
            yield view.proposal("mean", value, target, reading, new)


def assigned_values(node: ast.AST) -> Sequence[ast.expr]:
    """What an assignment or a return hands on: one value, or those of a tuple."""
    value = node.value if isinstance(node, (ast.Assign, ast.Return)) else None
    if value is None:
        return []
    return value.elts if isinstance(value, ast.Tuple) else [value]


def assigned_name(view: View, node: ast.Assign | ast.Return, number: int) -> str:
    if isinstance(node, ast.Return):
        return "return"
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        target = target.elts[number] if number < len(target.elts) else target
    return view.code(target)


def reference_places(syntax: Syntax) -> dict[Place, str]:
    """Where the values stand whose means can stand in for them, and the means' names."""
    return {
        place_of(value): mean_key(syntax, value)
        for node in syntax.bodies
        for value in assigned_values(node)
    }


def zeros(view: View, code: str) -> str:
    if "torch" in module_names(view.syntax):
        return f"torch.zeros_like({code})"
    return f"({code}).clone().zero_()"


def mean_key(syntax: Syntax, node: ast.expr) -> str:
    """Names an assigned expression in the table of reference means."""
    return f"{syntax.source.file}:{node.lineno}:{node.col_offset}"


def linked_calls(syntax: Syntax, proposals: Iterable[Proposal]) -> Iterator[Proposal]:
    """Calls of one name on one line, passed by together."""
    together: dict[tuple[int, str], list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        if proposal.operator == "bypass-call":
            together[proposal.edits[0].line, proposal.target].append(proposal)
    for (_, target), linked in together.items():
        edits = sorted((p.edits[0] for p in linked), key=lambda edit: edit.start)
        apart = all(one.stop <= two.start for one, two in pairwise(edits))
        if len(linked) > 1 and apart:
            yield replace(
                linked[0],
                target=f"every {target}",
                edits=merge_statements(syntax.source, edits),
                reading=f"every {target.removeprefix('self.')} is passed by",
            )


def deletions(view: View, covered: set[int]) -> Iterator[Proposal]:
    """A rebound name keeps its value, a bare call is not made; and where no other operator cuts a
    line, the whole statement goes."""
    for node in view.syntax.bodies:
        if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr, ast.Return)):
            continue
        if not view.ran(node) or is_super_init(node):
            continue
        if rebinds(view.syntax, node) or isinstance(node, ast.Expr) or node.lineno not in covered:
            target = view.code(node).split("=")[0].strip()
            yield view.proposal(
                "delete-statement", node, target, "the statement is left out", "pass"
            )


def rebinds(syntax: Syntax, node: ast.stmt) -> bool:
    """Whether a statement gives a new value to a name that had one."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    function = syntax.function(node)
    assert function is not None
    return syntax.bound[function].get(node.targets[0].id, node.lineno) < node.lineno


def is_super_init(node: ast.stmt) -> bool:
    """``super().__init__(...)``: without it there is no model to speak of."""
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("super().__init__(")
