"""Where does each head look, from whichever character the reader asks about?

All heads as small patterns, one of them large, and the text, shaded by the attention that the
chosen character pays to each one before it. Weights are kept in 8 bits, so that 36 heads on 128
characters take less than a megabyte of the page.

    AttentionView.of(run.table("patterns"))
"""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from interp.characters import mark_spaces, shorten_text, width_of
from interp.errors import UsageError

LEVELS = 255
LETTERS = 10  # of a token, beyond which it is shortened
SCALE = (0, 0.05, 0.25, 0.5, 1)  # weights named below the map


@dataclass(frozen=True)
class AttentionView:
    """Every head's pattern on one text.

    Attributes:
        tokens: the text, as each position is called.
        patterns: by layer and head, the share of each query's attention that goes to each key.
        chosen: layer and head of the pattern that is large at first; by default the first.
        title: its heading.
    """

    template: ClassVar[str] = "attention.html.j2"

    tokens: Sequence[str]
    patterns: Mapping[tuple[int, int], Float[np.ndarray, "query key"]]
    chosen: tuple[int, int] | None = None
    title: str = "Attention, head by head"

    def __post_init__(self) -> None:
        length = len(self.tokens)
        wrong = [name for name, pattern in self.patterns.items() if len(pattern) != length]
        if not self.patterns or wrong:
            raise UsageError(f"{length} characters need patterns of as many queries and keys")
        if self.chosen is not None and self.chosen not in self.patterns:
            layer, head = self.chosen
            raise UsageError(f"there is no pattern of head {layer}.{head} to show")

    @staticmethod
    def of(
        table: pd.DataFrame,
        chosen: tuple[int, int] | None = None,
        title: str = "Attention, head by head",
    ) -> "AttentionView":
        """From the table that ``interp.heads.attention_patterns`` gives."""
        queries = table.drop_duplicates("query").sort_values("query")
        length = len(queries)
        patterns = {}
        for name, rows in table.groupby(["layer", "head"]):
            layer, head = cast(tuple[int, int], name)
            pattern = np.zeros((length, length))
            pattern[rows["query"].to_numpy(), rows["key"].to_numpy()] = rows["value"]
            patterns[int(layer), int(head)] = pattern
        return AttentionView(list(queries["query_character"]), patterns, chosen, title)

    def context(self) -> dict[str, Any]:
        names = sorted(self.patterns)
        levels = {name: quantised(self.patterns[name]) for name in names}
        layers: dict[int, list[SmallPattern]] = {}
        for number, (layer, head) in enumerate(names):
            small = SmallPattern(number, f"{layer}.{head}", thumbnail(levels[layer, head]))
            layers.setdefault(layer, []).append(small)
        below = np.tril_indices(len(self.tokens))
        weights = b"".join(levels[name][below].tobytes() for name in names)
        tokens = [Token.of(token) for token in self.tokens]
        return {
            "title": self.title,
            "layers": list(layers.items()),
            "columns": max(len(row) for row in layers.values()),
            "tokens": tokens,
            "letters": max(width_of(token.label) for token in tokens),
            "size": side(len(tokens)),
            "scale": [(f"{weight:g}", round(100 * weight**0.5, 1)) for weight in SCALE],
            "data": {
                "tokens": [token.whole for token in tokens],
                "labels": [token.label for token in tokens],
                "heads": [f"{layer}.{head}" for layer, head in names],
                "chosen": names.index(self.chosen or names[0]),
                "weights": base64.b64encode(weights).decode(),
                "levels": LEVELS,
            },
        }


class Token(NamedTuple):
    """What a position is called: all of it, and so much of it as an axis has room for."""

    whole: str
    label: str

    @staticmethod
    def of(text: str) -> "Token":
        whole = mark_spaces(text)
        return Token(whole, shorten_text(whole, LETTERS))


def side(length: int) -> float:
    """Of the large map, in rem: cells that can be seen, and no more than a screen."""
    return round(min(46.0, max(11.0, min(26.0, 1.6 * length), 0.36 * length)), 1)


class SmallPattern(NamedTuple):
    """A head as the template wants it."""

    number: int
    name: str
    source: str  # data URL


def quantised(pattern: Float[np.ndarray, "query key"]) -> UInt8[np.ndarray, "query key"]:
    """Weights from 0 to 1 in 8 bits; each is off by less than 0.002."""
    return np.rint(np.clip(np.nan_to_num(pattern), 0, 1) * LEVELS).astype(np.uint8)


def thumbnail(levels: UInt8[np.ndarray, "query key"]) -> str:
    """A pattern as a picture, dark where there is attention; by its square root, for most weights
    are small."""
    dark = np.rint(np.sqrt(levels / LEVELS) * 255).astype(np.uint8)
    return f"data:image/png;base64,{base64.b64encode(grey_png(255 - dark)).decode()}"


def grey_png(pixels: UInt8[np.ndarray, "height width"]) -> bytes:
    """A picture in 256 greys, one byte each, 0 black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress(rows, 9)),
            chunk(b"IEND", b""),
        ]
    )
