"""VScan: a global and a local scan of the tower's tokens with merging, and one cut inside the language model.

Tencent/SelfEvolvingAgent at a82450e, VScan/llava/model/llava_arch.py:142-293 and modeling_llama_x.py:1320-1512.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, in_place, on_grid, pairs, rest
from vtbench.adapters.reducers._vit import clip_tower
from vtbench.adapters.reducers.pyramiddrop import by_own_row, ranked_by_the_last_token
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

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


def nearest(x: Tensor, kept: Tensor) -> Tensor:
    """Which kept token each dropped one is most like, by the cosine."""
    from torch.nn.functional import normalize

    unit = normalize(x, dim=-1)
    return (unit[rest(len(x), kept)] @ unit[kept].T).argmax(dim=-1)


def merged(x: Tensor, kept: Tensor) -> Tensor:
    """(kept, C): every dropped token goes to the kept one of the greatest cosine; the mean of all, x (N, C)."""
    import torch
    from torch.nn.functional import one_hot

    dropped = rest(len(x), kept)
    if not len(dropped):
        return x[kept]
    share = one_hot(nearest(x, kept), len(kept)).to(x.dtype)
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
    tower, side = clip_tower(params, weights), params["arch"]["image_size"] // params["arch"]["patch_size"]
    shallow, deep = (tower.attention[layer][:, 0, 1:].mean(dim=0) for layer in (5, -2))
    sizes = params["keep"], (side, side), params.get("window", 6), params.get("local_ratio", 0.5)
    kept = vscan(shallow, deep, *sizes)
    return {"kept": kept[None], "tokens": merged(tower.hidden[-2][1:], kept)[None]}


class VScan(Reducer):
    """The budget is of the first stage. window: side of the windows of the local scan, 0 for a quarter of the grid's (6
    of 24). In a language model a second stage keeps the share `llm_keep` of these before layer `llm_layer`, counted
    from 0 (0: half of the layers, 16 of 32), by the attention of the prompt's last token in that layer."""

    together = True

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        self.shallow = int(self.options["shallow_layer"])
        self.needs = Needs(rows=(self.shallow, -2), grid=True, cls=True)

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        grid = on_grid(view, self.card.name)
        window = int(self.options["window"]) or min(grid) // 4
        if not 1 <= window <= min(grid):
            raise VtbenchError(f"VScan: windows of {window} on a grid of {grid[0]} x {grid[1]}: give another window")
        shallow, deep = (view.image(view.rows[layer]).mean(dim=0) for layer in (self.shallow, -2))
        kept = vscan(shallow, deep, budget, grid, window, float(self.options["local"]))
        dropped = rest(len(view), kept)
        row = nearest(view.features, kept)
        sources = torch.cat([pairs(torch.arange(len(kept)), kept), pairs(row, dropped)])
        weights = 1.0 / torch.bincount(sources[:, 0], minlength=len(kept))[sources[:, 0]]
        left = tuple(side % window for side in grid)
        said = (f"windows of {window} leave {left[0]} rows and {left[1]} columns out of the local scan",)
        return Reduction(kept, merged(view.features, kept), sources, weights, fallbacks=said if any(left) else ())

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        share = float(self.options["llm_keep"])
        if not 0 < share <= 1:
            raise VtbenchError(f"VScan: llm_keep {share}: give a share above 0, up to 1 (1: no second stage)")
        layer = int(self.options["llm_layer"]) or max(1, depth // 2)
        return [] if share == 1 else [(layer, by_own_row(max(1, int(n * share))))]


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
        build=VScan,
        options={"local": 0.5, "window": 0, "shallow_layer": 5, "llm_layer": 0, "llm_keep": 0.5},
    ),
)
