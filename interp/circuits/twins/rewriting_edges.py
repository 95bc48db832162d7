"""Which edit of the source hands one reader the other value of one writer?

    surgery = rewrite_edge(lines, edge)
    print(surgery.diff)

The writer's line also notes what it wrote; the reader's reads the stream less that, plus the other
value. Both say of which layer they speak by the module that runs.
"""

from interp.circuits.graph import Edge
from interp.circuits.twins.handing import read_edge
from interp.circuits.twins.making import EdgeEdits
from interp.circuits.twins.noting import write_edge
from interp.circuits.twins.places import EdgeLines
from interp.errors import SurgeryError
from interp.surgery.source.edits import Surgery


def rewrite_edge(lines: EdgeLines, edge: Edge) -> Surgery:
    """The source edit that is one edge's patch.

    Raises:
        SurgeryError: the model's lines cannot be rewritten so.
    """
    making = EdgeEdits(lines, edge)
    try:
        read_edge(making, edge.reader)
        write_edge(making, edge.writer)
        return making.surgery()
    except SurgeryError as error:
        raise SurgeryError(f"{edge} has no twin in the source: {error}") from None
