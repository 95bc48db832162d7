"""How do the labels of ticks never stand on each other, whatever the tokens are?

    figure.draw_without_rendering()
    changed = fit_ticks(figure)

Labels that would meet are turned (along x), then made smaller, and at last only some are shown.
"""

import itertools

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator
from matplotlib.transforms import Bbox

SMALLEST = 4.0  # points
ROOM = 0.2  # of a label's extent, which is blank: it has a line's height, whatever is written


def fit_ticks(figure: Figure) -> bool:
    """Change labels that meet, in a figure that is laid out; whether any was changed.

    Only labels that were given one by one are: those of a scale are matplotlib's own affair.
    """
    changed, taller = False, 0.0  # pixels
    for axes in figure.axes:
        if not axes.axison:
            continue
        for axis, across in ((axes.xaxis, True), (axes.yaxis, False)):
            labels = [label for label in axis.get_ticklabels() if label.get_visible()]
            if isinstance(axis.get_major_locator(), FixedLocator) and meet(labels, across):
                before = tallest(labels)
                fit_axis(axis, labels, across)
                taller = max(taller, tallest(labels) - before) if across else taller
                changed = True
    if taller:
        figure.set_figheight(figure.get_figheight() + taller / figure.dpi)
    return changed


def fit_axis(axis: Axis, labels: list[Text], across: bool) -> None:
    if across:
        rename(axis, [flat(label.get_text()) for label in axis.get_ticklabels()])
        for label in labels:
            label.set(rotation=90, va="top", ha="center", text=flat(label.get_text()))
    size = float(labels[0].get_fontsize())
    while meet(labels, across) and size > SMALLEST:
        size = max(SMALLEST, 0.85 * size)
        for label in labels:
            label.set_fontsize(size)
    every = 1
    while meet(labels[::every], across):
        every += 1
    if every > 1:
        texts = [label.get_text() for label in axis.get_ticklabels()]
        rename(axis, [text if place % every == 0 else "" for place, text in enumerate(texts)])


def tallest(labels: list[Text]) -> float:
    return max(float(label.get_window_extent().height) for label in labels)


def rename(axis: Axis, texts: list[str]) -> None:
    axis.set_major_formatter(FixedFormatter(texts))


def flat(text: str) -> str:
    """A label of several lines on one, to be turned."""
    return text.replace("\n↓\n", "→").replace("\n", " ")


def meet(labels: list[Text], across: bool) -> bool:
    """Whether two neighbours stand on each other."""
    boxes = [label.get_window_extent() for label in labels if label.get_text().strip()]
    spans = sorted(span_of(box, across) for box in boxes)
    return any(
        end - start > ROOM * min(end - begin, stop - start)
        for (begin, end), (start, stop) in itertools.pairwise(spans)
    )


def span_of(box: Bbox, across: bool) -> tuple[float, float]:
    low, high = (box.x0, box.x1) if across else (box.y0, box.y1)
    return float(low), float(high)
