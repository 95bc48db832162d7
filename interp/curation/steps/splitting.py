"""What is trained on, and what is validated on."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from interp.curation.documents import Document
from interp.curation.near import cluster_documents
from interp.curation.steps.needs import whole_pile
from interp.errors import UsageError

TRAIN, VAL = "train", "val"


@whole_pile
def split_documents(
    documents: Iterable[Document],
    *,
    val_share: float = 0.1,
    seed: int = 0,
    by: Literal["cluster", "document"] = "cluster",
    similar: float = 0.8,
) -> Iterator[Document]:
    """Put whole documents aside to validate on, with all their near duplicates.

    Clusters are drawn in an order that the seed decides, until they hold the share of characters
    asked for. The order of the documents says nothing.

    Args:
        val_share: of the characters, 0 to 1.
        seed: of the draw.
        by: ``document`` draws each document by itself: its copies may then be trained on.
        similar: how similar near duplicates are, where no step before has found them.

    Raises:
        UsageError: a share that leaves a part nothing.
    """
    if not 0 < val_share < 1:
        raise UsageError(f"val_share is {val_share}; it must lie between 0 and 1")
    groups = group_documents(documents, by, similar)
    sizes: Counter[str] = Counter()
    for document in documents:
        sizes[groups[document.id]] += len(document.text)
    val: set[str] = set()
    wanted, taken = val_share * sizes.total(), 0
    for group in sorted(sizes, key=lambda group: draw_key(group, seed)):
        if taken + sizes[group] / 2 <= wanted or not val:
            val.add(group)
            taken += sizes[group]
        if taken >= wanted:
            break
    for document in documents:
        group = groups[document.id]
        cluster = group if by == "cluster" else document.cluster
        yield document.about(split=VAL if group in val else TRAIN, cluster=cluster)


def group_documents(documents: Iterable[Document], by: str, similar: float) -> dict[str, str]:
    """For each document's id, what it is drawn together with."""
    if by == "document":
        return {document.id: document.id for document in documents}
    known = {document.id: document.cluster for document in documents}
    return known if all(known.values()) else cluster_documents(documents, similar=similar)


def draw_key(name: str, seed: int) -> bytes:
    """Where something stands in an order that a seed decides."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
