"""HiRED: a budget for each tile of a picture, spent on the tokens that the CLS token attends to.

hasanar1f/HiRED at 502d6dd, modeling_llava_next.py:490-559 and modeling_llava.py:340-354 of its
transformers fork.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import best, in_place
from vtbench.adapters.reducers._vit import clip_tower
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def best_resolution(size: tuple[int, int], pinpoints: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(height, width) of the grid on which LLaVA-NeXT lays a picture of that size: most of its pixels kept, then the
    least area wasted (transformers' select_best_resolution)."""
    height, width = size

    def rank(point: tuple[int, int]) -> tuple[int, int]:
        scale = min(point[1] / width, point[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return -kept, point[0] * point[1] - kept

    return min(pinpoints, key=rank)


def budgets(first: Tensor, grid: tuple[int, int], rate: float, alpha: float) -> list[int]:
    """Tokens of every tile, the whole picture first. first (N,): layer 0's attention of the CLS token over the whole
    picture, summed over heads.

    As upstream, the map of the most attended places is cut into runs of the raster, not into the tiles' own blocks, and
    every share is truncated, so that the budget may not be spent.
    """
    import torch

    count, tiles = len(first), grid[0] * grid[1]
    budget = int((tiles + 1) * count * rate)
    whole = min(int(budget * alpha), count)
    parts = min(budget - whole, tiles * count)
    if parts <= 0:
        return [whole, *[0] * tiles]
    if not int(count * (1 - alpha)):
        raise VtbenchError(
            f"HiRED: alpha {alpha} leaves no place of the whole picture by which {parts} tokens could be shared out "
            f"among {tiles} tiles: give a smaller alpha"
        )
    chosen = torch.zeros(count)
    chosen[best(first, int(count * (1 - alpha)))] = 1
    shares = chosen.reshape(tiles, -1).sum(dim=1)
    spent = (shares / shares.sum() * parts).tolist()
    return [whole, *(min(int(s), count) for s in spent)]


def _next(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    first, last = (inputs[f"{name}_attn_cls"].sum(dim=1)[:, 1:] for name in ("first", "last"))
    out: dict[str, Any] = {"budgets": []}
    start = 0
    for i, (size, tiles) in enumerate(zip(params["image_sizes"], params["tiles_per_image"], strict=True)):
        height, width = best_resolution(tuple(size), [tuple(p) for p in params["image_grid_pinpoints"]])
        grid = height // params["tile"], width // params["tile"]
        each = budgets(first[start], grid, params["rate"], params["alpha"])
        mask = torch.zeros(tiles, last.shape[1], dtype=torch.bool)
        for tile, count in enumerate(each):
            mask[tile, best(last[start + tile], count)] = True
        out["budgets"].append(each)
        out[f"mask_{i}"] = mask
        start += tiles
    return out


def _llava(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    scores = inputs["attn_cls"][0].sum(dim=0)[1:]
    return {"kept": in_place(best(scores, int(len(scores) * params["rate"])))}


def _from_pixels(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """LLaVA-1.5's form behind a whole tower."""
    attention = clip_tower(params, weights).attention[-2][None, :, 0]
    return {"kept": _llava({"attn_cls": attention}, params, weights)["kept"][None]}


class HiRED(Reducer):
    """Of one picture LLaVA-1.5's form; of several tiles LLaVA-NeXT's, whose budgets follow the whole picture's map in
    the tower's first layer, and whose marks of row ends are left out."""

    needs = Needs(rows=(0, -2), cls=True)
    row_ends = False

    def shares(self, views: Sequence[TowerView], budget: int) -> list[int] | None:
        first = views[0].image(views[0].rows[0]).sum(dim=0)
        # A share of the tokens that truncation gives back as the very budget.
        rate = (budget + 0.5) / (len(views) * len(first))
        return budgets(first, (1, len(views) - 1), rate, float(self.options["alpha"]))

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Reduction(kept=in_place(best(view.image(view.rows[-2]).sum(dim=0), budget)))


REDUCERS = (
    ReducerCard(
        "hired",
        "HiRED: budgets by tile, by the CLS token's attention",
        ("tower", "projector"),
        "select",
        needs=("cls attention of layers 0 and 22", "tiles"),
        positions="renumbered",
        knob="rate of the budget; alpha",
        licence="MIT",
        code="https://github.com/hasanar1f/HiRED",
        commit="502d6dd79a03",
        deviates="the map of the whole picture is cut into runs of the raster, not into the tiles' blocks; truncation "
        "spends less than the budget; LLaVA-1.5's form reads the first picture of a batch",
        rules={"hired": _next, "hired-llava": _llava, "tower-hired": _from_pixels},
        build=HiRED,
        options={"alpha": 0.5},
    ),
)
