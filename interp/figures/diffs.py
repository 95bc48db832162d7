"""How is a cut shown in a figure: as a diff, and as the lines that it names?"""

from matplotlib.axes import Axes

from interp.figures.style import CODE, CODE_COLUMNS, MONO, drawable

DIFF_LINES = 60  # the most lines of a diff that a figure shows
DIFF_TINTS = {"+": "#d6e8f7", "-": "#f7d9bd", "@": "#ededed"}  # told apart by lightness too


def draw_diff(axes: Axes, diff: list[str]) -> None:
    """A diff as monospaced text, lines taken out and put in told by sign, tint and lightness."""
    axes.set_axis_off()
    axes.set_ylim(len(diff), 0)
    for line, text in enumerate(diff):
        kind = "@" if text.startswith(("---", "+++")) and line < 2 else text[:1]
        if kind in DIFF_TINTS:
            axes.axhspan(line, line + 1, color=DIFF_TINTS[kind], linewidth=0)
        axes.text(0.005, line + 0.5, text, font=CODE, va="center")


def diff_lines(diff: str) -> list[str]:
    """A diff's lines, cut to what a figure can show."""
    if diff == "":
        return ["(no edit: the model as it is)"]
    shown = [
        line if len(line) <= CODE_COLUMNS else line[: CODE_COLUMNS - 1] + "…"
        for line in drawable(diff, MONO).splitlines()
    ]
    if len(shown) <= DIFF_LINES:
        return shown
    return [*shown[:DIFF_LINES], f"… {len(shown) - DIFF_LINES} lines more"]
