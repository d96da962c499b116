"""Rounding between uint8 and floats: arithmetic."""

from __future__ import annotations

import pytest
import torch

from vtbench.images.rounding import to_float, to_uint8
from vtbench.types.errors import VtbenchError


def test_all_levels_survive() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16).contiguous()
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert to_float(levels).dtype == torch.float32


def test_round_to_nearest_and_clamp() -> None:
    values = torch.tensor([-0.2, 0.49 / 255, 0.51 / 255, 99.6 / 255, 254.6 / 255, 1.004, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 1, 100, 255, 255, 255]
    # The caller's tensor is left as it is, and half precision is rounded in float32.
    assert values[0] == pytest.approx(-0.2)
    assert to_uint8(torch.tensor([0.5], dtype=torch.bfloat16)).tolist() == [128]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_numbers(value: float) -> None:
    with pytest.raises(VtbenchError, match="NaN or infinity"):
        to_uint8(torch.tensor([0.5, value]))
    with pytest.raises(VtbenchError, match="converts uint8"):
        to_float(torch.zeros(3))
