"""Key-value caches of answers that are decoded together: answers join, leave, and holes close.

A mask (answers, entries) says which entries of the cache are an answer's own; the others are
padding before it, or guesses that it rejected while another accepted.
"""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

SLACK = 32  # entries of nobody that are not worth copying the rest for


def joinable(config: Any) -> bool:
    """Whether answers may join others in the cache of a model: not where it is one state."""
    layers = DynamicCache(config=config).layers
    return all(type(layer) in {DynamicLayer, DynamicSlidingWindowLayer} for layer in layers)


def join(cache: Any, mask: Any, other: Any, other_mask: Any) -> Any:
    """Put the answers of another cache behind those of one; return the mask of all."""
    width = max(mask.shape[1], other_mask.shape[1])
    pairs = []
    for layer, more in zip(cache.layers, other.layers, strict=True):
        kept = max(layer.keys.shape[-2], more.keys.shape[-2])
        pairs.append(
            tuple(
                torch.cat([_widened(one, kept), _widened(two, kept)])
                for one, two in ((layer.keys, more.keys), (layer.values, more.values))
            )
        )
    for layer, (keys, values) in zip(cache.layers, pairs, strict=True):
        layer.keys, layer.values = keys, values
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = width
    masks = [torch.nn.functional.pad(m, (width - m.shape[1], 0)) for m in (mask, other_mask)]
    return torch.cat(masks)


def select(cache: Any, mask: Any, chosen: Any) -> Any:
    """Keep some answers; return their mask."""
    cache.batch_select_indices(chosen)
    return mask[chosen]


def compact(cache: Any, mask: Any) -> Any:
    """Close holes and cut padding when they are a third of the cache; return the mask."""
    longest = int(mask.sum(1).max())
    if mask.shape[1] <= max(longest + SLACK, longest * 3 // 2):
        return mask
    # A stable order by the mask puts the entries of nobody first and keeps that of the others.
    order = mask.argsort(dim=1, stable=True)[:, -longest:]
    for layer in cache.layers:
        if isinstance(layer, DynamicSlidingWindowLayer):  # no guesses, so no holes
            kept = min(longest, layer.keys.shape[-2])
            layer.keys, layer.values = layer.keys[..., -kept:, :], layer.values[..., -kept:, :]
            layer.cumulative_length = longest
        else:
            layer.keys, layer.values = _taken(layer.keys, order), _taken(layer.values, order)
    return mask.gather(1, order)


def _widened(states: Any, length: int) -> Any:
    """Return (answers, heads, entries, numbers) with zeros before, that the mask hides."""
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[-2], 0))


def _taken(states: Any, order: Any) -> Any:
    index = order[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    return states.gather(2, index)
