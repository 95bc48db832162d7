"""Which options does a script have that is started without any?

A script whose ``args = parser.parse_args()`` stands at its top level has the options' defaults when
a class is taken from it, and our sizes where an option is a size.

    replaced = with_default_options(tree, {"n_embd": 64})     # {"n_embd": "384"}
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

PARSES = ("parse_args", "parse_known_args")


def with_default_options(tree: ast.Module, known: Mapping[str, Any]) -> dict[str, str]:
    """Let a script's parsers parse no options, and sizes that are known be the defaults of theirs.

    A parser that wants an option, or what has no dashes before it, is left as it is.

    Returns:
        The defaults that give way to ours, by option, with what the file says.
    """
    replaced: dict[str, str] = {}
    parsers = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and method_called(node.value) == "ArgumentParser"
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    asking = {parser_of(call) for call in options_in(tree) if wants_more(call)}
    for node in ast.walk(tree):
        if parser_of(node) in parsers - asking and method_called(node) in PARSES:
            assert isinstance(node, ast.Call)
            if not node.args and not node.keywords:
                node.args = [ast.copy_location(ast.List([], ast.Load()), node)]
    for call in options_in(tree):
        name = name_of_option(call)
        for keyword in call.keywords if parser_of(call) in parsers - asking else ():
            if keyword.arg == "default" and is_plain_number(keyword.value) and name in known:
                ours = ast.copy_location(ast.Constant(known[name]), keyword.value)
                if ast.dump(ours) != ast.dump(keyword.value):
                    replaced[name] = ast.unparse(keyword.value)
                keyword.value = ours
    return replaced


def parses_nothing(call: ast.Call) -> bool:
    """Whether a call parses no options, so that it neither reads the command line nor ends."""
    given = call.args[0] if call.args else None
    return method_called(call) in PARSES and isinstance(given, ast.List) and not given.elts


def options_in(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and method_called(node) == "add_argument":
            yield node


def wants_more(call: ast.Call) -> bool:
    """Whether a parser ends the script where this option is not given."""
    required = any(
        keyword.arg == "required" and getattr(keyword.value, "value", True)
        for keyword in call.keywords
    )
    return required or not name_of_option(call)


def name_of_option(call: ast.Call) -> str:
    """The name under which an option is read; "" of what has no dashes, and is given by place."""
    for keyword in call.keywords:
        if keyword.arg == "dest" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    spelt = [part.value for part in call.args if isinstance(part, ast.Constant)]
    long = [str(name) for name in spelt if str(name).startswith("-")]
    named = next((name for name in long if name.startswith("--")), long[0] if long else "")
    return named.lstrip("-").replace("-", "_")


def parser_of(node: ast.AST) -> str:
    """What a method is called on, if that has a name."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    return ""


def method_called(node: ast.AST) -> str:
    """The last name of what is called."""
    function = node.func if isinstance(node, ast.Call) else None
    return str(getattr(function, "attr", getattr(function, "id", "")))


def is_plain_number(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, int | float) and not isinstance(value, bool)
