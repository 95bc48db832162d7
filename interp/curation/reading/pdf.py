"""What text is in a PDF?"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from interp.curation.reading.encodings import NoTextError


def text_of_pdf(data: bytes, at_most: int) -> str:
    """The text of all pages, by pypdf, an empty line between two.

    Args:
        at_most: characters.

    Raises:
        NoTextError: a PDF that is broken, that asks for a password, or whose pages hold no text.
    """
    with silent_pypdf():
        try:
            reader = PdfReader(BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise NoTextError("is an encrypted PDF that asks for a password")
            pages: list[str] = []
            left = at_most
            for page in reader.pages:
                pages.append(page.extract_text())
                left -= len(pages[-1])
                if left < 0:
                    raise NoTextError(f"is a PDF with more than {at_most} characters of text")
        except NoTextError:
            raise
        except DependencyError:
            raise NoTextError(
                "is an encrypted PDF, which needs more than is installed: pip install "
                "'pypdf[crypto]'"
            ) from None
        except Exception as error:  # of whatever kind: a broken file leads it astray anywhere
            told = " ".join(str(error).split())[:100] if isinstance(error, PyPdfError) else ""
            told = told or type(error).__name__
            raise NoTextError(f"is a broken PDF ({told})") from None
    if not any(page.strip() for page in pages):
        raise NoTextError(
            f"is a PDF without text: its {len(pages)} page{'s' * (len(pages) != 1)} may be "
            "pictures of text"
        )
    return "\n\n".join(page for page in pages if page.strip())


@contextmanager
def silent_pypdf() -> Iterator[None]:
    """Without pypdf's own messages: what it cannot read is said in a sentence of ours."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
