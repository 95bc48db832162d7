"""What do all figures share: sizes, fonts, colours, and text that can be drawn?"""

import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from interp.characters import escape, mark_spaces, shorten_text, visible, width_of
from interp.errors import UsageError
from interp.figures.fonts import MONO, SANS
from interp.figures.ticks import fit_ticks

WIDTH = 7.2  # inches: two columns of a paper
CODE_SIZE = 7.0  # points
CODE_LINE = CODE_SIZE * 1.35 / 72  # inches from one line of code to the next
CODE_COLUMNS = 108  # characters of code across a figure
CODE = FontProperties(family=MONO, size=CODE_SIZE)
SAVED = 200  # dots per inch of a saved figure: laid out at others, letters take other room
MARKERS = "sD^vPX*<"  # not as many as colours, so that a pair of the two comes round late
DOTS, DASHES = (0, (1, 2)), (0, (4, 2))
DIVERGING = sns.color_palette("vlag", as_cmap=True)
SEQUENTIAL = sns.color_palette("mako_r", as_cmap=True)
LETTERS = 10  # of a token, beyond which a label shortens it
HOLLOW = "hollow: no effect shown"
CODE_SHOWN = 44  # characters of code beside a bar
LINES_NAMED = 6  # lines of code that a figure names below itself


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


def drawable(text: str, family: Sequence[str]) -> str:
    """``text`` with what none of the fonts can draw written as escapes."""
    fonts = [get_font(findfont(name)) for name in family]
    return "".join(
        c if c == "\n" or any(font.get_char_index(ord(c)) for font in fonts) else escape(c)
        for c in visible(text).expandtabs(4)
    )


def legible(name: str) -> str:
    """A legend leaves out names that begin with an underscore, unless something stands before."""
    return f" {name}" if name.startswith("_") else name


def count_lines(text: str) -> int:
    return text.count("\n") + 1


def tick_label(token: str) -> str:
    """A token as a tick label that can be seen, a long one shortened."""
    return shorten_text(drawable(mark_spaces(token), SANS), LETTERS)


def cell_text(token: str, family: Sequence[str], size: float) -> tuple[str, float]:
    """A token for a cell as wide as a letter of this size, and the size at which it fits there.

    A character that no font has is the digits of its escape, in two rows.
    """
    shown = shorten_text(drawable(mark_spaces(token), family), LETTERS)
    digits = re.fullmatch(r"\\(?:x|u|U00?0?)(\w+)", shown)
    if len(token) == 1 and digits:
        half = -(-len(digits[1]) // 2)
        return f"{digits[1][:half]}\n{digits[1][half:]}", size / half
    return shown, size / max(1, width_of(shown))


def place_and_code(row: dict[Any, Any], longest: int = CODE_SHOWN) -> str:
    """File, line and code."""
    code = drawable(str(row["code"]).strip(), MONO)
    code = code if len(code) <= longest else code[: longest - 1] + "…"
    return f"{PurePosixPath(str(row['file'])).name}:{row['line']:.0f} {code}"


def write_below(figure: Figure, table: pd.DataFrame, by: str = "", notes: str = "") -> None:
    """Below a figure, which grows by as much: notes, and the lines of ``name_lines``."""
    said = [*([notes] if notes else []), *name_lines(table, by)]
    if said:
        figure.set_figheight(figure.get_figheight() + len(said) * CODE_LINE * 1.2)
        label = figure.supxlabel(
            "\n".join(said), size=6.5, color="0.3", x=0.01, ha="left", family=MONO
        )
        label.set_linespacing(1.3)


def name_lines(table: pd.DataFrame, by: str = "") -> list[str]:
    """The lines of code that compute what a figure is about, one text for each.

    Args:
        table: its columns file, line and code name the lines; without these none is named. Where a
            row's ``computing`` names lines, it is these.
        by: a column; its values stand before the lines that are theirs.
    """
    if not {"file", "line", "code"} <= {*table}:
        return []
    named: dict[str, list[str]] = {}
    rows = table[table["line"].notna()].drop_duplicates(["file", "line", *([by] * bool(by))])
    for row in rows.to_dict("records"):
        texts = [drawable(text, MONO)[:CODE_COLUMNS] for text in row.get("computing", ())]
        for text in texts or [place_and_code(row, CODE_COLUMNS - 30)]:
            whose = named.setdefault(text, [])
            whose += [str(row[by])] if by else []
    lines = [f"{', '.join(whose)}: {line}" if whose else line for line, whose in named.items()]
    if len(lines) > LINES_NAMED:
        left = len(lines) - LINES_NAMED + 1
        lines = [*lines[: LINES_NAMED - 1], f"… and {left} other lines"]
    return lines


def finish_layout(figure: Figure) -> None:
    """Lay the figure out, once: each of its formats would else do it again."""
    figure.draw_without_rendering()
    if fit_ticks(figure):
        for _ in range(2):  # an axis' name finds its place after the labels have theirs
            figure.draw_without_rendering()
    figure.set_layout_engine("none")


def centred(values: pd.Series, at_least: float = 0.0) -> Normalize:
    """A scale with zero in its middle."""
    reach = max(float(values.abs().max()), at_least) or 1.0
    return Normalize(-reach, reach)
