"""Edges of other people's models, against hooks of torch on the modules that they are made of."""

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from transformer_lens.patching import get_act_patch_direct_path

import interp as ip
from interp.circuits.contributions import take_apart
from interp.circuits.edges import edge_effects, measure_edges
from interp.circuits.pairs import take_pair
from interp.errors import UsageError
from interp.hooking import evaluating
from tests.interp.circuits.by_hand import gap, random_gpt, random_pair
from tests.interp.line_hooks.families import built

PAIR = random_pair(batch=3, vocab=31)


def hooked_run(model, tokens, hooks):
    """Logits with functions on modules; each is given the module, what it takes and gives."""
    with torch.no_grad(), hooks_on(hooks):
        return model(tokens).logits


@contextmanager
def hooks_on(hooks):
    with ExitStack() as stack:
        for module, function in hooks:
            stack.callback(module.register_forward_hook(function).remove)
        yield


def before(norm, delta):
    """A norm that reads another stream."""
    return norm, lambda module, args, output: type(module).forward(module, args[0] + delta)


class Llama:
    """Where a Llama reads and writes."""

    heads, shared, d_head = 4, 2, 4

    def __init__(self, model):
        self.model, self.inner = model, model.model

    def reading(self, reader, delta):
        if reader == "logits":
            return [before(self.inner.norm, delta)]
        layer = self.inner.layers[int(reader[1])]
        if reader.startswith("m"):
            return [before(layer.post_attention_layernorm, delta)]
        head, kind = int(reader[4]), reader[-1]
        linear = getattr(layer.self_attn, f"{kind}_proj")
        held = {}

        def note(module, args, output):
            held["normed"] = type(module).forward(module, args[0] + delta)

        def change(module, args, output):
            output = output.clone()
            part = slice(head * self.d_head, (head + 1) * self.d_head)
            output[..., part] = type(module).forward(module, held["normed"])[..., part]
            return output

        return [(layer.input_layernorm, note), (linear, change)]

    def written(self, tokens):
        found, d_head = {}, self.d_head
        hooks = [(self.inner.embed_tokens, lambda m, args, out: found.update(embed=out))]
        for number, layer in enumerate(self.inner.layers):

            def heads(module, args, output, number=number):
                for head in range(self.heads):
                    part = slice(head * d_head, (head + 1) * d_head)
                    found[f"a{number}.h{head}"] = args[0][..., part] @ module.weight[:, part].T

            def mlp(module, args, output, number=number):
                found[f"m{number}"] = output

            hooks += [(layer.self_attn.o_proj, heads), (layer.mlp, mlp)]
        hooked_run(self.model, tokens, hooks)
        return found


class NeoX(Llama):
    """Where a GPT-NeoX does: queries, keys and values are one map, head by head."""

    shared = 4

    def __init__(self, model):
        self.model, self.inner = model, model.gpt_neox

    def reading(self, reader, delta):
        if reader == "logits":
            return [before(self.inner.final_layer_norm, delta)]
        layer = self.inner.layers[int(reader[1])]
        if reader.startswith("m"):
            return [before(layer.post_attention_layernorm, delta)]
        head, kind = int(reader[4]), "qkv".index(reader[-1])
        start = (3 * head + kind) * self.d_head
        held = {}

        def note(module, args, output):
            held["normed"] = type(module).forward(module, args[0] + delta)

        def change(module, args, output):
            output = output.clone()
            part = slice(start, start + self.d_head)
            output[..., part] = type(module).forward(module, held["normed"])[..., part]
            return output

        return [(layer.input_layernorm, note), (layer.attention.query_key_value, change)]

    def written(self, tokens):
        found, d_head = {}, self.d_head
        hooks = [(self.inner.embed_in, lambda m, args, out: found.update(embed=out))]
        for number, layer in enumerate(self.inner.layers):

            def heads(module, args, output, number=number):
                for head in range(self.heads):
                    part = slice(head * d_head, (head + 1) * d_head)
                    found[f"a{number}.h{head}"] = args[0][..., part] @ module.weight[:, part].T

            def mlp(module, args, output, number=number):
                found[f"m{number}"] = output

            hooks += [(layer.attention.dense, heads), (layer.mlp, mlp)]
        hooked_run(self.model, tokens, hooks)
        return found


@pytest.fixture(scope="module", params=[("llama", Llama), ("neox", NeoX)], ids=["llama", "neox"])
def other(request):
    name, kind = request.param
    model = built(name)
    return ip.hook_lines(model, PAIR[0]), kind(model)


def test_every_edge_of_a_view_is_as_with_hooks_of_torch(other):
    view, by_hand = other
    clean, corrupted = PAIR
    wrote, theirs = by_hand.written(clean), by_hand.written(corrupted)
    with evaluating(view):
        pair = take_pair(view, clean, corrupted)
        edges = pair.graph.edges[::2]
        found = measure_edges(pair, edges, gap)
    shared = {str(r) for r in pair.graph.readers if r.kind == "k" and r.layer == 0}
    assert len(shared) == by_hand.shared
    expected = []
    for edge in edges:
        writer, reader = str(edge).split(" -> ")
        delta = theirs[writer] - wrote[writer]
        logits = hooked_run(by_hand.model, clean, by_hand.reading(reader, delta))
        expected.append(gap(logits, clean))
    np.testing.assert_allclose(found.values, torch.stack(expected), atol=2e-5, rtol=1e-5)
    assert (np.abs(found.values - found.baseline) > 1e-4).mean() > 0.9


