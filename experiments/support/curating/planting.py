"""Which sentences are planted in a pile, to see what a model learns by heart of it?

    pile, planted = plant_canaries(documents, seed=0)

A canary is a sentence with a number that was drawn (Carlini et al. 2019). Some go into one document
each; some into a short document of which a hundred copies are added to the pile, for what stands
somewhere often is what is learned; and some nowhere: what a model expects of those is what it
guesses. They are planted before any step runs, so that steps meet them as they meet everything
else, and every table that tells of them says that they were planted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from interp.curation import Document, make_document
from interp.memorising import Canary

SINGLE, COPIED, NEVER = "in one document", "in 100 copies of a document", "nowhere"
COPIES = 100
COUNTS = {COPIED: 3, SINGLE: 6, NEVER: 6}  # canaries of each way of planting
DIGITS = 3  # of a number: 1,000 could have stood there
SHORTEST = 400  # characters of a document that gets one
BEGINNING = 250  # characters of a document that copies begin with
THINGS = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "ivory"),
    *("jade", "kelp", "lilac", "maple", "north", "olive"),
)


@dataclass(frozen=True)
class Planted:
    """A canary and where it was planted.

    Args:
        canary: the sentence.
        how: in one document, in copies of one, or nowhere.
        sources: of the documents that hold it.
    """

    canary: Canary
    how: str
    sources: tuple[str, ...] = ()


def plant_canaries(
    documents: Sequence[Document], seed: int = 0
) -> tuple[list[Document], list[Planted]]:
    """The documents with canaries in some and with the copies after them, and what was planted.

    A pile of few documents gets fewer.
    """
    generator = np.random.default_rng(seed)
    suited = [n for n, one in enumerate(documents) if len(one.text) >= SHORTEST]
    drawn = [suited[at] for at in generator.permutation(len(suited))]
    made, planted, things = list(documents), list[Planted](), iter(THINGS)
    for how, count in COUNTS.items():
        for _ in range(count):
            secret = "".join(str(digit) for digit in generator.integers(10, size=DIGITS))
            canary = Canary(f"The {next(things)} box holds number ", secret)
            share, sources = float(generator.random()), list[str]()
            if how != NEVER:
                if not drawn:
                    continue
                place = drawn.pop()
                if how == SINGLE:
                    made[place] = with_sentence(made[place], f"{canary.text}.", share)
                    sources = [made[place].source]
                else:
                    copies = copies_of(documents[place], canary)
                    made += copies
                    sources = [copy.source for copy in copies]
            planted.append(Planted(canary, how, tuple(sources)))
    return made, planted


def with_sentence(document: Document, sentence: str, share: float) -> Document:
    """A document with a sentence as a line of its own, about that share of its lines down."""
    lines = document.text.split("\n")
    lines.insert(round(share * len(lines)), sentence)
    return replace(document, text="\n".join(lines))


def copies_of(document: Document, canary: Canary) -> list[Document]:
    """A hundred short documents that are the same: how another one begins, and a canary."""
    text = f"{document.text[:BEGINNING].rstrip()}\n{canary.text}.\n"
    name = canary.before.split()[1]
    return [make_document(f"planted/{name}-{number:03d}.txt", text) for number in range(COPIES)]
