"""Which edges a model has follows from what runs before what."""

import pytest

from interp.circuits.graph import Edge, Graph, LayerParts, graph_of_sizes
from interp.errors import UsageError


def counted(layers, heads):
    """The formula: per layer the writers before it for each of three inputs of each head, and for
    the MLP also this layer's heads; all writers for the logits."""
    per_layer = [heads + 1] * layers
    total = 0
    for layer in range(layers):
        before = 1 + sum(per_layer[:layer])
        total += 3 * heads * before + before + heads
    return total + 1 + sum(per_layer)


@pytest.mark.parametrize(
    ("layers", "heads", "edges"), [(6, 6, 2188), (12, 12, 32491), (2, 4, 110), (4, 4, 479)]
)
def test_the_number_of_edges_is_the_published_one(layers, heads, edges):
    graph = graph_of_sizes(layers, heads)
    assert len(graph.edges) == edges == counted(layers, heads)
    assert len(set(graph.edges)) == edges
    assert len(graph.writers) == 1 + layers * (heads + 1)
    assert len(graph.readers) == 1 + layers * (3 * heads + 1)


def test_shared_keys_and_values_are_one_reader_each():
    graph = graph_of_sizes(2, 4, 2)
    names = [str(reader) for reader in graph.readers]
    assert [name for name in names if name.startswith("a0")] == [
        *("a0.h0.q", "a0.h1.q", "a0.h2.q", "a0.h3.q"),
        *("a0.h0.k", "a0.h1.k", "a0.h0.v", "a0.h1.v"),
    ]
    heads = graph.nodes_of(graph.writer("a1.h3"))
    assert [str(reader) for reader in heads] == ["a1.h3.q", "a1.h1.k", "a1.h1.v"]


def test_a_parallel_mlp_does_not_read_its_own_layers_heads():
    one, other = graph_of_sizes(3, 4), graph_of_sizes(3, 4, parallel=True)
    assert {str(edge) for edge in set(one.edges) - set(other.edges)} == {
        f"a{layer}.h{head} -> m{layer}" for layer in range(3) for head in range(4)
    }
    assert set(other.edges) < set(one.edges)


def test_a_model_of_attention_alone_has_no_mlps():
    graph = graph_of_sizes(2, 3, mlp=False)
    assert not [end for end in (*graph.writers, *graph.readers) if str(end).startswith("m")]
    assert len(graph.edges) == 3 * 3 * 1 + 3 * 3 * 4 + 7


def test_heads_that_cannot_be_told_apart_are_one_writer():
    graph = Graph((LayerParts(4, 2, apart=False),) * 2)
    assert [str(writer) for writer in graph.writers] == ["embed", "a0", "m0", "a1", "m1"]
    assert "a0 -> a1.h3.q" in map(str, graph.edges)


def test_the_position_embedding_can_be_a_writer_of_its_own():
    graph = graph_of_sizes(1, 2, split_embed=True)
    assert [str(writer) for writer in graph.writers][:2] == ["embed", "pos_embed"]
    assert len(graph.edges) == 2 * 6 + 4 + 5


def test_an_edge_is_read_as_it_is_printed():
    graph = graph_of_sizes(3, 2, split_embed=True)
    assert all(graph.edge(str(edge)) == edge for edge in graph.edges)
    assert graph.edge("a0.h1->m2") == Edge(graph.writer("a0.h1"), graph.reader("m2"))


def test_every_edge_goes_forward():
    graph = graph_of_sizes(3, 2)
    for edge in graph.edges:
        if edge.reader.layer is not None and edge.writer.layer is not None:
            same = edge.writer.layer == edge.reader.layer
            assert edge.writer.layer < edge.reader.layer or (
                same and edge.writer.kind == "head" and edge.reader.kind == "mlp"
            )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a1.h9 -> logits", r"no writer 'a1.h9'; nearest: a1.h"),
        ("a1.h0 -> a2.h0", r"no reader 'a2.h0'; nearest: a2.h0"),
        ("a1.h0 -> a1.h1.q", r"a1.h1.q reads nothing that is written after m0"),
        ("m2 -> m2", r"reads nothing that is written after a2.h1"),
        ("a1.h0", r"write it as a writer and a reader, such as"),
        ("embed -> m0 -> logits", r"is no edge: write it as"),
    ],
)
def test_what_is_no_edge_is_refused_with_the_nearest_name(text, said):
    with pytest.raises(UsageError, match=said):
        graph_of_sizes(3, 2).edge(text)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="share keys and values evenly"):
        graph_of_sizes(2, 4, 3)
    with pytest.raises(UsageError, match="needs a layer"):
        graph_of_sizes(0, 4)
