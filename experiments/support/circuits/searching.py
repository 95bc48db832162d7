"""What is the smallest circuit that can be found on some pairs, beginning with a ranking?

    found = search(values, graph, ranked, level=0.8)

A ranking's first edges are taken until they keep enough of the model's answer. Of these, edges that
nothing reaches, or from which nothing follows, are left out, which changes nothing; then whatever
can be missed, the least needed first, until each edge that is left is needed.
"""

from collections.abc import Callable, Iterable, Sequence

from interp.circuits import Graph
from interp.circuits.together import edges_kept, leave_idle_out

Faithfulness = Callable[[Sequence[Sequence[str]]], Sequence[float]]
"""How faithful circuits are, all at once: 0 is no edge, 1 the model."""


def first_enough(
    faithful: Faithfulness, ranked: Sequence[str], level: float, sizes: Iterable[int]
) -> list[str]:
    """The fewest first edges of a ranking that keep enough, of the sizes tried.

    Sizes are tried in order, and then halves of the last step; a curve that rises and falls between
    two sizes is not followed.
    """
    steps = sorted({0, len(ranked), *(size for size in sizes if size < len(ranked))})
    kept = faithful([ranked[:size] for size in steps])
    high = next((n for n, each in enumerate(kept) if each >= level), len(steps) - 1)
    low, enough = steps[max(high - 1, 0)], steps[high]
    while enough - low > 1:
        middle = (low + enough) // 2
        (value,) = faithful([ranked[:middle]])
        low, enough = (low, middle) if value >= level else (middle, enough)
    return list(ranked[:enough])


def leave_out(
    faithful: Faithfulness,
    graph: Graph,
    circuit: Sequence[str],
    level: float,
    *,
    mean: bool = False,
) -> list[str]:
    """A circuit without what it can miss: no single edge of the answer can be left out without
    falling below the level."""
    kept = connected(graph, circuit, mean=mean)
    while kept:
        tries = [[edge for edge in kept if edge != out] for out in kept]
        values = dict(zip(kept, faithful(tries), strict=True))
        order = sorted(
            (edge for edge in kept if values[edge] >= level), key=lambda edge: -values[edge]
        )
        if not order:
            break
        count = len(order)
        while count > 1:  # the most that can go at once, of halves
            gone = {*order[:count]}
            (value,) = faithful([[edge for edge in kept if edge not in gone]])
            if value >= level:
                break
            count //= 2
        gone = {*order[:count]}
        kept = connected(graph, [edge for edge in kept if edge not in gone], mean=mean)
    return kept


def connected(graph: Graph, circuit: Iterable[str], *, mean: bool = False) -> list[str]:
    """The edges of a circuit that lie on a way from an embedding to the logits within it: what any
    other hands on is what replaces it anyway, or is read by nobody.

    Args:
        mean: whether means replace what is left out. What a part makes of means is not its own
            mean, so that only what nobody reads is then left out.
    """
    edges = [graph.edge(each) for each in circuit]
    nodes = {writer: graph.nodes_of(writer) for writer in graph.writers}
    left = leave_idle_out(graph, edges_kept(graph, [edges]), nodes, consistent=not mean)[0]
    kept = {edge for edge, is_left in zip(graph.edges, left, strict=True) if is_left}
    return [str(edge) for edge in edges if edge in kept]
