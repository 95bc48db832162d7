"""What is trained on, and what is validated on."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from interp.curation.documents import Document
from interp.curation.near import cluster_documents
from interp.curation.passages import find_sharing
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
    """Put whole documents aside to validate on, and train on nothing that stands in them.

    A document is drawn with all its near duplicates, in an order that the seed decides, until those
    drawn hold the share of characters asked for. What has a passage in common with one of them is
    left out of what is trained on, as evaluations are kept clean (Brown et al. 2020, appendix C).
    The order of the documents says nothing.

    Args:
        val_share: of the characters, 0 to 1.
        seed: of the draw.
        by: ``document`` draws each document by itself, and leaves nothing out: its copies may then
            be trained on.
        similar: how similar near duplicates are, where no step before has found them.
        passage: characters of a passage, word for word; 0 leaves nothing out.

    Raises:
        UsageError: a share that leaves a part nothing.
    """
    if not 0 < val_share < 1:
        raise UsageError(f"val_share is {val_share}; it must lie between 0 and 1")
    clusters = clusters_known(documents, similar) if by == "cluster" else {}
    sizes: Counter[str] = Counter()
    for document in documents:
        sizes[clusters.get(document.id, document.id)] += len(document.text)
    val = draw_groups(sizes, val_share * sizes.total(), seed)
    known: dict[str, str] = {}
    if by == "cluster" and passage:
        aside = {id for id, cluster in clusters.items() if cluster in val}
        known = find_sharing(documents, aside, at_least=passage)
    for document in documents:
        cluster = clusters.get(document.id, document.cluster)
        if clusters.get(document.id, document.id) in val:
            yield document.about(split=VAL, cluster=cluster)
        elif document.id in known:
            reason = f"has a passage in common with {known[document.id]}, which is validated on"
            yield document.about(cluster=cluster).drop(reason)
        else:
            yield document.about(split=TRAIN, cluster=cluster)


def draw_groups(sizes: Mapping[str, int], wanted: float, seed: int) -> set[str]:
    """Groups that hold about so many characters; at least one."""
    drawn: set[str] = set()
    taken = 0
    for group in sorted(sizes, key=lambda group: draw_key(group, seed)):
        if taken + sizes[group] / 2 <= wanted:
            drawn.add(group)
            taken += sizes[group]
    return drawn or {min(sizes, key=lambda group: (sizes[group], group))} if sizes else drawn


def clusters_known(documents: Iterable[Document], similar: float) -> dict[str, str]:
    """For each document's id its cluster, computed where a step before has not."""
    known = {document.id: document.cluster for document in documents}
    return known if all(known.values()) else cluster_documents(documents, similar=similar)


def draw_key(name: str, seed: int) -> bytes:
    """Where something stands in an order that a seed decides."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
