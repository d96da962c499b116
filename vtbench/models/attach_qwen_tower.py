"""The attention that Qwen's vision towers give to every merged token: none of their layers hands it out.

Recomputed from each block's own q and k, turned as it turns them, inside the windows in which it works (Qwen2.5-VL's
blocks but a few), and put back into the raster's order.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def received_by_merged(
    visual: Any, inputs: Mapping[str, Any], layers: Sequence[int]
) -> tuple[Tensor, dict[int, Tensor]]:
    """(merged tokens (N, C), {layer: float32 (N,)}): the attention that the patches of each merged token receive, mean
    over heads, over all patches as queries (those outside a window give 0), and over the token's four patches."""
    import torch

    depth, merge = len(visual.blocks), int(visual.spatial_merge_size) ** 2
    caught: dict[int, Tensor] = {}
    handles = []

    def look(number: int) -> Any:
        def before(module: Any, arguments: tuple[Any, ...], more: dict[str, Any]) -> None:
            caught[number] = _received(module, arguments[0], more["cu_seqlens"], more["position_embeddings"])

        return before

    try:
        for number in {j % depth for j in layers}:
            attention = visual.blocks[number].attn
            handles.append(attention.register_forward_pre_hook(look(number), with_kwargs=True))
        out = visual(inputs["pixel_values"].to(visual.dtype), grid_thw=inputs["image_grid_thw"])
    finally:
        for handle in handles:
            handle.remove()
    order = _raster(visual, inputs["image_grid_thw"])
    received = {j: caught[j % depth].reshape(-1, merge).mean(dim=1) for j in layers}
    features: Tensor = out.pooler_output
    return features, {j: one if order is None else one[torch.argsort(order)] for j, one in received.items()}


def _received(module: Any, hidden: Tensor, ends: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """(patches,) float32: mean over heads and all queries of one block's attention."""
    import torch

    length = hidden.shape[0]
    q, k, _ = module.qkv(hidden).reshape(length, 3, module.num_heads, -1).permute(1, 2, 0, 3).unbind(0)
    cos, sin = (t.float() for t in angles)

    def turned(x: Tensor) -> Tensor:
        one, two = x.float().chunk(2, dim=-1)
        return (x.float() * cos + torch.cat([-two, one], dim=-1) * sin).to(x.dtype)

    q, k, out = turned(q), turned(k), hidden.new_zeros(length, dtype=torch.float32)
    borders = ends.tolist()
    for first, last in itertools.pairwise(borders):
        scores = (q[:, first:last] @ k[:, first:last].transpose(1, 2)) * module.scaling
        weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(torch.float32, scores.dtype))
        out[first:last] = weights.mean(dim=0).sum(dim=0) / length
    return out


def _raster(visual: Any, grid: Tensor) -> Tensor | None:
    """Where in the raster each merged token stands that the blocks work on; None where they work in its order."""
    if not hasattr(visual, "window_size"):
        return None
    from transformers.vision_utils import get_vision_window_index

    index, _ = get_vision_window_index(
        grid, spatial_merge_size=visual.spatial_merge_size, window_size=visual.window_size, patch_size=visual.patch_size
    )
    order: Tensor = index
    return order
