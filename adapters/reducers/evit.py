"""EViT: in some blocks only the patches that the CLS token attends to go on
(youweiliang/evit at 5ca95a7, evit.py:178-272 and helpers.py:7-73)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from vtbench.adapters.reducers._selection import best, pairs, rest
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView


def _block(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """One whole block: attention, its residual, the choice, then the MLP. Kept rows stand by falling attention."""
    import torch
    from torch.nn.functional import gelu, layer_norm, linear

    x, heads, eps = inputs["x"], params["heads"], params["norm_eps"]
    batch, count, width = x.shape

    def norm(name: str, value: torch.Tensor) -> torch.Tensor:
        return layer_norm(value, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def dense(name: str, value: torch.Tensor) -> torch.Tensor:
        return linear(value, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    q, k, v = dense("attn.qkv", norm("norm1", x)).reshape(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
    attention = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    x = x + dense("attn.proj", (attention @ v).transpose(1, 2).flatten(2))
    row = attention[:, :, 0, 1:].mean(dim=1)
    # As upstream, which looks at the attention only where it drops something.
    out: dict[str, Any] = {}
    rate = params["keep_rate"]
    left = math.ceil(rate * (count - 1)) if params.get("tokens") is None else params["tokens"]
    if left < count - 1:
        kept = best(row, left)
        rows = [x[:, :1], torch.stack([one[1 + index] for one, index in zip(x, kept, strict=True)])]
        if params["fuse_token"]:
            dropped = [rest(count - 1, index) for index in kept]
            pairs = zip(x, row, dropped, strict=True)
            rows.append(torch.stack([(one[1 + d] * a[d][:, None]).sum(dim=0, keepdim=True) for one, a, d in pairs]))
        x = torch.cat(rows, dim=1)
        out |= {"kept": kept, "cls_attn": row}
    out["n_tokens"] = x.shape[1] - 1
    hidden = gelu(dense("mlp.fc1", norm("norm2", x)))
    return out | {"y": x + dense("mlp.fc2", hidden)}


def keep_rate(at: int, epoch: int, warm: int, last: int, each: int, base: float, *, top: float = 1.0) -> float:
    """The training's keep rate at iteration `at`: 1 in the first `warm` epochs, `base` from epoch `last` on, a cosine
    from `top` between; `each`: iterations an epoch."""
    if epoch < warm:
        return 1.0
    if epoch >= last:
        return base
    run = each * (last - warm)
    return base + (top - base) * 0.5 * (math.cos(math.pi * (at - each * warm) / run) + 1.0)


def _rates(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    names = ("iters", "epoch", "warmup_epochs", "total_epochs", "iters_per_epoch", "base_keep_rate")
    return {
        "cases": [keep_rate(*(case[n] for n in names), top=case.get("max_keep_rate", 1.0)) for case in params["cases"]]
    }


class EViT(Reducer):
    """In three blocks (3, 6 and 9 of 12) by the same rate each; fuse: one of the tokens is the dropped ones' sum."""

    needs = Needs(rows=(-1,), cls=True)
    inside = True

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        blocks = sorted({min(depth - 1, depth * k // 4) for k in (1, 2, 3)})
        targets = [max(budget, round(n * (budget / n) ** (k / len(blocks)))) for k in range(1, len(blocks) + 1)]
        return [(block, functools.partial(self._cut, count)) for block, count in zip(blocks, targets, strict=True)]

    def _cut(self, count: int, view: TowerView) -> Reduction:
        import torch

        row, fuse = view.image(view.rows[-1]).mean(dim=0), bool(self.options["fuse"])
        if count >= len(view):
            return Reduction(kept=torch.arange(len(view)), positions="original")
        kept = best(row, count - fuse)
        if not fuse:
            return Reduction(kept=kept, positions="none")
        dropped = rest(len(view), kept)
        fused = (view.features[dropped] * row[dropped][:, None]).sum(dim=0, keepdim=True)
        places = torch.cat([kept, torch.tensor([-1])])
        sources = torch.cat([pairs(torch.arange(len(kept)), kept), pairs(torch.full_like(dropped, len(kept)), dropped)])
        weights = torch.cat([torch.ones(len(kept)), row[dropped]])
        return Reduction(places, torch.cat([view.features[kept], fused]), sources, weights, positions="none")


REDUCERS = (
    ReducerCard(
        "evit",
        "EViT: the CLS token's attention in blocks 3, 6 and 9",
        ("vit",),
        "select and merge",
        training="trained",
        needs=("cls attention of the block",),
        positions="lost: rows stand by falling attention",
        knob="keep rate",
        licence="Apache-2.0",
        code="https://github.com/youweiliang/evit",
        commit="5ca95a7cf4a8",
        note="works untrained as well; with fusing, one more token holds the weighted sum of the dropped ones",
        rules={"evit": _block, "evit-schedule": _rates},
        build=EViT,
        options={"fuse": True},
    ),
)
