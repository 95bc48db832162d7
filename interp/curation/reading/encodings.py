"""Which characters do a file's bytes stand for?

A byte order mark decides; else UTF-8 where it fits; else what charset-normalizer finds. A file that
is UTF-8 in some lines and in others is not is read line by line.
"""

import codecs
import unicodedata

from charset_normalizer import CharsetMatches, from_bytes

MARKS = (  # UTF-32 before UTF-16, whose marks begin alike
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLE = 100_000  # bytes that are guessed from
CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
MOST_CONTROL = 0.05  # of the bytes of a text
MOST_ODD = 0.01  # of the characters of a text
PRINTABLE = bytes({0, *b"\t\n\v\f\r", *range(32, 127)})
ALL_LATIN = 0.9  # of the units of UTF-16 in a text of Latin letters alone
LEAST_LATIN = 0.02  # of the units of UTF-16: spaces, line ends, digits
MANY_BYTES = ("big5", "cp932", "cp949", "euc", "gb", "hz", "iso2022", "johab", "shift")
"""Encodings in which a character of other scripts has several bytes, and some lines look like
UTF-8."""

MUCH_USED = ("cp1252", "cp1251", "cp1250", "iso8859_2", "koi8_r")


class NoTextError(ValueError):
    """Bytes that are no text. The message says why, as the end of a sentence."""


def decode_text(data: bytes) -> tuple[str, str]:
    """The characters of some bytes, and the name of their encoding.

    Raises:
        NoTextError: no encoding fits, or what they are is no text.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), encoding.removesuffix("-sig")
            except UnicodeDecodeError as error:
                raise NoTextError(
                    f"begins as {encoding.removesuffix('-sig').upper()} and is not: "
                    f"{error.reason} at byte {error.start}"
                ) from None
    if b"\0" in data:
        return decode_wide(data)
    if len(data) - len(data.translate(None, CONTROL)) > MOST_CONTROL * len(data):
        raise NoTextError("is no text: too many control characters")
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return decode_foreign(data)


def decode_wide(data: bytes) -> tuple[str, str]:
    """Bytes with zeros among them: UTF-32 or UTF-16 without a mark, or no text."""
    for encoding in ("utf-32-le", "utf-32-be"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, encoding
    plain = not data.translate(None, PRINTABLE)  # else strings between zeros would be Chinese
    least = (ALL_LATIN if plain else LEAST_LATIN) * (len(data) // 2)
    for encoding, high, low in (
        ("utf-16-le", data[1::2], data[0::2]),
        ("utf-16-be", data[0::2], data[1::2]),
    ):
        if high.count(0) > least and high.count(0) > 2 * low.count(0):
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            if sum(map(is_odd, text[:SAMPLE])) <= MOST_ODD * min(len(text), SAMPLE):
                return text, encoding
    raise NoTextError("is no text: it holds zero bytes")


def is_odd(character: str) -> bool:
    """Whether a character is none that texts have: not assigned, private or of control."""
    return unicodedata.category(character)[0] == "C" and character not in "\t\n\v\f\r\u200b\ufeff"


def decode_foreign(data: bytes) -> tuple[str, str]:
    """Bytes that are not UTF-8 as a whole."""
    lines = data.splitlines(keepends=True)
    fits = [is_utf8(line) for line in lines]
    odd = [line for line, fit in zip(lines, fits, strict=True) if not fit]
    mixed = any(fit and not line.isascii() for line, fit in zip(lines, fits, strict=True))
    matches = from_bytes(b"".join(odd)[:SAMPLE])
    for encoding in encodings_by_rank(matches):
        try:
            if not mixed or encoding.startswith(MANY_BYTES):
                return data.decode(encoding), encoding
            parts = zip(lines, fits, strict=True)
            read = [line.decode("utf-8" if fit else encoding) for line, fit in parts]
            return "".join(read), f"utf-8 and {encoding}"
        except UnicodeDecodeError:
            continue
    raise NoTextError("is no text in any encoding that is known")


def is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def encodings_by_rank(matches: CharsetMatches) -> list[str]:
    """The encodings that charset-normalizer finds, best first.

    Among those that are nearly as good as the best, the ones that are much used come first: in a
    short text others often read nearly the same.
    """
    best = matches.best()
    if best is None:
        return []
    alike = {
        name
        for match in matches
        if match.chaos <= best.chaos + 0.1 and match.coherence >= best.coherence - 0.02
        for name in (match.encoding, *match.could_be_from_charset)
    }
    return [*(name for name in MUCH_USED if name in alike), *(m.encoding for m in matches)]
