"""Every text once."""

import hashlib
from collections.abc import Iterable, Iterator

from interp.curation.documents import Document
from interp.curation.near import cluster_documents
from interp.curation.steps.needs import whole_pile


@whole_pile
def drop_exact_duplicates(documents: Iterable[Document]) -> Iterator[Document]:
    """Of documents with the same text to the character, keep the one whose source comes first."""
    first: dict[bytes, tuple[str, str]] = {}
    for document in documents:
        key, place = hash_text(document.text), (document.source, document.id)
        first[key] = min(first.get(key, place), place)
    for document in documents:
        source, id = first[hash_text(document.text)]
        if id == document.id:
            yield document
        else:
            yield document.drop(f"the same as {source}")


@whole_pile
def drop_near_duplicates(
    documents: Iterable[Document], *, similar: float = 0.8, words: int = 5
) -> Iterator[Document]:
    """Of documents that say nearly the same, keep the one whose source comes first.

    By MinHash (Broder 1997), as Lee et al. 2022 do for language models; each pair that it proposes
    is compared in full before it counts.

    Args:
        similar: two documents are near duplicates where their runs of words overlap by this share
            (Jaccard), 0 to 1.
        words: in a run.
    """
    first = cluster_documents(documents, similar=similar, words=words)
    copied = {cluster for id, cluster in first.items() if cluster != id}
    sources = {each.id: each.source for each in documents if each.id in copied}
    for document in documents:
        cluster = first[document.id]
        document = document.about(cluster=cluster)
        if cluster == document.id:
            yield document
        else:
            yield document.drop(f"nearly the same as {sources[cluster]}")


def hash_text(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
