"""What makes sure that a hook on this model always does what it says?

Every hook point is TransformerLens' ``HookPoint``; this module adds the three guarantees that it
does not give: a misspelt name is an error, a hook that never fired is an error, and a hook that
edits its activation in place changes that activation and nothing else.

    class MyModel(HookedModel):
        def __init__(self):
            super().__init__()
            self.hook_embed = HookPoint()
            self.setup()
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.hook_points import HookPoint

from gpt.errors import HookNameError, HookNeverFiredError, UsageError

HookName = str | Callable[[str], bool]


def is_watched(*hook_points: HookPoint) -> bool:
    """Whether a hook of any kind (forward, backward, pre) sits on one of ``hook_points``."""
    for point in hook_points:  # a loop, for this is asked in every norm and every attention
        if (
            point._forward_hooks
            or point._forward_pre_hooks
            or point._backward_hooks
            or point._backward_pre_hooks
        ):
            return True
    return False


class ForkPoint(HookPoint):
    """A hook point on one reader's copy of a value that others read too.

    Unhooked it costs nothing. Hooked it passes on a fresh copy, so that an edit in place reaches
    the code after this point and never the other readers of the value, exactly as a returned edit.
    """

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x.clone() if is_watched(self) else x


class HookedModel(HookedRootModule):
    """A ``HookedRootModule`` on which no hook can silently do nothing.

    Raises:
        HookNameError: a name, or a filter, that matches no hook point; names the nearest.
        HookNeverFiredError: on leaving ``hooks`` or ``run_with_hooks``, a hook that never fired,
            for instance because the run stopped before its layer; of a backward hook, because
            nobody called ``backward`` or nothing there has a gradient.
    """

    use_attn_result: bool = False  # whether run_with_cache keeps what each head writes, unasked

    def setup(self) -> None:
        super().setup()
        for module in self.modules():
            # A plain attribute is found 15 times as fast as a child module, and a forward pass of
            # a small model asks for its hook points often enough to feel it.
            points = {n: m for n, m in module.named_children() if isinstance(m, HookPoint)}
            module.__dict__.update(points)

    def hooks_named(self, name: HookName) -> list[str]:
        """The hook points that ``name`` means: itself, or all for which the filter is true."""
        if callable(name):
            matches = [known for known in self.hook_dict if name(known)]
            if not matches:
                raise UsageError(
                    f"the name filter {getattr(name, '__name__', name)!r} matches none of the "
                    f"{len(self.hook_dict)} hook points, such as {next(iter(self.hook_dict))!r}"
                )
            return matches
        if name not in self.hook_dict:
            raise HookNameError(name, self.hook_dict)
        return [name]

    def add_hook(self, name: HookName, *args: Any, **kwargs: Any) -> None:
        for match in self.hooks_named(name):
            super().add_hook(match, *args, **kwargs)

    @contextmanager
    def hooks(
        self,
        fwd_hooks: Sequence[tuple[HookName, Callable]] = (),
        bwd_hooks: Sequence[tuple[HookName, Callable]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator["HookedModel"]:
        """TransformerLens' ``hooks``, and each hook must fire before the block ends; a backward
        hook only where it ends with the block (``reset_hooks_end``). Where ``torch.autograd.grad``
        is asked for the gradient of the very value and so goes no further, a backward hook is
        called with it at the end."""
        forward = [(match, hook) for name, hook in fwd_hooks for match in self.hooks_named(name)]
        asked = [(match, hook) for name, hook in bwd_hooks for match in self.hooks_named(name)]
        gradients: dict[str, Tensor] = {}
        reached: set[str] = set()
        backward = [(name, note_reached(hook, name, reached, gradients)) for name, hook in asked]
        fired: set[str] = set()
        watches = [
            self.hook_dict[name].register_forward_hook(lambda *_, name=name: fired.add(name))
            for name, _ in forward
        ]
        watches += [
            self.hook_dict[name].register_forward_hook(partial(note_gradient, name, gradients))
            for name, _ in backward
        ]
        try:
            with super().hooks(forward, backward, reset_hooks_end, clear_contexts):
                yield self
        finally:
            for watch in watches:
                watch.remove()
        if missed := [name for name, _ in forward if name not in fired]:
            raise HookNeverFiredError(never_fired(missed))
        for name, hook in asked:
            if name in gradients and name not in reached:
                hook(gradients[name], hook=self.hook_dict[name])
        missed = [name for name, _ in backward if name not in {*reached, *gradients}]
        if missed and reset_hooks_end:
            raise HookNeverFiredError(no_gradient(missed))

    def run_with_cache(
        self,
        *model_args: Any,
        names_filter: HookName | Sequence[str] | None = None,
        device: Any = None,
        remove_batch_dim: bool = False,
        incl_bwd: bool = False,
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        pos_slice: Any = None,
        return_cache_object: bool = True,
        **model_kwargs: Any,
    ) -> tuple[Any, ActivationCache | dict[str, Tensor]]:
        """Run the model and keep the activations that pass the hook points asked for.

        Args:
            names_filter: a name, a list of names, a filter on names; None keeps all that fire but
                ``hook_result``, which is much larger than ``hook_z``, unless ``use_attn_result``.
            device: where to keep the activations.
            remove_batch_dim: drop the batch axis (batches of one example only).
            incl_bwd: also call ``backward`` on the output, a loss, and keep gradients as
                ``<name>_grad``.
            pos_slice: TransformerLens' slice of positions to keep.
            return_cache_object: an ``ActivationCache``; else the plain dict.

        Raises:
            HookNameError: a name that no hook point has.
            HookNeverFiredError: a name asked for that this run does not reach, or, with
                ``incl_bwd``, at which nothing has a gradient.
            UsageError: ``incl_bwd``, and an output that has no gradient or is more than a number.
        """
        if remove_batch_dim and model_args[0].shape[0] != 1:
            raise UsageError(
                f"remove_batch_dim needs a batch of one example, not of {model_args[0].shape[0]}"
            )
        asked = [names_filter] if isinstance(names_filter, str) else names_filter
        if asked is None:
            unasked = () if self.use_attn_result else "hook_result"
            names = [name for name in self.hook_dict if not name.endswith(unasked)]
        elif callable(asked):
            names = self.hooks_named(asked)
        else:
            names = [match for name in asked for match in self.hooks_named(name)]
        cache, forward, backward = self.get_caching_hooks(
            names, incl_bwd, device, remove_batch_dim=remove_batch_dim, pos_slice=pos_slice
        )
        with super().hooks(forward, backward, reset_hooks_end, clear_contexts):
            output = self(*model_args, **model_kwargs)
            if incl_bwd:
                check_differentiable(output)
                output.backward()
        required = names if isinstance(asked, Sequence) else []
        if incl_bwd and (missed := [name for name in required if f"{name}_grad" not in cache]):
            raise HookNeverFiredError(no_gradient(missed))
        if missed := [name for name in required if name not in cache]:
            raise HookNeverFiredError(never_fired(missed))
        if not cache:
            raise HookNeverFiredError(never_fired(names))
        if not return_cache_object:
            return output, cache
        return output, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)


def note_reached(
    hook: Callable, name: str, reached: set[str], gradients: dict[str, Tensor]
) -> Callable:
    """The same hook, which notes that it was reached; nobody need keep its gradient then."""

    @wraps(hook)
    def noted(*args: Any, **kwargs: Any) -> Any:
        reached.add(name)
        gradients.pop(name, None)
        return hook(*args, **kwargs)

    return noted


def note_gradient(
    name: str, gradients: dict[str, Tensor], point: HookPoint, args: Any, value: Tensor
) -> None:
    """Keep the gradient that comes to a hook point's value."""
    if value.requires_grad:
        value.register_hook(partial(gradients.__setitem__, name))


def check_differentiable(output: Any) -> None:
    if not isinstance(output, Tensor) or output.numel() != 1 or not output.requires_grad:
        raise UsageError(
            "incl_bwd calls backward on the output: run with return_type='loss', gradients enabled "
            "and weights that take them"
        )


def no_gradient(names: Sequence[str]) -> str:
    return (
        f"no gradient reached {shorten(names)}: call backward inside the block, on a loss that "
        "depends on them, with gradients enabled"
    )


def shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def never_fired(names: Sequence[str]) -> str:
    return (
        f"the run never reached {shorten(names)}: call the model inside the block, and "
        "start_at_layer and stop_at_layer must include the hook points' layers"
    )
