"""ToMe: token merging by bipartite matching of keys (facebookresearch/ToMe at af95e4b, tome/merge.py:18-239 and
tome/utils.py:80-105)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.adapters.reducers._layers import attend, dense, mlp, norm
from vtbench.adapters.reducers._selection import pairs
from vtbench.adapters.reducers._vit import pixels
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


def matching(metric: Tensor, r: int, *, cls: bool, distill: bool = False) -> tuple[Tensor, Tensor, int]:
    """(row of the output into which every token goes, int64 (N,); the row from which upstream's unmerge takes it; rows
    of the output) for one image, metric (N, D).

    Even places each find their most similar odd place; the r of the greatest likeness merge into it. The output is the
    even places that stay, in the raster's order behind a class token and else by falling likeness, then the odd ones. A
    class token never merges, a distillation token is nobody's target; it stands second, which unmerge does not regard.
    Where nothing merges, rows stay put.
    """
    import torch
    from torch.nn.functional import normalize

    count = len(metric)
    r = min(r, (count - int(cls) - int(distill)) // 2)
    if r <= 0:
        places = torch.arange(count)
        return places, places, count
    unit = normalize(metric, dim=-1)
    scores = unit[::2] @ unit[1::2].T
    if cls:
        scores[0] = -math.inf
    if distill:
        scores[:, 0] = -math.inf
    value, target = scores.max(dim=-1)
    order = value.sort(descending=True, stable=True).indices
    staying, going = order[r:], order[:r]
    if cls:
        staying = staying.sort().values
    targets = torch.arange(scores.shape[1])
    back = torch.empty(count, dtype=torch.int64)
    back[2 * staying] = torch.arange(len(staying))
    back[2 * targets + 1] = len(staying) + targets
    back[2 * going] = len(staying) + target[going]
    rows = back.clone()
    if distill:
        # The class token, the distillation token, then the other even and the other odd places.
        behind = torch.where(back == len(staying), 1, torch.where(back < len(staying), back + 1, back))
        rows = torch.where(back == 0, 0, behind)
    return rows, back, count - r


def merged(x: Tensor, size: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(means weighted by size (count, C), sizes (count, 1)) of tokens (N, C) that stand for size (N, 1) patches."""
    from torch.nn.functional import one_hot

    share = one_hot(rows, count).to(x.dtype)
    sizes = share.T @ size
    return share.T @ (x * size) / sizes, sizes


