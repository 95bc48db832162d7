"""How are a model's keys and values kept, and how are those of some positions and rows taken?"""

import copy
from collections.abc import Callable
from typing import Any

from jaxtyping import Int
from torch import Tensor

CACHES = ("cache", "past_key_values")  # what models call it


def is_cache(value: Any) -> bool:
    """Whether this is a key/value cache that holds keys and values by layer."""
    layers = getattr(value, "layers", None)
    return isinstance(layers, list) and hasattr(value, "get_seq_length")


def layered_cache(output: Any) -> Any:
    """The key/value cache in what a model returned; None where there is none that we know: one
    that holds the keys and values [batch head pos d_head] of every layer."""
    named = (getattr(output, name, None) for name in CACHES)
    cache: Any = next((each for each in named if is_cache(each)), None)
    if cache is None:
        return None
    for layer in cache.layers:
        for held in (getattr(layer, "keys", None), getattr(layer, "values", None)):
            if not isinstance(held, Tensor) or held.ndim != 4:
                return None
    return cache


def fresh_cache(cache: Any, examples: Int[Tensor, "row"], layer: int) -> Any:
    """A cache to run one block with: the rows' of what this one holds, or as empty as it is."""
    if length_in(cache, layer):
        return rows_of_cache(cache, examples, layer)
    return copy.deepcopy(cache)


def length_in(cache: Any, layer: int) -> int:
    """How many positions a layer of a cache has seen; 0 where it holds a state in place of keys and
    values of positions."""
    if layer >= len(cache.layers) or not hasattr(cache.layers[layer], "get_seq_length"):
        return 0
    return int(cache.layers[layer].get_seq_length())


def beginning_of(cache: Any, length: int) -> Any:
    """A cache that holds the first positions alone; None where some layer holds but the last ones,
    and those before cannot be had from it."""
    whole = int(cache.get_seq_length())
    if any(layer.keys.shape[-2] != whole or is_sliding(layer) for layer in cache.layers):
        return None
    return changed_cache(cache, lambda held: held[..., :length, :])


def is_sliding(layer: Any) -> bool:
    """Whether a cache's layer forgets what lies before a window."""
    return bool(getattr(layer, "is_sliding", False))


def rows_of_cache(cache: Any, examples: Int[Tensor, "row"], only: int | None = None) -> Any:
    """A cache in which each row is of one of the examples.

    Args:
        only: the layer whose keys and values are wanted; those of others stay as they are.
    """
    return changed_cache(cache, lambda held: held[examples.to(held.device)], only)


def changed_cache(cache: Any, change: Callable[[Tensor], Tensor], only: int | None = None) -> Any:
    """A copy of a cache with other keys and values."""
    new = copy.copy(cache)
    new.layers = []
    for number, layer in enumerate(cache.layers):
        if only is None or number == only:
            layer = copy.copy(layer)
            layer.keys, layer.values = change(layer.keys), change(layer.values)
        new.layers.append(layer)
    return new
