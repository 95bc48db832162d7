"""What does the model write, and what without a line or a part of it?

The same prompt, continued by the model as it is and by each variant on the same random numbers,
side by side; characters that differ from the original's at the same place are marked. Beside each
text stands what was counted in all the variant's samples, with intervals.

    WritingView("What each model writes", samples, compared, baseline="none")
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, ClassVar, NamedTuple

import pandas as pd

from interp.samples import MEASURES, Measure
from interp.samples.comparing import TRAININGS
from interp.verdicts import FEWEST, Verdict, verdict_of

PROMPTS = 3  # that are shown; the first is open
VARIANTS = 9  # that are shown, the model as it is among them
BESIDE = ("trigram_loss", "known_words", "longest_copy")  # measures beside each text

WORDS = {
    Verdict.RAISES: "higher",
    Verdict.LOWERS: "lower",
    Verdict.NOT_SHOWN: "no difference shown",
    Verdict.UNKNOWN: "not known",
    Verdict.NONE: "no difference",
}


@dataclass(frozen=True)
class WritingView:
    """Texts of the model as it is and of its variants.

    Attributes:
        title: its heading.
        samples: ``variant prompt seed text detail``, the model as it is first or anywhere.
        compared: what ``compare_samples`` gives.
        baseline: what the model as it is is called among the variants.
        labels: what else to say of a variant, such as its line.
        learning: ``variant step sample``, what each wrote while it was trained.
        original: what the baseline is, where it is not the model that the others are variants of:
            models of different kinds write different texts, in which no place is marked.
        elsewhere: where the texts of variants stand that are not shown here, in words.
    """

    template: ClassVar[str] = "writing.html.j2"
    wide: ClassVar[bool] = True

    title: str
    samples: pd.DataFrame
    compared: pd.DataFrame
    baseline: str
    labels: Mapping[str, str] = field(default_factory=dict)
    learning: pd.DataFrame | None = None
    original: str = ""
    elsewhere: str = ""

    def context(self) -> dict[str, Any]:
        return {
            "prompts": [self.continued(prompt) for prompt in self.prompts],
            "measures": MEASURES,
            "counted": self.counted(),
            "learning": self.learned(),
            "marked": not self.original,
            "over": self.over,
            "left_out": self.samples["variant"].nunique() - len(self.variants),
            "elsewhere": self.elsewhere,
        }

    @property
    def prompts(self) -> list[str]:
        return list(self.samples["prompt"].drop_duplicates()[:PROMPTS])

    @property
    def variants(self) -> list[str]:
        """Those that are shown, the model as it is first."""
        return list(dict.fromkeys([self.baseline, *self.samples["variant"]]))[:VARIANTS]

    @property
    def over(self) -> str:
        """What the means and intervals are over."""
        original = self.original or "the model as it is"
        prompts, seeds = (self.samples[name].nunique() for name in ("prompt", "seed"))
        texts = f"{prompts} prompts"
        if set(self.compared["over"]) == {TRAININGS}:
            trainings = self.samples["training"].nunique()
            said = (
                f"Numbers are means over {texts} and {trainings} trainings, with the difference to "
                f"{original}"
            )
            if trainings < FEWEST:
                return f"{said}; trainings are what differs, and {trainings} give no interval."
            return (
                f"{said}, its 95 % interval over trainings, of which each counts once, and whether "
                "that is a difference, corrected for all that was counted (Holm)."
            )
        if seeds > 1:
            texts += f" and {seeds} seeds of the random numbers"
        return (
            f"Numbers are means over {texts}, with the difference to {original}, its 95 % interval "
            "over these, paired, and whether that is a difference, corrected for all that was "
            "counted (Holm); all texts are of one training, and what another would write is not in "
            "the interval."
        )

    def continued(self, prompt: str, variants: Sequence[str] = ()) -> "Continued":
        """One prompt, with what each variant (by default those shown) writes after it with the
        first seed."""
        rows = self.samples[self.samples["prompt"] == prompt].drop_duplicates("variant")
        by_variant: dict[Any, dict[Any, Any]] = rows.set_index("variant").to_dict("index")
        whole = str(by_variant[self.baseline]["text"]) if self.baseline in by_variant else ""
        texts = []
        for variant in (name for name in variants or self.variants if name in by_variant):
            row = by_variant[variant]
            text = str(row["text"])
            alike = [at < len(whole) and one == whole[at] for at, one in enumerate(text)]
            original = variant == self.baseline or not whole or bool(self.original)
            agrees = len(text) if original or all(alike) else alike.index(False)
            texts.append(
                Text(
                    variant,
                    "the model as it is"
                    if variant == self.baseline and not self.original
                    else self.labels.get(variant, ""),
                    pieces(text, [True] * len(text) if original else alike),
                    "" if original else parts_at(agrees, len(text)),
                    str(row.get("detail", "")),
                    [cell for cell in self.cells_of(variant) if cell.name in BESIDE],
                )
            )
        return Continued(prompt, texts)

    def cells_of(self, variant: str) -> list["MeasureCell"]:
        rows = self.compared[self.compared["variant"] == variant].to_dict("records")
        found = {row["measure"]: row for row in rows}
        return [
            measure_cell(one, found[one.name], variant == self.baseline)
            for one in MEASURES
            if one.name in found
        ]

    def counted(self) -> list[tuple[str, list["MeasureCell"]]]:
        """What was counted, variant by variant."""
        return [(name, cells) for name in self.variants if (cells := self.cells_of(name))]

    def learned(self) -> list[tuple[str, list[tuple[int, str]]]]:
        """What each variant wrote, evaluation by evaluation."""
        if self.learning is None:
            return []
        return [
            (str(variant), list(zip(rows["step"].astype(int), rows["sample"], strict=True)))
            for variant, rows in self.learning.groupby("variant", sort=False)
        ]


class Text(NamedTuple):
    """What one variant wrote, in stretches that are as the original's or not."""

    variant: str
    label: str
    pieces: list[tuple[bool, str]]
    said: str
    detail: str
    cells: list["MeasureCell"]


