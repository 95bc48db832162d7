"""How do forms with places in them become documents of which everything is known?

write_forms({"note": "Call <<phone>>."}, {"phone": ("telephone number", maker)}, seed=0, each=4)
"""

import re
from collections.abc import Mapping

import numpy as np

from interp.curation.planted import PlantedDocument, Span
from interp.curation.planted_words import Maker

PLACE = re.compile(r"<<(\w+)>>")
Places = Mapping[str, tuple[str, Maker]]


def write_forms(
    forms: Mapping[str, str], places: Places, seed: int, each: int
) -> list[PlantedDocument]:
    """Each form some times over, with other values each time.

    Args:
        forms: by name, texts with ``<<places>>``.
        places: the kind of what stands there, as the finders name it and empty where it only looks
            private, and what makes it.
    """
    random = np.random.default_rng(seed)
    made = []
    for name, form in forms.items():
        for number in range(each):
            parts: list[str] = []
            spans: dict[bool, list[Span]] = {True: [], False: []}
            length = at = 0
            for place in PLACE.finditer(form):
                kind, maker = places[place[1]]
                before, value = form[at : place.start()], maker(random)
                parts += [before, value]
                length += len(before) + len(value)
                spans[bool(kind)].append(Span(kind or place[1], length - len(value), length))
                at = place.end()
            text = "".join([*parts, form[at:]])
            made.append(
                PlantedDocument(f"{name}/{number}", text, tuple(spans[True]), tuple(spans[False]))
            )
    return made
