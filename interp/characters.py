"""Which characters cannot be shown as they are?

Code, prompts and labels hold anything: control characters that a terminal or a page would obey,
marks that reorder the line around them, lone surrogates that no file can hold. Shown as the escapes
Python would write, they can be read and do nothing.

    visible("a\\x1b[31mb")     # the eight characters \\x1b[31m between a and b, harmless
    mark_spaces(" ")               # ␣: for a tick label, where a blank would look like none
    shorten_text("Ġinternationalization", 10)        # Ġinternat…
"""

import re
from unicodedata import east_asian_width

# controls but for newline and tab; marks that reorder text; line separators; surrogates
UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    """``text`` with whatever would not show, or would act, written as an escape.

    Examples:
        >>> print(visible("a\\x1b[31mb"))
        a\\x1b[31mb
    """
    return UNSHOWABLE.sub(lambda match: escape(match[0]), text)


MARKS = {" ": "␣", "\n": "⏎", "\t": "⇥"}


def mark_spaces(text: str) -> str:
    """``visible`` text in which spaces, newlines and tabs are signs too."""
    return "".join(MARKS.get(character) or visible(character) for character in text)


def escape(character: str) -> str:
    """The character as Python's ``repr`` would write it."""
    return character.encode("unicode_escape").decode()


def width_of(text: str) -> int:
    """In letters of a monospaced font; Chinese characters and emoji take two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def shorten_text(text: str, letters: int) -> str:
    """Text that is at most so wide; what is cut off leaves an ellipsis."""
    if width_of(text) <= letters:
        return text
    kept = ""
    for character in text:
        if width_of(kept + character) >= letters:
            break
        kept += character
    return f"{kept}…"
