"""VFlowOpt: importance by attention and entropy; what is dropped is recycled, a token a cell
(sihany077/VFlowOpt at 129eeef, src/LLaVA-OneVision/llava/model/multimodal_encoder/siglip_encoder.py:205-228 and
464-482, language_model/llava_qwen_training_free.py:573-629)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtbench.types.reduction import ReducerCard

if TYPE_CHECKING:
    from torch import Tensor

GREY, LEVELS = 0.3333, 256


def entropies(pixels: Tensor, patch: int, side: int, dtype: Any) -> Tensor:
    """(B, side, side) in bits, of the grey levels of each patch; pixels uint8 (B, 3, H, W)."""
    import torch

    grey = (pixels.float() * GREY).sum(dim=1).round().long().clamp(max=LEVELS - 1)
    cells = grey.unfold(1, patch, patch).unfold(2, patch, patch)[:, :side, :side].flatten(3).flatten(0, 2)
    counts = torch.zeros(len(cells), LEVELS, dtype=dtype)
    counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=dtype))
    shares = counts / cells.shape[1]
    return -(shares * (shares + 1e-10).log2()).sum(dim=-1).reshape(len(pixels), side, side)


def _importance(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """attn_mean (B, N, N): the mean over heads. Tokens that receive more than t times the mean say what is important;
    NaN where there is none, as upstream."""
    import torch

    attention = inputs["attn_mean"]
    entropy = entropies(inputs["pixels_u8"], params["patch"], params["side"], attention.dtype)
    received = attention.mean(dim=1)
    wide = received > params["t"] * received.mean(dim=1, keepdim=True)
    rows = torch.stack([one[chosen].mean(dim=0) for one, chosen in zip(attention, wide, strict=True)])
    return {"importance": rows + params["alpha"] * entropy.flatten(1).softmax(dim=-1), "entropy": entropy}


def _cells(grids: list[tuple[int, int]], m: float) -> list[tuple[int, int, int]]:
    """The cell of side m (not whole) in which every token lies, grid by grid; divided in float32, as upstream."""
    import torch

    line = (torch.arange(max(map(max, grids))).float() / m).floor().long().tolist()
    return [(g, line[r], line[c]) for g, (h, w) in enumerate(grids) for r in range(h) for c in range(w)]


def _recycle(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """x (N, C), importance (N,): the base grid, then the local one. A cell's dropped tokens become one, their mean by
    importance, at the place of the most important of them: not exactly r * N tokens stay."""
    import torch

    x, importance = inputs["x"], inputs["importance"]
    count = len(x)
    dropped = round(count * (1 - params["r"])) + int(count / (params["m"] * params["m"]))
    low = importance.sort(stable=True).indices[:dropped].sort().values.tolist()
    cells = _cells([tuple(params[name]) for name in ("base", "local") if params.get(name)], params["m"])
    groups: dict[tuple[int, int, int], list[int]] = {}
    for place in low:
        groups.setdefault(cells[place], []).append(place)
    tokens, stays = x.clone(), torch.ones(count, dtype=torch.bool)
    stays[low] = False
    for members in groups.values():
        weight = importance[members]
        place = members[int(weight.argmax())]
        tokens[place] = (x[members] * weight[:, None]).sum(dim=0) / weight.sum()
        stays[place] = True
    kept = stays.nonzero().flatten()
    return {"tokens": tokens[kept], "importance_out": importance[kept], "kept": kept}


REDUCERS = (
    ReducerCard(
        "vflowopt",
        "VFlowOpt: importance by attention and entropy, the dropped recycled",
        ("projector", "llm"),
        "select and merge",
        needs=("attention of SigLIP's layer 25", "pixels", "grids"),
        positions="sliced",
        knob="t, alpha, side of a cell, ratio, ratios inside the language model",
        licence="CC-BY-NC-4.0",
        code="https://github.com/sihany077/VFlowOpt",
        commit="129eeefb97d0",
        deviates="the entropy is of normalised pixels, whose negative values wrap; more tokens stay than r says",
        rules={"vflowopt-importance": _importance, "vflowopt-recycle": _recycle},
    ),
)
