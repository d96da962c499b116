"""What every table of reducers must hold beside them: tokens chosen without looking, plain averages, smaller pictures.

uniform: the centres of equal segments of the raster, as CenterCLIP's token_sparse_sampling
(mzhaoshuai/CenterCLIP at 886fe73, modules/cluster/cluster_utils.py:136-174).
adaptive pooling: windows that overlap where sides do not divide, as LangDC's pooling branch
(NIneeeeeem/LangDC at b7b598e, langdc/model/arch.py:26-33).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._selection import grid_for, on_grid, pairs
from vtbench.adapters.reducers._vit import clip_tower
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def centres(total: int, count: int) -> list[int]:
    """Of `count` equal segments of `total` places, the place in the middle. Upstream gives `total` itself, which is no
    place, where more are asked for than there are; so does this, and whoever selects by it refuses."""
    if total <= count:
        return [min(i, total) for i in range(count)]
    segment = total / count
    return [int(segment / 2 + segment * i) for i in range(count)]


def _uniform(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"cases": [centres(case["total"], case["target"]) for case in params["cases"]]}


def pooled(x: Tensor, side: tuple[int, int]) -> Tensor:
    """(B, h * w, C) of a square grid of tokens (B, N, C): adaptive average pooling."""
    from torch.nn.functional import adaptive_avg_pool2d

    root = round(x.shape[1] ** 0.5)
    grid = x.transpose(1, 2).unflatten(2, (root, root))
    return adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)


def _adaptive(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    height, width = params["shape"]
    return {"tokens": pooled(inputs["x"], (height, width))}


def _whole(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the tower itself gives, which tells a fault of the tower from one of a reducer: of the layers and of as many
    rows as the fixture lists."""
    import torch

    tower, listed = clip_tower(params, weights), params["outputs"]
    layers, rows = listed["cls_attention_layers"], listed["features"]["shape"][1]
    received = {f"received_attention_{i}": one.mean(dim=(0, 1)) for i, one in enumerate(tower.attention)}
    return received | {
        "cls_attention_layers": layers,
        "cls_attention": torch.stack([tower.attention[layer][:, 0, 1:].mean(dim=0) for layer in layers]),
        "features": tower.hidden[-2][None, 1 : 1 + rows],
    }


class Full(Reducer):
    """Nothing is dropped."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        return Reduction(kept=torch.arange(len(view)), positions="original")


class Random(Reducer):
    """Any tokens, in raster order; `draw` is the number of the throw, so that a spread can be had."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        # Far from each other, whatever the item's seed is: torch mixes all 64 bits.
        generator = torch.Generator().manual_seed((seed + 0x9E3779B97F4A7C15 * int(self.options["draw"])) % 2**63)
        return Reduction(kept=torch.randperm(len(view), generator=generator)[:budget].sort().values)


class Uniform(Reducer):
    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch

        return Reduction(kept=torch.tensor(centres(len(view), budget)))


class Pooling(Reducer):
    """To the grid of the most places that the budget allows."""

    needs = Needs(grid=True)

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        import torch
        from torch.nn.functional import adaptive_avg_pool2d

        height, width = on_grid(view, self.card.name)
        size = grid_for((height, width), budget)
        planes = view.features.T.unflatten(1, (height, width))
        values = adaptive_avg_pool2d(planes, size).flatten(1).T
        # The windows of adaptive pooling, which overlap where sides do not divide.
        tokens = torch.arange(height * width).reshape(height, width)
        edges: list[Any] = []
        for row in range(values.shape[0]):
            (top, bottom), (left, right) = (
                (k * side // count, -(-(k + 1) * side // count))
                for k, side, count in zip(divmod(row, size[1]), (height, width), size, strict=True)
            )
            window = tokens[top:bottom, left:right].flatten()
            edges.append(pairs(torch.full_like(window, row), window))
        sources = torch.cat(edges)
        counts = torch.bincount(sources[:, 0])
        return Reduction(values=values, sources=sources, weights=1.0 / counts[sources[:, 0]])


class Resize(Reducer):
    """The picture itself, smaller: as many tokens for a tower that does less everywhere."""

    def resized(self, grid: tuple[int, int], budget: int) -> tuple[int, int]:
        return grid_for(grid, budget)


REDUCERS = (
    ReducerCard(
        "full",
        "Full model: all tokens",
        ("tower",),
        "select",
        positions="original",
        licence="Apache-2.0",
        code="https://github.com/huggingface/transformers",
        commit="v5.24.0",
        rules={"tower-attention": _whole},
        build=Full,
        baseline=True,
    ),
    ReducerCard(
        "random",
        "Random tokens",
        ("tower", "vit"),
        "select",
        positions="renumbered",
        knob="count",
        note="a table shows five draws",
        build=Random,
        options={"draw": 0},
        baseline=True,
        spread_over="draw",
    ),
    ReducerCard(
        "resize",
        "Input resized to as many tokens",
        ("input",),
        "resize",
        positions="those of the small picture",
        knob="count",
        note="the baseline that papers leave out: cheaper in every layer",
        build=Resize,
        baseline=True,
    ),
    ReducerCard(
        "uniform",
        "Uniform: centres of equal segments of the raster",
        ("tower", "vit", "llm"),
        "select",
        knob="count",
        code="https://github.com/mzhaoshuai/CenterCLIP",
        commit="886fe7342956",
        licence="CC-BY-NC-4.0",
        rules={"uniform-sampling": _uniform},
        build=Uniform,
        baseline=True,
    ),
    ReducerCard(
        "adaptive-pooling",
        "Average pooling of the grid, adaptive",
        ("tower", "projector", "vit"),
        "merge",
        knob="height and width",
        code="https://github.com/NIneeeeeem/LangDC",
        commit="b7b598ea8c50",
        licence="CC-BY-4.0",
        rules={"adaptive-pooling": _adaptive},
        build=Pooling,
        baseline=True,
    ),
)
