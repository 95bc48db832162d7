"""What do all figures share: sizes, fonts, colours, and text that can be drawn?"""

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from interp.characters import escape, marked, visible
from interp.errors import UsageError

WIDTH = 7.2  # inches: two columns of a paper
CODE_SIZE = 7.0  # points
CODE_LINE = CODE_SIZE * 1.35 / 72  # inches from one line of code to the next
CODE_COLUMNS = 108  # characters of code across a figure
SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # they come with matplotlib: the same everywhere
CODE = FontProperties(family=MONO, size=CODE_SIZE)
MARKERS = "sD^vPX*<"  # not as many as colours, so that a pair of the two comes round late
DOTS, DASHES = (0, (1, 2)), (0, (4, 2))
DIVERGING = sns.color_palette("vlag", as_cmap=True)
SEQUENTIAL = sns.color_palette("mako_r", as_cmap=True)
HOLLOW = "hollow: no effect shown"


def print_style() -> AbstractContextManager[None]:
    """Settings for print, in force within a ``with`` block alone."""
    return mpl.rc_context(
        sns.axes_style("ticks")
        | sns.plotting_context("paper")
        | {
            "font.family": SANS,
            "text.parse_math": False,  # a dollar sign in code is a dollar sign
            "axes.grid": True,
            "axes.titlelocation": "left",
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "figure.titlesize": 10,
            "figure.titleweight": "bold",
            "axes.spines.right": False,
            "axes.spines.top": False,
            "grid.color": "0.92",
            "hatch.linewidth": 0.6,
            "legend.frameon": False,
            "legend.handlelength": 3.5,
            "legend.title_fontsize": 8,
            "lines.linewidth": 1.4,
            "lines.markersize": 4.5,
        }
    )


def require(table: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise UsageError(
            f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, table))}"
        )


def code(text: str) -> str:
    """Text for the monospaced font, its lines wrapped to the figure's width."""
    return "\n".join(
        "\n".join(
            textwrap.wrap(
                line,
                CODE_COLUMNS - 10,
                subsequent_indent="    ",
                replace_whitespace=False,
                break_on_hyphens=False,
            )
        )
        for line in drawable(text, MONO).splitlines()
    )


def prose(text: str) -> str:
    """Text for the proportional font, wrapped to the figure's width."""
    return textwrap.fill(drawable(text, SANS), 84)


def drawable(text: str, family: str) -> str:
    """``text`` with what the font cannot draw written as escapes."""
    font = get_font(findfont(family))
    return "".join(
        c if c == "\n" or font.get_char_index(ord(c)) else escape(c)
        for c in visible(text).expandtabs(4)
    )


def legible(name: str) -> str:
    """A legend leaves out names that begin with an underscore, unless something stands before."""
    return f" {name}" if name.startswith("_") else name


def count_lines(text: str) -> int:
    return text.count("\n") + 1


def tick_label(character: str) -> str:
    """A character as a tick label that can be seen."""
    return drawable(marked(character), SANS)


def finish_layout(figure: Figure) -> None:
    """Lay the figure out, once: each of its formats would else do it again."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def centred(values: pd.Series, at_least: float = 0.0) -> Normalize:
    """A scale with zero in its middle."""
    reach = max(float(values.abs().max()), at_least) or 1.0
    return Normalize(-reach, reach)
