"""What is trained on, and what is validated on."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from interp.curation.documents import Document
from interp.curation.near import cluster_documents
from interp.curation.passages import group_by_passages
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
    passage: int = 100,
) -> Iterator[Document]:
    """Put whole documents aside to validate on, of which nothing stands in what is trained on.

    A document is drawn with its near duplicates, and with all that have a passage in common with
    it. Such groups are drawn in an order that the seed decides, until they hold the share of
    characters asked for; one that is larger is trained on. The order of the documents says nothing.

    Args:
        val_share: of the characters, 0 to 1.
        seed: of the draw.
        by: ``document`` draws each document by itself: its copies may then be trained on.
        similar: how similar near duplicates are, where no step before has found them.
        passage: characters of a passage, word for word; 0 asks for none.

    Raises:
        UsageError: a share that leaves a part nothing; documents that all hang together.
    """
    if not 0 < val_share < 1:
        raise UsageError(f"val_share is {val_share}; it must lie between 0 and 1")
    clusters = clusters_known(documents, similar) if by == "cluster" else {}
    groups = group_documents(documents, clusters, passage if by == "cluster" else 0)
    sizes: Counter[str] = Counter()
    for document in documents:
        sizes[groups[document.id]] += len(document.text)
    if len(sizes) == 1 < len(groups):
        raise UsageError(
            f"the {len(groups)} documents all hang together by near duplicates and passages in "
            f"common, so that none can be put aside: give more documents, or the step split a "
            f"passage longer than {passage}, or 0"
        )
    val = draw_groups(sizes, val_share * sizes.total(), seed)
    for document in documents:
        yield document.about(
            split=VAL if groups[document.id] in val else TRAIN,
            cluster=clusters.get(document.id, document.cluster),
        )


def draw_groups(sizes: Mapping[str, int], wanted: float, seed: int) -> set[str]:
    """Groups that hold about so many characters; at least one."""
    drawn: set[str] = set()
    taken = 0
    for group in sorted(sizes, key=lambda group: draw_key(group, seed)):
        if taken + sizes[group] / 2 <= wanted:
            drawn.add(group)
            taken += sizes[group]
    return drawn or {min(sizes, key=lambda group: (sizes[group], group))} if sizes else drawn


def group_documents(
    documents: Iterable[Document], clusters: Mapping[str, str], passage: int
) -> dict[str, str]:
    """For each document's id, what it is drawn together with: its cluster, if it has one, and what
    has a passage of so many characters in common with it."""
    groups = {document.id: clusters.get(document.id, document.id) for document in documents}
    if not passage:
        return groups
    return join_groups(groups, group_by_passages(documents, at_least=passage))


def clusters_known(documents: Iterable[Document], similar: float) -> dict[str, str]:
    """For each document's id its cluster, computed where a step before has not."""
    known = {document.id: document.cluster for document in documents}
    return known if all(known.values()) else cluster_documents(documents, similar=similar)


def join_groups(groups: Mapping[str, str], links: Mapping[str, str]) -> dict[str, str]:
    """Groups that the links hold together are one. Both name a member for each id."""
    parent = {id: id for id in groups}

    def root(id: str) -> str:
        while parent[id] != id:
            parent[id] = parent[parent[id]]
            id = parent[id]
        return id

    for named in (groups, links):
        for id, other in named.items():
            first, second = sorted((root(id), root(other)))
            parent[second] = first
    return {id: root(id) for id in groups}


def draw_key(name: str, seed: int) -> bytes:
    """Where something stands in an order that a seed decides."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
