"""What does a piece of code say on one line, without its comments?

one_line("x = f(  # twice\\n    y,\\n)")     # x = f(y)
"""

import io
import tokenize


def lines_of(text: str) -> list[str]:
    """A text's lines, their ends included, as Python counts them: ``str.splitlines`` ends lines at
    form feeds and other characters at which Python's do not end."""
    return [line.decode() for line in text.encode().splitlines(keepends=True)]


def one_line(code: str) -> str:
    """Code over several lines, comments dropped, on one."""
    joined = ""
    lines = [line.strip() for line in without_comments(code)]
    for line in lines:
        line = line.removesuffix("\\").rstrip()
        if line[:1] in tuple(")]}") and joined:
            joined = joined.removesuffix(",") + line
        elif line:
            tight = not joined or joined[-1:] in tuple("([{") or line[:1] == "."
            joined += line if tight else f" {line}"
    return joined


def without_comments(code: str) -> list[str]:
    """The lines of a piece of code without their comments."""
    lines = [line.rstrip("\r\n") for line in lines_of(code)]
    if "#" not in code:
        return lines
    whole = io.StringIO("(" + "\n".join(lines) + "\n)")
    try:
        for token in tokenize.generate_tokens(whole.readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][: column - (row == 1)]
    except (tokenize.TokenError, SyntaxError):  # a header without its body may end too early
        pass
    return lines
