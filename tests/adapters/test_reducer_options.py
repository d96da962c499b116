"""Options of reducers' rules that no fixture here has: budgets at their ends, nothing to merge, no candidate left.

What is right follows from upstream's code by arithmetic, said beside each.
"""

from __future__ import annotations

import pytest
import torch

from vtbench import registry
from vtbench.adapters.reducers.centerclip import near_in_place_and_time
from vtbench.adapters.reducers.dart import dart
from vtbench.adapters.reducers.fastervlm import vispruner
from vtbench.adapters.reducers.hired import budgets
from vtbench.adapters.reducers.tome import matching
from vtbench.types.errors import VtbenchError


@pytest.mark.parametrize(
    ("rate", "alpha", "each"),
    [
        # 180 tokens: 18 for the whole picture, of the other 162 the 144 that four tiles have; the 32 most attended
        # places are the first, in runs of 9, 9, 9 and 5, whose shares of 40.5 and 22.5 are truncated and bounded.
        (1.0, 0.1, [18, 36, 36, 36, 22]),
        # int(36 * 1.0) = 36 for the whole picture, none is left.
        (0.2, 1.0, [36, 0, 0, 0, 0]),
        (0.0, 0.5, [0, 0, 0, 0, 0]),
    ],
)
def test_hired_spends_no_more_than_there_is(rate: float, alpha: float, each: list[int]) -> None:
    assert budgets(torch.ones(36), (2, 2), rate, alpha) == each


def test_hired_says_where_nothing_tells_tiles_apart() -> None:
    with pytest.raises(VtbenchError, match="give a smaller alpha"):
        budgets(torch.ones(36), (2, 2), 0.9, 1.0)


def test_dart_stops_where_every_token_is_chosen() -> None:
    states, hidden = torch.randn(2, 2, 14, 4, generator=torch.Generator().manual_seed(0)), torch.randn(14, 8)
    assert dart(hidden, states[0], 2, 8, (2, 2), 5) == list(range(8))
    rule = registry.reducers().get("dart").rules["dart"]
    params = {"start": 2, "image_tokens": 8, "pivot_image": 1, "pivot_text": 1, "per_pivot": 1}
    both = rule({"hidden": torch.stack([hidden, hidden + 1]), "states": states}, params, {})["kept"]
    alone = [dart(h, s, 2, 8, (1, 1), 1) for h, s in zip((hidden, hidden + 1), states, strict=True)]
    assert both.tolist() == alone
    assert both.shape == (2, 3)


@pytest.mark.parametrize("cls", [False, True])
def test_tome_leaves_all_in_place_where_nothing_merges(cls: bool) -> None:
    rows, back, count = matching(torch.randn(9, 4), 0, cls=cls)
    assert rows.tolist() == back.tolist() == list(range(9))
    assert count == 9


def test_tome_schedules_of_a_whole_vit_may_hold_a_zero() -> None:
    rule = registry.reducers().get("tome").rules["tome-vit"]
    width = 8
    sizes = {"image_size": 16, "patch": 8, "dim": width, "heads": 2, "depth": 2, "prop_attn": True}
    shapes = {"patch_embed.proj.weight": (width, 3, 8, 8), "patch_embed.proj.bias": (width,), "head.bias": (3,)}
    shapes |= {"cls_token": (1, 1, width), "pos_embed": (1, 5, width), "head.weight": (3, width)}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    for block in ("blocks.0", "blocks.1"):
        shapes |= {f"{block}.{norm}.{name}": (width,) for norm in ("norm1", "norm2") for name in ("weight", "bias")}
        shapes |= {f"{block}.attn.qkv.weight": (3 * width, width), f"{block}.attn.qkv.bias": (3 * width,)}
        shapes |= {f"{block}.attn.proj.weight": (width, width), f"{block}.attn.proj.bias": (width,)}
        shapes |= {f"{block}.mlp.fc1.weight": (2 * width, width), f"{block}.mlp.fc1.bias": (2 * width,)}
        shapes |= {f"{block}.mlp.fc2.weight": (width, 2 * width), f"{block}.mlp.fc2.bias": (width,)}
    generator = torch.Generator().manual_seed(1)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    words = "cat[fill.image(S), 0.7*fill.image(S) flipped left-right]"
    # One 0 more than there are blocks: upstream takes as many as there are.
    out = rule({}, {**sizes, "r": [0, 0, 0], "r_kind": "list", "input": words}, weights)
    assert torch.equal(out["source"], torch.eye(5, dtype=torch.uint8).expand(2, -1, -1))
    assert torch.equal(out["logits_full"], out["logits_reduced"])


def test_vispruner_of_important_tokens_alone() -> None:
    attention = torch.arange(16.0)
    assert vispruner(attention, torch.randn(16, 4), 4, 1.0).tolist() == [12, 13, 14, 15]


def test_centerclip_s_neighbourhood_is_nine_places_by_seven_frames() -> None:
    near = near_in_place_and_time(49, 5)
    assert near.shape == (245, 245)
    assert torch.equal(near, near.T)
    # From the first corner of a 7 x 7 grid: 5 rows, 5 columns, 4 of the 5 frames.
    assert int(near[0].sum()) == 5 * 5 * 4
