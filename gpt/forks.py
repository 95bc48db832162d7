"""How can one head's query, key or value read another stream than everything else does?

Path patching changes what one head reads and nothing besides. In a textbook attention there is no
such value: all heads read the same normalised stream. While a flag of TransformerLens is on, each
layer has hook points for it, ahead of its first norm, ``[batch pos head d_model]``:

    model.set_use_split_qkv_input(True)  # blocks.0.attn.hook_q_input, hook_k_input, hook_v_input
    model.set_use_attn_in(True)          # blocks.0.hook_attn_in, which all three read, head by head

The model's own code runs as it stands. Whoever looks at one of these points is given a copy of the
stream for each head, and what the map to queries, keys or values gives is then made of the copies.
Where nobody looks, nothing is computed.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens.hook_points import HookPoint

from gpt.errors import HookNameError, UsageError
from gpt.hooks import HookedModel, HookName, is_watched

# Which of attention's maps read what a hook point shows.
SPLIT = {"hook_q_input": ("query",), "hook_k_input": ("key",), "hook_v_input": ("value",)}
SHARED = {"hook_attn_in": ("query", "key", "value")}


class ForkedModel(HookedModel):
    """A hooked model whose heads can be given inputs of their own, by TransformerLens' flags.

    ``hook_result`` and ``hook_mlp_in`` need no flag here, for a hook on them is enough: theirs are
    kept so that TransformerLens' functions can turn them on, and say what ``run_with_cache`` keeps
    unasked.
    """

    use_split_qkv_input = False
    use_hook_mlp_in = False
    use_attn_in = False
    forks: Sequence["Forks"] = ()

    def setup(self) -> None:
        super().setup()
        for forks in self.forks:
            forks.hide_shared()

    def set_use_attn_result(self, use: bool) -> None:
        """Whether ``run_with_cache`` keeps what each head writes, ``[batch pos head d_model]``,
        without being asked for it by name."""
        self._note("use_attn_result", use)

    def set_use_hook_mlp_in(self, use: bool) -> None:
        """Noted in ``cfg``: ``hook_mlp_in`` is there in any case."""
        self._note("use_hook_mlp_in", use)

    def set_use_split_qkv_input(self, use: bool) -> None:
        """Give each head hook points of what its query, key and value read, or take them away.

        Raises:
            UsageError: ``use_attn_in`` is on; layers without attention; hooks that are still on
                the points to be taken away.
        """
        self._fork("use_split_qkv_input", use, SPLIT)

    def set_use_attn_in(self, use: bool) -> None:
        """Let ``hook_attn_in`` show a copy of the stream for each head, or one for all.

        Raises:
            UsageError: ``use_split_qkv_input`` is on; layers without attention; hooks that are
                still on the points, and expect the other form.
        """
        self._fork("use_attn_in", use, SHARED)

    def hooks_named(self, name: HookName) -> list[str]:
        if not callable(name) and name not in self.hook_dict and name.endswith((*SPLIT,)):
            raise HookNameError(
                name,
                self.hook_dict,
                "heads read inputs of their own only after set_use_split_qkv_input(True)",
            )
        return super().hooks_named(name)

    def _note(self, flag: str, use: bool) -> None:
        self.__dict__.pop(flag, None)  # what is off leaves no trace, and the model is as it was
        if use:
            setattr(self, flag, True)

    def _fork(self, flag: str, use: bool, readers: Mapping[str, Sequence[str]]) -> None:
        if use == getattr(self, flag):
            return
        if use and self.forks:
            other = "use_attn_in" if self.use_attn_in else "use_split_qkv_input"
            raise UsageError(
                f"{flag} and {other} exclude each other: call set_{other}(False) first"
            )
        blocks: list[Any] = list(getattr(self, "blocks", ()))
        if not all(hasattr(block, "attn") for block in blocks) or not blocks:
            raise UsageError(f"{flag} needs layers of attention, which this model has not")
        points = [p for n, p in self.hook_dict.items() if n.rsplit(".", 1)[-1] in readers]
        if is_watched(*points):
            named = next(point.name for point in points if is_watched(point))
            raise UsageError(f"{named} has hooks: take them off, then call set_{flag}({use})")
        if use:
            self.forks = [Forks(block, readers) for block in blocks]
        else:
            for forks in self.forks:
                forks.remove()
            del self.forks
        self._note(flag, use)
        self.setup()


class Forks:
    """One layer's copies of the stream, one for each head, for those hook points that are watched.

    A copy goes through the layer's first norm by itself: hooks on ``ln1`` are about the stream that
    the other readers share.
    """

    def __init__(self, block: Any, readers: Mapping[str, Sequence[str]]) -> None:
        self.block, self.readers = block, readers
        self.read: dict[str, tuple[Tensor, Tensor]] = {}
        for name in readers:
            if name in SPLIT:
                setattr(block.attn, name, HookPoint())
        maps = {name: getattr(block.attn, name) for names in readers.values() for name in names}
        self.handles = [
            getattr(block, "ln1", block.attn).register_forward_pre_hook(self.fork),
            *(each.register_forward_hook(partial(self.join, name)) for name, each in maps.items()),
        ]

    def hide_shared(self) -> None:
        """Let the layer's code pass by ``hook_attn_in``, which fires here."""
        if "hook_attn_in" in self.readers:
            self.block.__dict__["hook_attn_in"] = nn.Identity()

    def fork(self, module: nn.Module, args: Sequence[Tensor]) -> None:
        """Show each hook point that is watched its copies of the stream, which ``args`` holds."""
        self.read = {}
        for name, maps in self.readers.items():
            point = (self.block.attn if name in SPLIT else self.block)._modules[name]
            if is_watched(point):
                copies = point(args[0].unsqueeze(2).repeat(1, 1, self.block.attn.n_head, 1))
                self.read |= dict.fromkeys(maps, (args[0], copies))

    def join(
        self, name: str, linear: nn.Linear, args: Sequence[Tensor], output: Tensor
    ) -> Float[Tensor, "batch pos d_model"] | None:
        """What a map gives where each head reads its own copy; None where nobody watches.

        Raises:
            UsageError: the map reads something else than the norm of the stream, so that copies of
                the stream say nothing about it.
        """
        if name not in self.read:
            return None
        stream, copies = self.read.pop(name)
        shared = args[0]
        rounding = torch.finfo(shared.dtype).eps ** 0.5 * shared.abs().amax()
        if not ((self.normalize(stream) - shared).abs() <= rounding).all():
            raise UsageError(
                f"the {name} map of {self.block.name} reads what a hook or an edited line makes of "
                "the normalised stream, so its heads cannot be given inputs of their own: take "
                "away that hook or edit, or the hooks on the heads' inputs"
            )
        weight = linear.weight.unflatten(0, (copies.shape[2], -1))  # [head d_head d_model]
        heads = torch.einsum("bphm,hdm->bphd", self.normalize(copies), weight)
        return heads.flatten(2) if linear.bias is None else heads.flatten(2) + linear.bias

    def normalize(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The layer's first norm without its hooks; the same where the layer has none."""
        norm = getattr(self.block, "ln1", None)
        if norm is None:
            return x
        return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)

    def remove(self) -> None:
        """Take the hook points away, and what makes them fire."""
        for handle in self.handles:
            handle.remove()
        for name in self.readers:
            if name in SPLIT:
                delattr(self.block.attn, name)
                self.block.attn.__dict__.pop(name)
