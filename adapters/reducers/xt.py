"""xT: a large image in regions that go through the same backbone (bair-climate-initiative/xT at 4e79e41,
xt/models/decoders/decoder.py:339-350)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import ReducerCard


def _regions(inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """(B * R * R, C, crop, crop) of x (B, C, S, S), a picture's regions together in raster order."""
    x, crop = inputs["x"], params["crop"]
    height, width = x.shape[2:]
    if height != width or height % crop:
        raise VtbenchError(
            f"a picture of {height} x {width} has no whole regions of {crop}: give a square multiple of it"
        )
    blocks = x.unfold(2, crop, crop).unfold(3, crop, crop)
    return {"regions": blocks.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)}


REDUCERS = (
    ReducerCard(
        "xt",
        "xT: regions of a large image through one backbone",
        ("input",),
        "resize",
        training="trained",
        needs=("regions",),
        positions="two-dimensional sines and cosines",
        knob="side of a region",
        licence="BSD-style",
        code="https://github.com/bair-climate-initiative/xT",
        commit="4e79e4190129",
        note="the number of tokens at one resolution stays: its rate is that of the backbone",
        rules={"xt-nested": _regions},
    ),
)
