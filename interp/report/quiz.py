"""Which line was it: can a reader tell the cut from what it did?

Each question shows what a cut did, a learning curve, the bars of an ablation, or a text that the
cut model wrote, without a name; the reader picks the line, among a handful or anywhere in the
source. The page gives a hint where asked, says whether the line was right and why, and keeps score
in the reader's own browser. For a class there is a worksheet without answers, and a key to it.

    quiz = Quiz(questions, source)
    worksheet(quiz)    # a part that can be handed out
    answer_key(quiz)   # a part that had better not

The order of the questions tells nothing: it is that of a hash.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, ClassVar, NamedTuple

import numpy as np

from interp.characters import visible
from interp.errors import UsageError
from interp.report.page import harmless
from interp.report.vocabulary import functions_of
from interp.report.writing import Continued

WIDTH, HEIGHT = 480.0, 240.0  # of a drawing, in its own units
LEFT, RIGHT, BOTTOM, TOP = 44.0, 64.0, 30.0, 8.0  # margins; that at the right names the levels
LABEL = 12.0  # from one name of a level to the next
OFFERED = 5  # lines to choose from
COARSE = 0.1  # nats: effects are told in such steps, for exact ones are found by a search


class Curve(NamedTuple):
    """A loss over training steps; ``low`` and ``high`` bound its band where there are seeds."""

    steps: Sequence[float]
    losses: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class EffectBar(NamedTuple):
    """An effect in nats with its interval, if it has one (else NaN), and its verdict in words."""

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    said: str = ""


@dataclass(frozen=True)
class Question:
    """What one cut did, and which lines it cut.

    Attributes:
        lines: any of them is a right answer.
        why: why these numbers speak of this line.
        diff: the edit.
        curve: validation loss of the cut model.
        whole: that of the model as it is.
        levels: losses to compare with, by name, such as n-gram entropies.
        bars: what the cut does to the loss.
        wrote: a text of the model as it is, and one of the cut model.
        surgery: the cut's id; it is not shown.
    """

    lines: Sequence[int]
    why: str
    diff: str
    curve: Curve | None = None
    whole: Curve | None = None
    levels: Sequence[tuple[str, float]] = ()
    bars: Sequence[EffectBar] = ()
    wrote: Continued | None = None
    surgery: str = ""


@dataclass(frozen=True)
class Quiz:
    """Questions about the lines of one file.

    Attributes:
        questions: in any order.
        file: what the source is called.
        source: its lines.
        choices: numbers of lines worth offering beside a right one; each question offers a handful.
        title: its heading.
    """

    template: ClassVar[str] = "quiz.html.j2"
    wide: ClassVar[bool] = True

    questions: Sequence[Question]
    file: str
    source: Sequence[str]
    choices: Sequence[int] = ()
    title: str = "Which line was it?"

    def __post_init__(self) -> None:
        lines = [*self.choices, *(line for question in self.questions for line in question.lines)]
        if wrong := [line for line in lines if not 1 <= line <= len(self.source)]:
            raise UsageError(f"{self.file} has {len(self.source)} lines, and none is {wrong[0]}")
        if not self.questions or not all(question.lines for question in self.questions):
            raise UsageError("a quiz takes questions, each with a line that is the answer")

    def context(self) -> dict[str, Any]:
        questions = shuffled(self.questions)
        functions = functions_of("\n".join(self.source))
        return {
            "questions": [
                (one, [(line, self.source[line - 1].strip()) for line in self.offered(question)])
                for one, question in zip(drawn(questions, exact=False), questions, strict=True)
            ],
            "file": self.file,
            "source": numbered(self.source),
            "data": {
                "name": self.name,
                "answers": [veiled(question, functions) for question in questions],
            },
        }

    @property
    def name(self) -> str:
        """Tells these questions from others, in the score that a reader saves."""
        return digest_of_texts(self.file, *(one.diff for one in shuffled(self.questions)))[:16]

    def offered(self, question: Question) -> list[int]:
        """A right line and others that might be it, in the order of the source.

        Half of the others stand near the right one, so that knowing the function is not enough;
        which they are is a hash's choice. A line that reads as a right one does is not offered.
        """

        def code(line: int) -> str:
            return self.source[line - 1].strip()

        def drawn_lot(line: int) -> str:
            return digest_of_texts(question.diff, str(line))

        right = min(question.lines, key=drawn_lot)
        answers = {code(line) for line in question.lines}
        others = {*self.choices, *(line for one in self.questions for line in one.lines)}
        lots = {code(line): line for line in sorted(others, key=drawn_lot)}  # one of those alike
        rest = sorted((line for text, line in lots.items() if text not in answers), key=drawn_lot)
        near = sorted(rest, key=lambda line: abs(line - right))[: OFFERED // 2]
        far = [line for line in rest if line not in near]
        return sorted([right, *near, *far[: OFFERED - 1 - len(near)]])


@dataclass(frozen=True)
class Worksheet:
    """The questions on paper, with room for the answers and nothing that gives them away."""

    template: ClassVar[str] = "worksheet.html.j2"

    questions: Sequence[Question]
    file: str
    source: Sequence[str]
    answers: bool = False
    title: str = "Which line was it?"

    def context(self) -> dict[str, Any]:
        questions = shuffled(self.questions)
        return {
            "questions": drawn(questions, exact=True),
            "file": self.file,
            "source": () if self.answers else numbered(self.source),
            "answers": [
                {
                    "lines": [(line, self.source[line - 1].strip()) for line in question.lines],
                    "why": question.why,
                    "diff": question.diff,
                }
                for question in questions
            ]
            if self.answers
            else (),
        }


def worksheet(quiz: Quiz) -> Worksheet:
    return Worksheet(quiz.questions, quiz.file, quiz.source)


def answer_key(quiz: Quiz) -> Worksheet:
    title = f"{quiz.title} The answers"
    return Worksheet(quiz.questions, quiz.file, quiz.source, answers=True, title=title)


def shuffled(questions: Iterable[Question]) -> list[Question]:
    """The same order every time, of which nobody can tell anything."""
    return sorted(
        questions, key=lambda one: digest_of_texts(*filter(None, [one.diff, text_of_question(one)]))
    )


def text_of_question(question: Question) -> str:
    """The texts of a question; empty where it is one of losses."""
    texts = question.wrote.texts if question.wrote else []
    return "".join(piece for text in texts for _, piece in text.pieces)


def digest_of_texts(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def veiled(question: Question, functions: Mapping[int, str]) -> str:
    """The answer, so that neither a glance nor a search of the page finds it."""
    answer = {
        "lines": list(question.lines),
        "hint": hint_of(question, functions),
        "why": question.why,
        "diff": question.diff,
    }
    return base64.b64encode(json.dumps(harmless(answer)).encode()).decode()


def hint_of(question: Question, functions: Mapping[int, str]) -> str:
    """The function that a right line is in; outside of all, the ten lines around it."""
    names = list(dict.fromkeys(functions.get(line, "") for line in question.lines))
    if all(names):
        return f"It is in {' or in '.join(names)}."
    tens = sorted({(line - 1) // 10 for line in question.lines})
    return f"It is in {' or in '.join(f'lines {10 * ten + 1} to {10 * ten + 10}' for ten in tens)}."


def numbered(source: Sequence[str]) -> list[tuple[int, str]]:
    return [(number, visible(code)) for number, code in enumerate(source, 1)]


class Drawn(NamedTuple):
    """A question as the template wants it."""

    name: str
    said: str
    curves: list[tuple[str, str, str]]  # kind, points of the line, points of the band
    levels: list[tuple[str, float, float]]  # name, height in the drawing, height of the name
    x_ticks: list[tuple[str, float]]
    y_ticks: list[tuple[str, float]]
    bars: list["DrawnBar"]
    wrote: Continued | None


class DrawnBar(NamedTuple):
    """A bar in percent of the room there is, from the left."""

    name: str
    value: str
    left: float
    width: float
    low: float | None
    reach: float | None


def drawn(questions: Sequence[Question], exact: bool) -> list[Drawn]:
    """All questions on the same axes: how large an effect is must be seen, not guessed.

    Numbers are ``exact`` where nobody can search for them, on paper.
    """
    axes = CurveAxes.of(questions)
    bars = [value for question in questions for bar in question.bars for value in bar[1:4]]
    finite = [value for value in bars if np.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    return [
        Drawn(
            name=letter(number),
            said=describe_curve(question, exact),
            curves=[
                (kind, axes.points(curve.steps, curve.losses), axes.band(curve))
                for kind, curve in (("whole", question.whole), ("cut", question.curve))
                if curve is not None
            ],
            levels=axes.named_levels(question.levels),
            x_ticks=axes.x_ticks(),
            y_ticks=axes.y_ticks(),
            bars=[drawn_bar(bar, low, high, exact) for bar in question.bars],
            wrote=question.wrote,
        )
        for number, question in enumerate(questions)
    ]


def letter(number: int) -> str:
    """A, B, … Z, AA, AB …"""
    more, last = divmod(number, len(ascii_uppercase))
    return (letter(more - 1) if more else "") + ascii_uppercase[last]


def describe_curve(question: Question, exact: bool) -> str:
    """What is drawn, in words."""
    digits, parts = 3 if exact else 1, []
    for name, curve in (("the cut model", question.curve), ("the model as it is", question.whole)):
        if curve is not None and len(curve.losses):
            parts.append(
                f"{name} goes from {curve.losses[0]:.{digits}f} to {curve.losses[-1]:.{digits}f} "
                f"nats at step {curve.steps[-1]:.0f}"
            )
    return "; ".join(parts)


class CurveAxes(NamedTuple):
    """From steps and nats to a drawing's units."""

    steps: float
    low: float
    high: float

    @staticmethod
    def of(questions: Iterable[Question]) -> "CurveAxes":
        curves = [c for q in questions for c in (q.curve, q.whole) if c is not None]
        losses = [loss for curve in curves for loss in (*curve.losses, *curve.low, *curve.high)]
        finite = [loss for loss in losses if np.isfinite(loss)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        margin = 0.05 * (high - low) or 0.5
        steps = max((curve.steps[-1] for curve in curves if len(curve.steps)), default=1.0)
        return CurveAxes(float(steps) or 1.0, low - margin, high + margin)

    def x(self, step: float) -> float:
        return round(LEFT + step / self.steps * (WIDTH - LEFT - RIGHT), 1)

    def y(self, nats: float) -> float:
        share = (nats - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    def named_levels(self, levels: Sequence[tuple[str, float]]) -> list[tuple[str, float, float]]:
        """Levels that are in the drawing, from the highest; their names beside it, none on another.

        A name is moved down where it would stand on the one above it.
        """
        found: list[tuple[str, float, float]] = []
        for name, nats in sorted(levels, key=lambda level: -level[1]):
            height = self.y(nats)
            if TOP <= height <= HEIGHT - BOTTOM:
                above = found[-1][2] + LABEL if found else 0.0
                found.append((name, height, max(height, above)))
        return found

    def points(self, steps: Sequence[float], losses: Sequence[float]) -> str:
        """Of a polyline; what is not finite is left out."""
        return " ".join(
            f"{self.x(step)},{self.y(loss)}"
            for step, loss in zip(steps, losses, strict=True)
            if np.isfinite(loss)
        )

    def band(self, curve: Curve) -> str:
        if not curve.low:
            return ""
        forth = self.points(curve.steps, curve.high)
        return f"{forth} {self.points(curve.steps[::-1], curve.low[::-1])}"

    def x_ticks(self) -> list[tuple[str, float]]:
        return [(f"{self.steps * share:g}", self.x(self.steps * share)) for share in (0, 0.5, 1)]

    def y_ticks(self) -> list[tuple[str, float]]:
        whole = np.arange(np.ceil(2 * self.low) / 2, self.high, 0.5)
        every = max(1, len(whole) // 5)
        return [(f"{nats:.1f}", self.y(nats)) for nats in whole[::every].tolist()]


def drawn_bar(bar: EffectBar, low: float, high: float, exact: bool) -> DrawnBar:
    def place(value: float) -> float:
        return round(100 * (value - low) / ((high - low) or 1.0), 2)

    ends = np.isfinite([bar.value, bar.low, bar.high])
    text = told_exactly(bar) if exact else told_coarsely(bar.value)
    if bar.said:
        text += f", {bar.said}"
    value = bar.value if ends[0] else 0.0
    return DrawnBar(
        bar.name,
        text,
        left=place(min(value, 0.0)),
        width=abs(place(value) - place(0.0)),
        low=place(bar.low) if ends.all() else None,
        reach=place(bar.high) - place(bar.low) if ends.all() else None,
    )


def told_exactly(bar: EffectBar) -> str:
    if not np.isfinite(bar.value):
        return "no number"
    text = f"{bar.value:+.3f}"
    if np.isfinite([bar.low, bar.high]).all():
        text += f" ({bar.low:+.3f} to {bar.high:+.3f})"
    return text


def told_coarsely(value: float) -> str:
    if not np.isfinite(value):
        return "no number"
    if abs(value) < COARSE:
        return f"less than {COARSE}"
    return f"about {value:+.1f}"
