"""What does a run carry at its hook points?

kept = cache(model, tokens, "blocks.*.hook_mlp_out")
kept["blocks.0.hook_mlp_out"]    # [batch pos d_model]
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.errors import SiteError
from interp.hooking import attach_hooks, evaluating, modules_of
from interp.padding import check_padding
from interp.site import Model, match


def cache(
    model: Model, tokens: Tensor, names: str | Sequence[str], **kwargs: Any
) -> dict[str, Tensor]:
    """The activations of one run, in evaluation mode and without gradients: only those asked for.

    They are the run's own tensors and no copies, but of what outlives the run, such as weights; a
    model that writes into one of them later in the run is run again, with copies.

    Args:
        model: the model; interventions in place around the call take part in the run.
        tokens: what to run it on.
        names: hook points, by name or glob.
        kwargs: passed to the model.

    Raises:
        HookNameError: a name that no hook point matches.
        SiteError: a name none of whose hook points the run reached; one that it reached several
            times.
        UsageError: texts padded on the left, and a model that takes padding for text.
    """
    asked = [names] if isinstance(names, str) else list(names)
    if not asked:
        raise SiteError("there is nothing to cache: name at least one hook point")
    matched = {name: match(model, name) for name in asked}
    points = {site.hook: point for pairs in matched.values() for site, point in pairs}
    lasting = storages_of(model, tokens, kwargs)
    kept: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def keeping(name: str, copied: bool) -> Callable[..., None]:
        def keep(value: Tensor, hook: Any) -> None:
            if name in kept:
                raise SiteError(
                    f"one run reaches {name} several times, and a cache holds one value of it: "
                    "give each pass a hook point of its own"
                )
            safe = copied or value.is_inference()  # whose changes torch does not count
            safe = safe or value.untyped_storage().data_ptr() in lasting
            kept[name] = value.detach().clone() if safe else value.detach()
            versions[name] = -1 if safe else value._version

        return keep

    def run(copied: bool) -> None:
        kept.clear()
        pairs = [(point, keeping(name, copied)) for name, point in points.items()]
        with evaluating(model), attach_hooks(pairs):
            model(tokens, **kwargs)

    if "attention_mask" not in kwargs:
        check_padding(model, tokens)
    run(copied=False)
    if any(
        versions[name] >= 0 and value._version != versions[name] for name, value in kept.items()
    ):
        run(copied=True)
    for name, pairs in matched.items():
        if not any(site.hook in kept for site, _ in pairs):
            raise SiteError(f"the run never reached {name}")
    return kept


def storages_of(model: Model, *inputs: Any) -> set[int]:
    """Where the memory lies that outlives a run: weights, buffers, other tensors of modules, also
    those in lists, dicts and plain objects, and what the caller holds."""
    waiting: list[Any] = [*inputs]
    for module in modules_of(model):
        if isinstance(module, HookPoint):  # most of a model's modules, and they hold nothing
            continue
        waiting += (*module._parameters.values(), *module._buffers.values())
        own = vars(module).items()
        waiting += (value for name, value in own if name not in OF_EVERY_MODULE)
    found, seen = set(), set()
    while waiting:
        held = waiting.pop()
        if isinstance(held, Tensor):
            found.add(held.untyped_storage().data_ptr())
        elif isinstance(held, PLAIN | nn.Module) or id(held) in seen:
            continue
        elif isinstance(held, dict | list | tuple | set):
            seen.add(id(held))
            waiting += held.values() if isinstance(held, dict) else held
        elif hasattr(held, "__dict__") and not type(held).__module__.startswith(TOKENIZERS):
            seen.add(id(held))
            waiting += vars(held).values()
    return found


OF_EVERY_MODULE = frozenset(vars(nn.Module()))
TOKENIZERS = ("transformers.tokenization", "tokenizers")  # long to walk through, without tensors
PLAIN = str | bytes | int | float | type | None
