"""Which box of the visualisation at bbycroft.net/llm is which class and line of our model?

python -m docs.vocabulary                   writes the table into docs/concepts.md
"""

import inspect
from pathlib import Path

import gpt.model
from gpt.model import GPT, GPTConfig
from interp.architecture import architecture
from interp.report.vocabulary import SOFTMAX, vocabulary

PAGE = Path(__file__).with_name("concepts.md")
BEGINS, ENDS = "<!-- written by python -m docs.vocabulary -->\n", "<!-- to here -->\n"


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(page: str) -> str:
    """The page with the table as the model is now."""
    before, _, rest = page.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    return f"{before}{BEGINS}\n{table()}\n{SOFTMAX}\n\n{ENDS}{after}"


def table() -> str:
    found = vocabulary(
        architecture(GPT(GPTConfig())), {"model.py": inspect.getsource(gpt.model)}
    ).to_dict("records")
    rows = ["| box there | here | line | hook point or module |", "|---|---|---|---|"]
    for row in found:
        name = f"`{row['name']}`" if row["name"] else ""
        line = f"{row['line']}: `{row['code']}`"
        rows.append(f"| {row['box']} | `{row['function']}` | {line} | {name} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
