"""What do a layer's parts make of another residual stream?

One layer is run alone, as the model itself runs it, on rows that differ in what they read; its own
queries, keys, values, heads and MLP are then looked at. That says of every reader of the layer what
it would have been, for as many changed streams as there are rows.

    blocks = BlockReader(model, tokens)
    blocks.changes(2, deltas, ["q", "k", "v"])    # of every head, for each change of the stream
    blocks.changes(2, deltas, ["mlp"])
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.blocks import NotInTurnError, trace_blocks
from interp.circuits.rounding import agree, tolerance_for
from interp.circuits.shown import HEADS, attend_at, part_changes, shown_layers
from interp.errors import UsageError
from interp.site import Model, axes_of, names_by_point
from interp.sweeps.by_block.path import hooked

KINDS = {
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "z": "attn.hook_z",
    "attn": "hook_attn_out",
    "mlp": "hook_mlp_out",
}
"""What is looked at in a layer, by the last part of its hook point's name."""

LAYOUT = ("batch", "pos", "head", "neuron")
ROWS = 2**12  # tokens that run at a time


class BlockReader:
    """A model's layers on one batch of texts.

    Attributes:
        entering: the residual stream before each layer, [batch pos d_model].
        last: the one behind the last.
        values: what each layer's parts made of it, by ``KINDS``: q, k, v and z are
            [batch pos head d_head], attn and mlp [batch pos d_model]. A kind that a layer does not
            have is not there.
        calls: how the model calls its blocks on these texts.

    Raises:
        UsageError: the model's layers cannot be run alone.
    """

    def __init__(self, model: Model, tokens: Int[Tensor, "batch pos"]) -> None:
        self.model, self.tokens = model, tokens
        try:
            self.blocks, run = trace_blocks(model, tokens)
            self.calls = self.blocks.calls(tokens)
        except NotInTurnError as error:
            raise UsageError(
                f"edges are between a model's layers, and this model's cannot be told: {error}"
            ) from error
        self.entering, self.last = list(run.entering), run.last
        points = model.hook_dict
        self._names = names_by_point(model)
        self.points = [
            {
                kind: points[name]
                for kind, last in KINDS.items()
                if (name := f"blocks.{layer}.{last}") in points
            }
            for layer in range(len(self.blocks))
        ]
        self._parallel: dict[int, bool] = {}
        self._sharing: dict[int, Tensor] = {}
        self.blocks.forget()
        self.values = [self._clean_values(layer) for layer in range(len(self.blocks))]
        self.shown = shown_layers(model, self.entering, self._seen)

    def __len__(self) -> int:
        return len(self.blocks)

    def after(self, layer: int) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream behind a layer."""
        return self.last if layer + 1 == len(self) else self.entering[layer + 1]

    def axes(self, layer: int, kind: str) -> tuple[str, ...]:
        """What the axes of a value are where the model makes it."""
        return axes_of(self._names[self.points[layer][kind]], self.values[layer][kind].ndim)

    def as_made(self, layer: int, kind: str, value: Tensor) -> Tensor:
        """A value of a layer with its axes as the model has them."""
        axes = self.axes(layer, kind)
        order = [axis for axis in LAYOUT if axis in axes]
        return value.permute([order.index(axis) for axis in axes])

    def call(
        self,
        layer: int,
        x: Float[Tensor, "row pos d_model"],
        examples: Int[Tensor, "row"],
        wanted: Sequence[str],
        *,
        adding: Mapping[str, Tensor] | None = None,
        setting: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """What one layer's parts make of a residual stream, row by row.

        Args:
            x: what enters the layer.
            examples: which of the texts each row is of.
            wanted: of ``KINDS``; or ``out``, what leaves the layer.
            adding: by kind, what is added to a value before anything reads it.
            setting: by kind, what is put in its place.

        Raises:
            UsageError: the layer does not make one of them.
        """
        adding, setting = adding or {}, setting or {}
        if len(x) == 1:  # a model's own masks and positions have one row for all too
            found = self.call(
                *(layer, x.repeat(2, 1, 1), examples.repeat(2), wanted),
                adding={name: torch.cat([value, value]) for name, value in adding.items()},
                setting={name: torch.cat([value, value]) for name, value in setting.items()},
            )
            return {kind: value[:1] for kind, value in found.items()}
        found = {}
        points = self._points_of(layer, {*wanted, *adding, *setting} - {"out"})
        missing = {*wanted}

        def seeing(kind: str) -> Callable[..., Tensor | None]:
            def see(value: Tensor, hook: HookPoint) -> Tensor | None:
                axes = axes_of(self._names[hook], value.ndim)
                order = [axis for axis in LAYOUT if axis in axes]
                held = value.permute([axes.index(axis) for axis in order])
                if kind in adding:
                    held = held + adding[kind]
                elif kind in setting:
                    held = setting[kind].to(held)
                if kind in wanted:
                    found[kind] = held.detach().clone()
                    missing.discard(kind)
                if not missing:
                    raise AllSeenError
                if kind not in adding and kind not in setting:
                    return None
                return held.permute([order.index(axis) for axis in axes]).contiguous()

            return see

        pairs = [(point, seeing(kind)) for kind, point in points.items()]
        with torch.no_grad(), hooked(self.model, pairs):
            try:
                found["out"] = self.blocks.call(layer, x, self.calls, examples)
            except AllSeenError:
                pass
            except NotInTurnError as error:
                raise UsageError(f"layer {layer} cannot be run alone: {error}") from error
        if lacking := missing - found.keys():
            raise UsageError(f"layer {layer} of this model makes no {', '.join(sorted(lacking))}")
        return found

    def changes(
        self,
        layer: int,
        deltas: Float[Tensor, "change batch pos d_model"],
        kinds: Sequence[str],
    ) -> dict[str, Tensor]:
        """What changes of the stream change in a layer's readers, less what they made of it before.

        Args:
            deltas: of what enters the layer; for ``mlp``, of what the MLP reads.
            kinds: ``q``, ``k``, ``v``; or ``mlp`` alone.

        Returns:
            By kind, [change batch pos ...]; exactly zero at positions where the stream is as it
            was, as far as the layer reads each position by itself.
        """
        count, batch = deltas.shape[:2]
        if self.shown is not None:
            clean = {kind: self.values[layer][kind] for kind in kinds}
            stream = self.entering[layer]
            stream = stream + self.values[layer]["attn"] if list(kinds) == ["mlp"] else stream
            return part_changes(self.shown[layer], stream, deltas, clean)
        parallel = self.is_parallel(layer) if list(kinds) == ["mlp"] else True
        step = max(1, ROWS // self.tokens.numel())
        parts: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
        everyone = torch.arange(batch)
        for begin in range(0, count, step):
            delta = deltas[begin : begin + step]
            rows = delta.flatten(0, 1)
            x = self.entering[layer].repeat(len(delta), 1, 1)
            adding = {} if parallel else {"attn": rows}
            made = self.call(
                *(layer, x + rows if parallel else x, everyone.repeat(len(delta)), kinds),
                adding=adding,
            )
            moved = (delta != 0).any(dim=-1)
            for kind, value in made.items():
                if kind not in parts:
                    continue
                before = self.values[layer][kind]
                change = value.unflatten(0, (len(delta), batch)) - before
                still = ~moved.view(*moved.shape, *[1] * (change.ndim - 3))
                if float((change * still).abs().max()) <= tolerance_for(before):
                    change = change.where(~still, 0)
                parts[kind].append(change)
        return {kind: torch.cat(found) for kind, found in parts.items()}

    def of_streams(
        self, layer: int, streams: Float[Tensor, "stream batch pos d_model"], kinds: Sequence[str]
    ) -> dict[str, Tensor]:
        """What a layer's readers make of other streams.

        Args:
            streams: what enters the layer; for ``mlp``, what the MLP reads.
            kinds: ``q``, ``k``, ``v``; or ``mlp`` alone.

        Returns:
            By kind, [stream batch pos ...].
        """
        batch = streams.shape[1]
        aside = list(kinds) == ["mlp"] and not self.is_parallel(layer)
        parts: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
        for some in streams.split(max(1, ROWS // self.tokens.numel())):
            x, rows = some.flatten(0, 1), torch.arange(batch).repeat(len(some))
            setting = {}
            if aside:
                entering = self.entering[layer].repeat(len(some), 1, 1)
                x, setting = entering, {"attn": x - entering}
            made = self.call(layer, x, rows, kinds, setting=setting)
            for kind in kinds:
                parts[kind].append(made[kind].unflatten(0, (len(some), batch)))
        return {kind: torch.cat(found) for kind, found in parts.items()}

    def with_values(
        self,
        layer: int,
        setting: Mapping[str, Float[Tensor, "way batch pos ..."]],
        seen: str,
        pos: int | None = None,
    ) -> Float[Tensor, "way batch some ..."]:
        """What a layer makes of other values of its own: ``z`` or ``attn``.

        Args:
            setting: other queries, keys, values or read-outs, by their kind.
            pos: the only position that is wanted; None wants all.
        """
        count, batch, length = next(iter(setting.values())).shape[:3]
        at = list(range(length)) if pos is None else [pos]
        step, found = max(1, ROWS // self.tokens.numel()), []
        for begin in range(0, count, step):
            ways = min(step, count - begin)
            some = {kind: each[begin:][:ways].flatten(0, 1) for kind, each in setting.items()}
            if self.shown is not None and seen == "z":
                clean = {kind: self.values[layer][kind] for kind in HEADS if kind not in some}
                some |= {kind: each.repeat(ways, 1, 1, 1) for kind, each in clean.items()}
                made = attend_at(**some, at=at)
            else:
                x = self.entering[layer].repeat(ways, 1, 1)
                rows = torch.arange(batch).repeat(ways)
                made = self.call(layer, x, rows, [seen], setting=some)[seen][:, at]
            found.append(made.unflatten(0, (ways, batch)))
        return torch.cat(found)

    def mlp_changes_at(
        self, layer: int, deltas: Float[Tensor, "change batch pos d_model"], pos: int
    ) -> Float[Tensor, "change batch 1 d_model"]:
        """``changes`` of the MLP at one position: it reads each position by itself, so that what is
        wanted at this one is run at all others too, of another change each."""
        if self.shown is not None:
            alone = torch.zeros_like(deltas)
            alone[:, :, pos] = deltas[:, :, pos]
            return self.changes(layer, alone, ["mlp"])["mlp"][:, :, pos : pos + 1]
        length, batch = self.tokens.shape[1], len(self.tokens)
        mid = self.entering[layer]
        if parallel := self.is_parallel(layer):
            reads = mid[:, pos]
        else:
            reads = (mid + self.values[layer]["attn"])[:, pos]
        wanted = torch.cat([reads, (reads + deltas[:, :, pos]).flatten(0, 1)])  # as it is, first
        rows = -(-len(wanted) // length)
        packed = torch.zeros(rows * length, wanted.shape[1], dtype=mid.dtype, device=mid.device)
        packed[: len(wanted)] = wanted
        found = []
        for x in packed.view(rows, length, -1).split(max(1, ROWS // length)):
            first, setting = torch.zeros(len(x), dtype=torch.long), {}
            if not parallel:
                entering = mid[:1].repeat(len(x), 1, 1)
                x, setting = entering, {"attn": x - entering}
            found.append(self.call(layer, x, first, ["mlp"], setting=setting)["mlp"].flatten(0, 1))
        made = torch.cat(found)[: len(wanted)]
        clean = self.values[layer]["mlp"][:, pos]
        if not agree(made[:batch], clean):  # it does look at other positions
            return self.changes(layer, deltas, ["mlp"])["mlp"][:, :, pos : pos + 1]
        change = made[batch:].view(-1, batch, 1, clean.shape[1]) - clean[:, None]
        return change.where((deltas[:, :, pos : pos + 1] != 0).any(dim=-1, keepdim=True), 0)

    def effects_inside(
        self,
        layer: int,
        kind: str,
        deltas: Float[Tensor, "change batch pos ..."],
        seen: str,
        pos: int | None = None,
    ) -> Float[Tensor, "change batch some ..."]:
        """What changes of one value of a layer change in a later one of it, its input as it is.

        Args:
            kind: of ``KINDS``, the value that is changed: ``q``, ``k``, ``v`` or ``z``.
            seen: the one that is looked at: ``z``, what every head reads out; or ``attn``.
            pos: the only position that is wanted; None wants all.
        """
        values = self.values[layer]
        made = self.with_values(layer, {kind: values[kind] + deltas}, seen, pos)
        return made - values[seen][:, slice(None) if pos is None else slice(pos, pos + 1)]

    def sharing(self, layer: int) -> Bool[Tensor, "shared head"]:
        """Which heads read each key and value: seen by changing one of them after the other.

        Raises:
            UsageError: a head reads another one's query, or several keys.
        """
        if layer in self._sharing:
            return self._sharing[layer]
        values = self.values[layer]

        def touched(kind: str) -> Bool[Tensor, "one head"]:
            clean = values[kind][:1]
            count = clean.shape[2]
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)).to(clean)
            noise = noise * (clean.std(correction=0) + 0.1)
            each = torch.eye(count, device=clean.device)[:, None, :, None].to(clean) * noise
            rows = self.entering[layer][:1].repeat(count, 1, 1)
            made = self.call(
                *(layer, rows, torch.zeros(count, dtype=torch.long), ["z"]), adding={kind: each}
            )["z"]
            far = (made - values["z"][:1]).abs().amax(dim=(1, 3))
            return far > tolerance_for(values["z"])

        found = touched("v")
        heads = values["z"].shape[2]
        own = torch.eye(heads, dtype=torch.bool, device=found.device)
        lonely = not bool((touched("q") & ~own).any())
        if not lonely or bool((found.sum(dim=0) != 1).any()):
            raise UsageError(
                f"in layer {layer} of this model a head reads what belongs to another, so that one "
                "head's part in a path cannot be told"
            )
        self._sharing[layer] = found
        return found

    def is_parallel(self, layer: int) -> bool:
        """Whether the MLP reads the stream before the layer's attention adds to it: seen by
        changing what attention adds."""
        if "attn" not in self.points[layer]:
            return True
        if layer not in self._parallel:
            rows = self.entering[layer][:1].repeat(2, 1, 1)
            noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)).to(rows)
            size = self.values[layer]["attn"].std(correction=0) + 0.1 * rows.std(correction=0)
            made = self.call(
                *(layer, rows, torch.zeros(2, dtype=torch.long), ["mlp"]),
                adding={"attn": noise * size},
            )["mlp"]
            clean = self.values[layer]["mlp"][:1]
            self._parallel[layer] = bool((made - clean).abs().max() <= tolerance_for(clean))
        return self._parallel[layer]

    def _seen(self, layer: int, x: Tensor) -> dict[str, Tensor]:
        """All that a block makes of a stream of the first texts."""
        return self.call(layer, x, torch.arange(len(x)), list(self.points[layer]))

    def _points_of(self, layer: int, kinds: set[str]) -> dict[str, HookPoint]:
        if lacking := kinds - self.points[layer].keys():
            names = ", ".join(f"blocks.{layer}.{KINDS[kind]}" for kind in sorted(lacking))
            raise UsageError(f"edges need hook points that this model does not have: {names}")
        return {kind: self.points[layer][kind] for kind in kinds}

    def _clean_values(self, layer: int) -> dict[str, Tensor]:
        """Raises ``UsageError`` where the layer alone gives something else than in the model."""
        everyone = torch.arange(len(self.tokens))
        step = max(1, ROWS // self.tokens.shape[1])
        found: list[dict[str, Tensor]] = []
        kinds = [*self.points[layer], "out"]
        for begin in range(0, len(self.tokens), step):
            rows = everyone[begin : begin + step]
            found.append(self.call(layer, self.entering[layer][rows], rows, kinds))
        values = {kind: torch.cat([part[kind] for part in found]) for kind in kinds}
        if not agree(values.pop("out"), self.after(layer)):
            raise UsageError(
                f"layer {layer} gives another residual stream when it is run alone than in the "
                "model, so that its edges cannot be told"
            )
        return values


class AllSeenError(Exception):
    """Ends a run in which everything wanted was seen."""
