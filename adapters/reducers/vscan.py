"""VScan: a global and a local scan of the tower's tokens with merging, and one cut inside the language model.

Tencent/SelfEvolvingAgent at a82450e, VScan/llava/model/llava_arch.py:142-293 and modeling_llama_x.py:1320-1512.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, in_place, rest
from vtbench.adapters.reducers._vit import clip_tower
from vtbench.adapters.reducers.pyramiddrop import ranked_by_the_last_token
from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor


def vscan(shallow: Tensor, deep: Tensor, keep: int, grid: tuple[int, int], window: int, ratio: float) -> Tensor:
    """Positions in raster order. shallow, deep (N,): mean-head attention of the CLS token at layers 5 and -2.

    int(keep * ratio) tokens are shared out to the windows, as many each, so that fewer may be chosen; the others are
    those of the greatest deep attention. A budget of all tokens keeps all.
    """
    import torch

    count = grid[0] * grid[1]
    if keep == count:
        return torch.arange(count)
    places = torch.arange(count).reshape(grid)
    blocks = places.unfold(0, window, window).unfold(1, window, window).reshape(-1, window * window)
    each = int(keep * ratio) // len(blocks)
    local = blocks.gather(1, in_place(best(shallow[blocks], each))).flatten()
    left = deep.clone()
    left[local] = 0
    return torch.unique(torch.cat([local, best(left, keep - int(keep * ratio))]))


def merged(x: Tensor, kept: Tensor) -> Tensor:
    """(kept, C): every dropped token goes to the kept one of the greatest cosine; the mean of all, x (N, C)."""
    import torch
    from torch.nn.functional import normalize, one_hot

    dropped = rest(len(x), kept)
    if not len(dropped):
        return x[kept]
    unit = normalize(x, dim=-1)
    share = one_hot((unit[dropped] @ unit[kept].T).argmax(dim=-1), len(kept)).to(x.dtype)
    total: torch.Tensor = (x[kept] + share.T @ x[dropped]) / (1 + share.sum(dim=0))[:, None]
    return total


def _tower(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    rows = zip(inputs["shallow_cls"], inputs["deep_cls"], strict=True)
    sizes = params["keep"], tuple(params["grid"]), params["window"], params["local_ratio"]
    kept = [vscan(a, b, *sizes) for a, b in rows]
    tokens = [merged(x, k) for x, k in zip(inputs["x"], kept, strict=True)]
    return {"kept": torch.stack(kept), "tokens": torch.stack(tokens)}


def _from_pixels(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Behind a whole tower, with the identity for a projector."""
    tower, side = clip_tower(params["arch"], weights), params["arch"]["image_size"] // params["arch"]["patch_size"]
    shallow, deep = (tower.attention[layer][:, 0, 1:].mean(dim=0) for layer in (5, -2))
    sizes = params["keep"], (side, side), params.get("window", 6), params.get("local_ratio", 0.5)
    kept = vscan(shallow, deep, *sizes)
    return {"kept": kept[None], "tokens": merged(tower.hidden[-2][1:], kept)[None]}


REDUCERS = (
    ReducerCard(
        "vscan",
        "VScan: global and local scans, then one cut in the language model",
        ("projector", "llm"),
        "select and merge",
        query_aware=True,
        needs=("cls attention of layers 5 and -2", "q and k of one layer for the last instruction token"),
        positions="renumbered",
        knob="count; layers and counts inside the language model",
        code="https://github.com/Tencent/SelfEvolvingAgent",
        commit="a82450e1b5e1",
        note="the first stage does not read the question, the second does",
        deviates="windows get equal whole shares, so that fewer tokens than asked for remain (98 of 100)",
        rules={"vscan-vit": _tower, "vscan-llm": ranked_by_the_last_token, "tower-vscan": _from_pixels},
    ),
)
