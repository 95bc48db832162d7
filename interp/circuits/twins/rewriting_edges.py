"""Which edit of the source hands one reader the other value of one writer?

    surgery = rewrite_edge(lines, edge)
    print(surgery.diff)

The writer's line also notes what it wrote; the reader's reads the stream less that, plus the other
value. Both say of which layer they speak by the module that runs. Where the line that makes a value
stands in a function that does not know its module, or that goes on elsewhere, the next line of the
layer that gives the value a name is edited.
"""

from collections.abc import Callable
from typing import Any

from interp.circuits.graph import Edge
from interp.circuits.twins.handing import read_edge, reader_kind
from interp.circuits.twins.making import EdgeEdits
from interp.circuits.twins.noting import write_edge, writer_kind
from interp.circuits.twins.places import CodeSite, EdgeLines
from interp.errors import SurgeryError
from interp.surgery.source.edits import Surgery


def rewrite_edge(lines: EdgeLines, edge: Edge) -> Surgery:
    """The source edit that is one edge's patch.

    Raises:
        SurgeryError: the model's lines cannot be rewritten so.
    """
    reader, writer = edge.reader, edge.writer
    try:
        read = first_possible(lines, edge, read_edge, reader, reader_kind(reader))
        written = first_possible(lines, edge, write_edge, writer, writer_kind(writer))
        making = EdgeEdits(lines, edge)
        read_edge(making, reader, read)
        write_edge(making, writer, written)
        return making.surgery()
    except SurgeryError as error:
        raise SurgeryError(f"{edge} has no twin in the source: {error}") from None


def first_possible(
    lines: EdgeLines, edge: Edge, rewrite: Callable[..., None], part: Any, kind: str | None
) -> CodeSite | None:
    """The first place of a value where it can be rewritten; None where it has no place.

    Args:
        kind: of ``KINDS``; None where there is none.

    Raises:
        SurgeryError: there is none; why the first cannot be.
    """
    if kind is None:
        return None
    key = (rewrite.__name__, kind, part.layer)
    if key not in lines.chosen:
        errors = []
        for site in lines.sites(kind, part.layer):
            try:
                rewrite(EdgeEdits(lines, edge), part, site)
            except SurgeryError as error:
                errors.append(error)
            else:
                lines.chosen[key] = site
                break
        else:
            raise errors[0]
    return lines.chosen[key]