class Continued(NamedTuple):
    """A prompt and what follows it."""

    prompt: str
    texts: list[Text]


class MeasureCell(NamedTuple):
    """A number of a variant's samples, and how it differs from the original's."""

    name: str
    title: str
    value: str
    difference: str
    verdict: str
    is_effect: bool


def pieces(text: str, alike: Sequence[bool]) -> list[tuple[bool, str]]:
    """A text in stretches of characters that are alike, or are not."""
    pairs = groupby(zip(alike, text, strict=True), key=lambda pair: pair[0])
    return [(kept, "".join(one for _, one in group)) for kept, group in pairs]


def parts_at(agrees: int, length: int) -> str:
    if agrees == length:
        return "the same text"
    return f"parts from the original at character {agrees + 1}" if agrees else "parts at once"


def measure_cell(measure: Measure, row: Mapping[Any, Any], original: bool) -> MeasureCell:
    value = measured_number(measure, row["value"])
    if original or math.isnan(row["delta"]):
        return MeasureCell(measure.name, measure.title, value, "", "", False)
    verdict = verdict_of(row)
    difference = measured_number(measure, row["delta"], sign="+")
    if math.isfinite(row["ci_low"]):
        ends = (measured_number(measure, row[end], sign="+") for end in ("ci_low", "ci_high"))
        difference += f" ({' to '.join(ends)})"
    said = WORDS[verdict]
    if verdict is Verdict.NOT_SHOWN and (row["ci_low"] > 0 or row["ci_high"] < 0):
        said += " once corrected"
    return MeasureCell(measure.name, measure.title, value, difference, said, verdict.is_effect)


def measured_number(measure: Measure, value: float, sign: str = "") -> str:
    """A number in the measure's unit: shares of samples in percent."""
    if math.isnan(value):
        return "nothing to count"
    if measure.unit == "characters":
        return f"{value:{sign}.1f}"
    if measure.unit:
        return f"{value:{sign}.3f}"
    return f"{100 * value:{sign}.1f} %"
