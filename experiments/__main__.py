"""Which experiments are there, and what question does each answer?"""

import ast
from pathlib import Path

from experiments.cli import console


def questions() -> dict[str, str]:
    """Each experiment's name, and the first line of its docstring."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


if __name__ == "__main__":
    console.print("The experiments, and the question each answers; --help of each teaches.\n")
    for name, question in questions().items():
        console.print(f"  python -m experiments.{name:<12} {question}", soft_wrap=True)