def test_direct_effects_of_a_view_are_those_of_its_reader_alone(other):
    view, by_hand = other
    clean, corrupted = PAIR
    with evaluating(view):
        pair = take_pair(view, clean, corrupted)
        edges = pair.graph.edges[1::3]
        found = measure_edges(pair, edges, gap, "direct")
    wrote, theirs = by_hand.written(clean), by_hand.written(corrupted)
    expected = []
    for edge in edges:
        writer, reader = str(edge).split(" -> ")
        delta = theirs[writer] - wrote[writer]
        if reader != "logits":
            changed = {}
            hooks = by_hand.reading(reader, delta)
            layer = by_hand.inner.layers[edge.reader.layer]
            attention = getattr(layer, "self_attn", None) or layer.attention
            source = layer.mlp if edge.reader.kind == "mlp" else attention

            def note(module, args, output, changed=changed):
                changed["now"] = output[0] if isinstance(output, tuple) else output

            hooked_run(by_hand.model, clean, [(source, note)])
            before_change = changed["now"]
            hooked_run(by_hand.model, clean, [*hooks, (source, note)])
            delta = changed["now"] - before_change
        logits = hooked_run(by_hand.model, clean, by_hand.reading("logits", delta))
        expected.append(gap(logits, clean))
    np.testing.assert_allclose(found.values, torch.stack(expected), atol=2e-5, rtol=1e-5)


def test_what_parts_of_a_view_write_sums_to_its_stream(other):
    view, by_hand = other
    with evaluating(view):
        run = take_apart(view, PAIR[0])
    expected = by_hand.written(PAIR[0])
    assert {str(writer) for writer in run.written} == expected.keys()
    for writer, value in run.written.items():
        torch.testing.assert_close(value, expected[str(writer)], atol=1e-5, rtol=1e-5)


def test_heads_whose_sum_goes_through_a_norm_are_one_writer():
    view = ip.hook_lines(built("gemma2"), PAIR[0])
    with evaluating(view):
        pair = take_pair(view, *PAIR)
        edges = [pair.graph.edge(edge) for edge in ("a0 -> a1.h2.q", "a0 -> a1.h1.v")]
        found = measure_edges(pair, edges, gap, "direct")
        alone = measure_edges(pair, edges, gap, "open")
    assert {str(writer) for writer in pair.graph.writers} == {"embed", "a0", "m0", "a1", "m1"}
    assert (np.abs(found.values - found.baseline) > 1e-5).any(axis=1).all()
    assert np.abs(found.values - alone.values).max() > 1e-6  # the last MLP follows in one alone
    with pytest.raises(UsageError, match="no writer 'a0\\.h1'; nearest"):
        pair.graph.edge("a0.h1 -> logits")


@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_open_edges_are_the_direct_paths_of_transformer_lens(bridge_over, kind):
    bridge = bridge_over(built("gpt2"))
    clean, corrupted = PAIR[0] % 31, PAIR[1] % 31
    caches = [bridge.run_with_cache(tokens)[1] for tokens in (clean, corrupted)]
    metric = lambda logits: gap(logits, clean).mean()  # noqa: E731
    theirs = get_act_patch_direct_path(
        *(bridge, corrupted, *caches, metric, 0, 1), component=kind, verbose=False
    )
    table = edge_effects(
        *(bridge, clean, corrupted, gap),
        edges=[f"a0.h1 -> a1.h*.{kind}"],
        direction="clean into corrupted",
        progress=False,
    )
    np.testing.assert_allclose(table["value"], theirs[1], atol=1e-6, rtol=1e-5)
    assert (table["delta"].abs() > 1e-5).all()


def test_the_logits_have_their_line_on_a_view_too():
    view = ip.hook_lines(built("llama"), PAIR[0])
    table = edge_effects(view, *PAIR, gap, edges=["m1 -> logits"], progress=False)
    assert table["reader_code"].str.contains("self.lm_head").all()
    assert table["reader_file"].str.endswith("modeling_llama.py").all()
    assert table["reader_line"].notna().all()


def test_a_model_whose_parts_do_not_sum_to_its_stream_is_refused():
    model = random_gpt(n_layer=2)

    class Halved(type(model.blocks[0])):
        def forward(self, x):
            return super().forward(x) / 2

    model.blocks[1].__class__ = Halved
    with evaluating(model), pytest.raises(UsageError, match="layer 1 of this model does not add"):
        take_apart(model, PAIR[0] % 13)


@pytest.mark.parametrize(
    ("name", "sentence", "component"),
    [
        ("jamba", "layer 0 of this model has no hook point blocks.0.attn.hook_q", "attn_out"),
        ("deepseek", "layer 0 of this model has no hook point blocks.0.attn.hook_k", "attn_out"),
        ("bert", "layer 0 of this model does not add what its attention and its MLP", "resid_pre"),
    ],
)
def test_a_model_without_edges_is_refused_in_a_sentence_that_says_what_works(
    name, sentence, component
):
    view = ip.hook_lines(built(name), PAIR[0])
    with pytest.raises(UsageError, match=sentence) as refused:
        edge_effects(view, *PAIR, gap, progress=False)
    assert f'interp.patch(..., component="{component}")' in str(refused.value)
    found = ip.patch(view, *PAIR, answer=1, wrong=2, component=component)
    assert np.isfinite(found["value"]).all()
