"""What does the metric's gradient say at each reader's input?

A model's layers are run one after the other with a graph of torch's, which is cut at every reader
and at what attention adds: the gradient at a reader is then that of its own view of the stream, not
of the stream that all share. Each piece of the graph is gone through once, from the logits down;
only the step from a head's query, key or value to the stream is taken for each head.

    gradients = GradientRun(run, calls, metric, metric_tokens)      # run: which shows the parts
    gradients.products(stream, deltas)      # [batch writer reader], the deltas times the gradients
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformer_lens.hook_points import HookPoint

from interp.attribution import frozen, graphs
from interp.blocks.calling import BlockCall
from interp.circuits.contributions import SummedRun
from interp.circuits.graph import Reader
from interp.circuits.reading import LAYOUT
from interp.circuits.rounding import agree
from interp.circuits.shown import HEADS
from interp.errors import NonFiniteError, UsageError
from interp.metrics import Metric, measure, precise
from interp.sweeps.by_block.path import hooked
from interp.sweeps.speed.components import Layer
from interp.sweeps.speed.fused import frozen_linear_maps
from interp.sweeps.speed.reading import find_reads
from interp.sweeps.speed.scoring import check_scores

CUT = (*HEADS, "attn")


@dataclass(frozen=True)
class LayerTrace:
    """One layer's run, in pieces.

    Args:
        x: what entered it, where the graph begins.
        made: q, k, v, attn and mlp, as far as there are such: the ends of pieces.
        given: of q, k, v and attn the same numbers, where the next pieces begin.
        out: what left it.
    """

    x: Float[Tensor, "row pos d_model"]
    made: Mapping[str, Tensor]
    given: Mapping[str, Tensor]
    out: Float[Tensor, "row pos d_model"]


class GradientRun:
    """Runs of a model's layers on some texts, with the metric's gradient at every reader.

    Args:
        run: of the same model, on these texts or others.
        calls: how the model calls its blocks on these.
        metric: of the logits.
        metric_tokens: that the metric is given.
    """

    def __init__(
        self,
        run: SummedRun,
        calls: Sequence[BlockCall],
        metric: Metric,
        metric_tokens: Int[Tensor, "batch pos"],
    ) -> None:
        self.graph, self.blocks, self.calls = run.graph, run.blocks, calls
        self.metric, self.metric_tokens = metric, metric_tokens
        self.batch = len(metric_tokens)
        self.examples = torch.arange(self.batch)
        if self.batch == 1:  # what a model keeps of one text alone must not fit
            self.examples = torch.zeros(2, dtype=torch.long)
        self._reads: list[int] | None = None
        self._rows = {reader: number for number, reader in enumerate(self.graph.readers)}

    def products(
        self,
        stream: Float[Tensor, "batch pos d_model"],
        deltas: Float[Tensor, "batch writer pos d_model"],
        *,
        begin: int = 0,
        attn: Float[Tensor, "batch pos d_model"] | None = None,
        expected: Float[Tensor, "batch pos d_model"] | None = None,
    ) -> Float[Tensor, "batch writer reader"]:
        """The deltas of all writers times the gradient at each reader, summed over positions; zero
        where a writer comes after a reader, and at readers before what is run.

        Args:
            stream: what enters the first layer that is run.
            begin: that layer.
            attn: what its attention adds, instead of what it would; its heads' readers are then
                before what is run.
            expected: what has to leave the last layer, where that is known.

        Raises:
            UsageError: it does not; a metric without a gradient; a model that torch cannot
                differentiate.
            NonFiniteError: a gradient that is not finite.
        """
        found = deltas.new_zeros(len(deltas), deltas.shape[1], len(self.graph.readers))

        def multiply(first: Reader, gradients: Float[Tensor, "batch reader pos d_model"]) -> None:
            count, row = len(self.graph.before(first)), self._rows[first]
            product = deltas[:, :count].flatten(2) @ gradients[: self.batch].flatten(2).mT
            found[:, :count, row : row + gradients.shape[1]] = product

        with ExitStack() as stack:
            for each in (frozen(self.blocks.model), graphs(), frozen_linear_maps()):
                stack.enter_context(each)
            stack.enter_context(torch.enable_grad())
            traces: list[LayerTrace] = []
            x = stream.detach()[self.examples]
            for layer in range(begin, len(self.blocks)):
                instead = None if attn is None or traces else attn.detach()[self.examples]
                traces.append(self.run_layer(layer, x, instead))
                x = traces[-1].out.detach()
            if expected is not None:
                check_last(x[: self.batch], expected)
            gradient = self.at_the_end(x)
            multiply(Reader("logits"), gradient[:, None])
            for layer in reversed(range(begin, len(self.blocks))):
                read = attn is None or layer > begin
                gradient = self.through_layer(layer, traces.pop(), gradient, multiply, read)
        if not torch.isfinite(found).all():
            raise NonFiniteError("the gradient is not finite at some reader")
        return found

    def check(
        self,
        stream: Float[Tensor, "batch pos d_model"],
        expected: Float[Tensor, "batch pos d_model"],
    ) -> None:
        """Raises ``UsageError`` where the layers make something else of a stream."""
        x = stream[self.examples]
        with torch.no_grad(), frozen_linear_maps():
            for layer in range(len(self.blocks)):
                x = self.blocks.blocks.call(layer, x, self.calls, self.examples)
        check_last(x[: self.batch], expected)

    def run_layer(
        self, layer: int, x: Float[Tensor, "row pos d_model"], attn: Tensor | None
    ) -> LayerTrace:
        """One layer with a graph, cut into pieces.

        Raises:
            UsageError: it does not add its parts to the stream on this input.
        """
        points, made, given = self.blocks.points[layer], {}, {}

        def cutting(kind: str) -> Callable[..., Tensor]:
            axes = self.blocks.axes(layer, kind)
            order = [axis for axis in LAYOUT if axis in axes]

            def cut(value: Tensor, hook: HookPoint) -> Tensor:
                made[kind] = value.permute([axes.index(axis) for axis in order])
                if kind not in CUT:
                    return value.clone()  # the model may write into what it is given
                put = attn if kind == "attn" and attn is not None else made[kind]
                given[kind] = put.detach().requires_grad_()
                return given[kind].permute([order.index(axis) for axis in axes]).clone()

            return cut

        x = x.detach().requires_grad_()
        pairs = [(points[kind], cutting(kind)) for kind in (*CUT, "mlp") if kind in points]
        with hooked(self.blocks.model, pairs):
            out = self.blocks.blocks.call(layer, x, self.calls, self.examples)
        parts = [given["attn"]] if "attn" in given else []
        parts += [made["mlp"]] if "mlp" in made else []
        if not agree(out, sum(parts, x)):
            raise UsageError(
                f"layer {layer} of this model does not add what its attention and its MLP give to "
                "every residual stream that it is handed, so that its edges have no gradients"
            )
        return LayerTrace(x, made, given, out)

    def at_the_end(self, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """The gradient at the stream that the logits read.

        Raises:
            UsageError: there is none.
        """
        if self._reads is None:
            self._reads = self.find_positions(x)
        x = x.detach().requires_grad_()
        length, reads = x.shape[1], self._reads
        unembedded = precise(self.blocks.blocks.unembed(x[:, reads]))[: self.batch]
        if unembedded.shape[1] < len(reads):  # of the last position only
            logits = F.pad(unembedded, (0, 0, length - 1, 0), value=torch.nan)
        elif len(reads) < length:
            logits = unembedded.new_full((self.batch, length, unembedded.shape[2]), torch.nan)
            logits[:, reads] = unembedded
        else:
            logits = unembedded
        value = measure(self.metric, logits, self.metric_tokens)
        value = check_scores(value, self.batch, finite=False)
        if len(reads) < length and not torch.isfinite(value).all():  # it read others after all
            self._reads = list(range(length))
            return self.at_the_end(x)
        if not value.requires_grad:
            raise UsageError(
                "the metric has no gradient: take one that is differentiable, such as loss or "
                "logit_difference"
            )
        return torch.autograd.grad(value.sum(), x)[0]

    def find_positions(self, x: Float[Tensor, "row pos d_model"]) -> list[int]:
        """The positions whose logits the metric reads; all where they are not the same alone."""
        every, few = list(range(x.shape[1])), x[:2].detach()
        with torch.no_grad():
            logits = self.blocks.blocks.unembed(few)
            shape = (self.batch, x.shape[1], logits.shape[2])
            try:
                reads = find_reads(self.metric, shape, x, self.metric_tokens)
                alone = self.blocks.blocks.unembed(few[:, reads])
                return reads if reads and agree(alone, logits[:, reads]) else every
            except Exception:  # whatever a metric makes of logits that are all alike
                return every

    def through_layer(
        self,
        layer: int,
        trace: LayerTrace,
        gradient: Float[Tensor, "row pos d_model"],
        multiply: Callable[[Reader, Tensor], None],
        read: bool,
    ) -> Float[Tensor, "row pos d_model"]:
        """The gradient at the stream before a layer, of that behind it.

        Args:
            multiply: what is done with the gradients at readers, given the first of them.
            read: whether what attention reads takes a gradient.
        """
        x, made, given = trace.x, trace.made, trace.given
        attn = [given["attn"]] if "attn" in given else []
        at_attn, before = gradient, gradient
        if "mlp" in made:
            # Retained, for a norm may serve both the attention and the MLP.
            at_x, *at = grads(made["mlp"], [x, *attn], gradient)
            seen = at_x if self.graph.layers[layer].parallel or not at else at[0]
            multiply(Reader("mlp", layer), seen[:, None])
            before = before + at_x
            at_attn = sum(at, at_attn)
        if not read:
            return before
        kinds = [kind for kind in HEADS if kind in given]
        if kinds:
            *at_heads, at_x = grads(made["attn"], [*(given[kind] for kind in kinds), x], at_attn)
            before = before + at_x
            found = self.before_heads(layer, trace, dict(zip(kinds, at_heads, strict=True)))
            multiply(Reader("q", layer, 0), found)
            before = before + found.sum(dim=1)
        return before.detach()

    def before_heads(
        self,
        layer: int,
        trace: LayerTrace,
        gradients: Mapping[str, Float[Tensor, "row pos head d_head"]],
    ) -> Float[Tensor, "row reader pos d_model"]:
        """The gradients at what each head reads for its query, key and value, of those at these."""
        if self.blocks.shown is not None:
            return before_projections(self.blocks.shown[layer], trace.x, gradients)
        found = []
        for kind, gradient in gradients.items():
            for head in range(gradient.shape[2]):
                alone = torch.zeros_like(gradient)
                alone[:, :, head] = gradient[:, :, head]
                found += grads(trace.made[kind], [trace.x], alone)
        return torch.stack(found, dim=1)


def before_projections(
    layer: Layer,
    x: Float[Tensor, "row pos d_model"],
    gradients: Mapping[str, Float[Tensor, "row pos head d_head"]],
) -> Float[Tensor, "row reader pos d_model"]:
    """The same where a layer shows its norm and its maps: each head goes through its own part of
    the map alone."""
    with torch.no_grad():
        normed = [
            torch.einsum("bphe,hed->bhpd", gradient, part.weight.unflatten(0, (layer.heads, -1)))
            for part, gradient in zip(layer.projections, gradients.values(), strict=True)
        ]
        behind = torch.cat(normed, dim=1)
    rows = x.detach()[:, None].expand(behind.shape).flatten(0, 1).requires_grad_()
    return grads(layer.ln1(rows), [rows], behind.flatten(0, 1))[0].view(behind.shape)


def check_last(found: Tensor, expected: Tensor) -> None:
    """Raises ``UsageError`` where layers gave another stream alone than in the model."""
    if not agree(found, expected):
        raise UsageError(
            "the layers of this model give another residual stream when each is run alone than in "
            "the model, so that its edges have no gradients"
        )


def grads(output: Tensor, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """Gradients, zero where an input has no part in the output; the graph is kept."""
    found = torch.autograd.grad(
        output, inputs, gradient, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)
