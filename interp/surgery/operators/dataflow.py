"""Which of two summands is the skip, and which the branch?

In ``x + f(x)`` the skip is the value from which the other side is computed. Values are followed
through a function statement by statement: a name that is bound again is a new value, a plain copy
is the same value, and shapes, devices and dtypes do not count as uses.
"""

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

METADATA = {"shape", "device", "dtype", "ndim", "size", "dim", "numel", "training"}


@dataclass(eq=False)
class Value:
    """One value that the function computes, and the values from which it is computed."""

    parents: frozenset["Value"] = frozenset()
    ancestors: frozenset["Value"] = field(init=False)

    def __post_init__(self) -> None:
        every = set(self.parents)
        for parent in self.parents:
            every |= parent.ancestors
        self.ancestors = frozenset(every)


class Dataflow:
    """The values of one function: for each expression, the value that it reads or computes."""

    def __init__(
        self,
        function: ast.FunctionDef | ast.AsyncFunctionDef,
        executed: frozenset[int] | None = None,
    ) -> None:
        self.value: dict[ast.expr, Value] = {}
        self._executed = executed
        self._names: dict[str, Value] = {}
        arguments = function.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            self._names[argument.arg] = Value()
        self._run(function.body)

    def is_skip(self, one: ast.expr, other: ast.expr) -> bool:
        """Whether ``other`` is computed from the very value that ``one`` is."""
        if one not in self.value or other not in self.value:  # inside a lambda or comprehension
            return False
        return self.value[one] in self.value[other].ancestors

    def _run(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _ran(self, body: Sequence[ast.stmt]) -> bool:
        return self._executed is None or any(
            statement.lineno in self._executed for statement in body
        )

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets=targets, value=value):
                read = self._read(value)
                for target in targets:
                    self._bind(target, value, read)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._bind(target, value, self._read(value))
            case ast.AugAssign(target=target, value=value):
                read = self._read(value)
                before = self._names.get(self._path(target) or "", Value())
                self._set(target, Value(frozenset({read, before})))
            case ast.If(test=test, body=body, orelse=orelse):
                self._read(test)
                self._branches([branch for branch in (body, orelse) if self._ran(branch)])
            case ast.For(target=target, iter=iterable, body=body):
                self._bind(target, iterable, Value(frozenset({self._read(iterable)})))
                self._branches([body, []])
            case ast.While(test=test, body=body):
                self._read(test)
                self._branches([body, []])
            case ast.With(items=items, body=body):
                for item in items:
                    self._read(item.context_expr)
                self._run(body)
            case ast.Try(body=body, finalbody=finalbody):
                self._run([*body, *finalbody])
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case _:
                for child in ast.iter_child_nodes(statement):
                    if isinstance(child, ast.expr):
                        self._read(child)

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]]) -> None:
        before = dict(self._names)
        ends = []
        for body in bodies:
            self._names = dict(before)
            self._run(body)
            if not body or not isinstance(body[-1], (ast.Return, ast.Raise, ast.Continue)):
                ends.append(self._names)
        self._names = self._merge(ends) if ends else before

    @staticmethod
    def _merge(ends: Iterable[dict[str, Value]]) -> dict[str, Value]:
        merged: dict[str, set[Value]] = {}
        for names in ends:
            for name, value in names.items():
                merged.setdefault(name, set()).add(value)
        return {
            name: next(iter(values)) if len(values) == 1 else Value(frozenset(values))
            for name, values in merged.items()
        }

    def _bind(self, target: ast.expr, value: ast.expr, read: Value) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
                for inner, part in zip(target.elts, value.elts, strict=True):
                    self._bind(inner, part, self.value[part])
            else:
                for inner in target.elts:
                    self._bind(inner, value, Value(frozenset({read})))
        elif isinstance(target, ast.Starred):
            self._set(target.value, read)
        else:
            self._set(target, read)

    def _set(self, target: ast.expr, value: Value) -> None:
        path = self._path(target)
        if path is not None:
            for name in [name for name in self._names if name.startswith(f"{path}.")]:
                del self._names[name]  # attributes of what the name was bound to before
            self._names[path] = value

    def _path(self, target: ast.expr) -> str | None:
        """A name, or a dotted path such as ``self.x``, as one variable."""
        if isinstance(target, ast.Name):
            return target.id
        if isinstance(target, ast.Attribute):
            inner = self._path(target.value)
            return None if inner is None else f"{inner}.{target.attr}"
        return None

    def _read(self, node: ast.expr) -> Value:
        value = self._compute(node)
        self.value[node] = value
        return value

    def _compute(self, node: ast.expr) -> Value:
        match node:
            case ast.Name(id=name):
                return self._names.setdefault(name, Value())
            case ast.Attribute(value=inner, attr=attribute):
                self._read(inner)
                if attribute in METADATA:
                    return Value()
                read = Value(frozenset({self.value[inner]}))
                path = self._path(node)
                return read if path is None else self._names.setdefault(path, read)
            case ast.NamedExpr(target=target, value=inner):
                read = self._read(inner)
                self._set(target, read)
                return read
            case ast.Call(func=ast.Attribute(value=inner, attr=attribute)) if attribute in METADATA:
                self._read(inner)
                return Value()
            case ast.Call(func=ast.Name(id="len")):
                return Value()
            case ast.Call(func=function, args=arguments, keywords=keywords):
                reads = [self._read(item) for item in arguments]
                reads += [self._read(keyword.value) for keyword in keywords]
                if isinstance(function, ast.Attribute):
                    reads.append(self._read(function.value))
                else:
                    self._read(function)
                return Value(frozenset(reads))
            case ast.Lambda():
                return Value()
            case _:
                reads = []
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        reads.append(self._read(child))
                return Value(frozenset(reads))
