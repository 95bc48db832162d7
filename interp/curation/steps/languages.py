"""Documents in the languages that the model is to write."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from interp.curation.documents import CODE, Document
from interp.errors import UsageError, nearest

READ = 5000  # characters by which a document is judged
FEWEST_LETTERS = 40
LETTER = re.compile(r"[^\W\d_]")
UNKNOWN = "und"


def filter_languages(
    documents: Iterable[Document], *, keep: Sequence[str] = ("en",), sure: float = 0.5
) -> Iterator[Document]:
    """Keep documents in some languages, and those whose language cannot be told.

    Of source code, of what has fewer than 40 letters, and of what looks like a language without a
    code of two letters (lists of names do), the language is not known. By py3langid (Lui and
    Baldwin 2012) on the first 5,000 characters.

    Args:
        keep: languages as ISO 639-1 names them; empty keeps all, and only notes them.
        sure: below this probability, 0 to 1, a document's language is not known.

    Raises:
        UsageError: a language that it does not know.
    """
    known = [name for name in language_identifier().nb_classes if len(name) == 2]
    if unknown := [name for name in keep if name not in known]:
        raise UsageError(
            f"keep names {unknown[0]!r}, which is no language of two letters that is known; "
            f"nearest: {nearest(unknown[0], known)}"
        )
    for document in documents:
        language = language_of(document, sure)
        document = document.about(language=language)
        if keep and language not in (*keep, UNKNOWN):
            yield document.drop(f"is in another language ({language})")
        else:
            yield document


def language_of(document: Document, sure: float) -> str:
    beginning = document.text[:READ]
    if document.kind == CODE or len(LETTER.findall(beginning)) < FEWEST_LETTERS:
        return UNKNOWN
    name, probability = language_identifier().classify(beginning)
    return str(name) if probability >= sure and len(name) == 2 else UNKNOWN


@cache
def language_identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
