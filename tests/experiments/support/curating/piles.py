"""A small pile of real text, with exact and near duplicates."""

from pydoc_data.topics import topics

from interp.curation import Document, make_document

ORIGINALS, SIZE = 24, 1500


def small_pile() -> list[Document]:
    """Stretches of Python's documentation; every second has a copy, every third a near copy. One
    document more holds an address."""
    texts = [text for _, text in sorted(topics.items()) if len(text) > SIZE + 300]
    pile = []
    for number, text in enumerate(texts[:ORIGINALS]):
        body = text[100 : 100 + SIZE]
        pile.append(make_document(f"a/{number}.txt", body))
        if number % 2 == 0:
            pile.append(make_document(f"b/{number}.txt", body))
        if number % 3 == 0:
            pile.append(make_document(f"c/{number}.txt", f"{body}\nLast changed on a Monday.\n"))
    pile.append(
        make_document("d/mail.txt", f"Write to jane.roe@example.org.\n{texts[ORIGINALS][:SIZE]}")
    )
    return pile
