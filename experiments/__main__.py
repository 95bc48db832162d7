"""Which experiments are there? ``nanogpt-interp`` lists them, ``nanogpt-interp NAME`` starts one.

The same as ``python -m experiments`` and ``python -m experiments.NAME``, from any folder.
"""

import sys
from difflib import get_close_matches
from importlib.metadata import version
from textwrap import fill

from experiments.support.listing import command_of, questions

USAGE = "NAME is an experiment; it answers a question, and NAME --help tells how."


def main() -> None:
    """The console command."""
    called, *rest = sys.argv[1:] or ["--help"]
    known = questions()
    if called in ("-h", "--help", "list"):
        print(listing(known))
    elif called == "--version":
        print(f"nanogpt-interp {version('nanogpt-interp')}")
    elif called in known:
        from experiments.support.cli import launch

        launch(*command_of(called), rest)
    else:
        near = get_close_matches(called, known, n=3, cutoff=0.0)
        sys.exit(f"error: no experiment is called {called!r}; nearest: {', '.join(near)}")


def listing(known: dict[str, str]) -> str:
    """Every name with its question, no wider than a terminal."""
    width = max(map(len, known))
    lines = [
        fill(f"  {name:<{width}}  {question}", 80, subsequent_indent=" " * (width + 4))
        for name, question in known.items()
    ]
    return "\n".join([f"nanogpt-interp NAME [options]\n{USAGE}", "", *lines])


if __name__ == "__main__":
    main()