def _soft(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    import torch

    x, ones = inputs["x"], torch.ones_like(inputs["x"][..., :1])
    tokens: dict[str, list[Any]] = {n: [] for n in ("tokens", "size", "map", "tokens_plain_mean", "unmerged")}
    for i, metric in enumerate(inputs["metric"]):
        rows, back, count = matching(metric, params["r"], cls=params["class_token"], distill=params["distill_token"])
        size = inputs["size"][i] if "size" in inputs else ones[i]
        weighted, sizes = merged(x[i], size, rows, count)
        plain, _ = merged(x[i], ones[i], rows, count)
        for name, value in zip(tokens, (weighted, sizes, rows, plain, weighted[back]), strict=True):
            tokens[name].append(value)
    return {name: torch.stack(each) for name, each in tokens.items()}


def _kth(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every k-th token is a target of all others; what is left of N / k is dropped."""
    import torch
    from torch.nn.functional import normalize

    k = params["k"]
    if k <= 1:
        return {"tokens": inputs["x"], "unmerged": inputs["x"]}
    tokens, unmerged = [], []
    for metric, x in zip(inputs["metric"], inputs["x"], strict=True):
        whole = len(x) // k * k
        place = torch.arange(whole)
        targets, others = place[place % k == k - 1], place[place % k != k - 1]
        unit = normalize(metric, dim=-1)
        rows = torch.empty(whole, dtype=torch.int64)
        rows[targets] = torch.arange(len(targets))
        rows[others] = (unit[others] @ unit[targets].T).argmax(dim=-1)
        means, _ = merged(x[:whole], torch.ones_like(x[:whole, :1]), rows, len(targets))
        tokens.append(means)
        unmerged.append(means[rows])
    return {"tokens": torch.stack(tokens), "unmerged": torch.stack(unmerged)}


def schedule(layers: int, r: int | list[int] | tuple[int, float]) -> list[int]:
    """Tokens merged in every block: the same r; r and how it falls (-1: linearly from 2 r to 0); or a list, filled up
    with 0."""
    if isinstance(r, int):
        return [r] * layers
    if isinstance(r, list):
        return r + [0] * (layers - len(r))
    count, bend = r
    least = int(count * (1.0 - bend))
    step = (2 * count - least - least) / (layers - 1)
    return [int(least + step * i) for i in range(layers)]


def _schedules(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    cases = params["cases"]
    return {"cases": [schedule(c["layers"], tuple(c["r"]) if c["kind"] == "tuple" else c["r"]) for c in cases]}


def _classify(x: Tensor, rs: list[int], params: Mapping[str, Any], weights: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """(logits (B, classes), sizes (B, T, 1), which tokens stand in each row (B, T, 1 + N)) of timm's ViT with a
    class token; between attention and MLP of every block its number of `rs` is merged."""
    import torch
    from torch.nn.functional import one_hot

    sizes = torch.ones_like(x[..., :1])
    source = torch.eye(x.shape[1], dtype=x.dtype).expand(len(x), -1, -1)
    for block, r in enumerate(rs):
        own = f"blocks.{block}"
        q, k, v = dense(norm(x, weights, f"{own}.norm1", 1e-6), weights, f"{own}.attn.qkv").chunk(3, dim=-1)
        bias = sizes.log()[:, None, None, :, 0] if params["prop_attn"] else None
        x = x + dense(attend(q, k, v, params["heads"], bias), weights, f"{own}.attn.proj")
        each = []
        for i, metric in enumerate(k.unflatten(-1, (params["heads"], -1)).mean(dim=2)):
            rows, _, count = matching(metric, r, cls=True)
            each.append((*merged(x[i], sizes[i], rows, count), one_hot(rows, count).to(x.dtype).T @ source[i]))
        x, sizes, source = (torch.stack(parts) for parts in zip(*each, strict=True))
        x = x + mlp(norm(x, weights, f"{own}.norm2", 1e-6), weights, f"{own}.mlp")
    return dense(norm(x, weights, "norm", 1e-6)[:, 0], weights, "head"), sizes, source


def _vit(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """A whole ViT from the pixels on. r applies in the last block too."""
    import torch
    from torch.nn.functional import conv2d

    kernel = weights["patch_embed.proj.weight"]
    images = pixels(params["input"], params["image_size"], kernel.dtype)
    grid = conv2d(images, kernel, weights["patch_embed.proj.bias"], stride=params["patch"]).flatten(2).transpose(1, 2)
    x = torch.cat([weights["cls_token"].expand(len(grid), -1, -1), grid], dim=1) + weights["pos_embed"]
    r = tuple(params["r"]) if params["r_kind"] == "tuple" else params["r"]
    reduced, sizes, source = _classify(x, schedule(params["depth"], r)[: params["depth"]], params, weights)
    full = _classify(x, [0] * params["depth"], params, weights)[0]
    return {"logits_full": full, "logits_reduced": reduced, "source": source.to(torch.uint8), "sizes": sizes}


class ToMe(Reducer):
    """As many tokens merge in every block as the budget asks for, or `r`; attention is proportional to sizes."""

    needs = Needs(keys=(-1,))
    inside = True
    proportional = True

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        left, now, out = n - budget, n, []
        for block in range(depth):
            r = int(self.options["r"]) or -(-left // (depth - block))
            r = min(r, now // 2)
            out.append((block, functools.partial(self._cut, r)))
            left, now = left - r, now - r
        return [(block, cut) for block, cut in out if cut.args[0] > 0]

    def _cut(self, r: int, view: TowerView) -> Reduction:
        import torch

        cls = view.prefix > 0
        keys = view.keys[-1].unflatten(-1, (view.heads, -1)).mean(dim=1)
        # Registers neither merge nor are merged into.
        metric = torch.cat([keys[:1], view.image_rows(keys)]) if cls else view.image_rows(keys)
        rows, _, count = matching(metric, r, cls=cls)
        rows, count = (rows[1:] - 1, count - 1) if cls else (rows, count)
        sizes = torch.ones(len(view)) if view.sizes is None else view.sizes
        values, total = merged(view.features, sizes.to(view.features)[:, None], rows, count)
        return Reduction(
            values=values,
            sources=pairs(rows, torch.arange(len(view))),
            weights=sizes / total[:, 0][rows],
            positions="none",
        )


REDUCERS = (
    ReducerCard(
        "tome",
        "ToMe: merging by bipartite matching in every block",
        ("vit",),
        "merge",
        needs=("keys of every block",),
        positions="none: a map says where every token went",
        knob="r, tokens a block",
        licence="CC-BY-NC-4.0",
        code="https://github.com/facebookresearch/ToMe",
        commit="af95e4b1befa",
        rules={"tome": _soft, "tome-kth": _kth, "tome-schedule": _schedules, "tome-vit": _vit},
        build=ToMe,
        options={"r": 0},
    ),
)
