"""Rounding between uint8 and floats: arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from vtbench.images import one_pass
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


def _layouts(values: torch.Tensor) -> Iterator[torch.Tensor]:
    """(N, C, H, W) as it is, channels last, and two that lie in no order."""
    yield values
    yield values.contiguous(memory_format=torch.channels_last)
    yield values.transpose(2, 3)
    yield values[:, :, ::2, 1:]


def _orders(images: torch.Tensor) -> tuple[bool, bool]:
    """Whether memory is in the order of the axes, and channels last: both where only axes of one are between."""
    return images.is_contiguous(), images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (4, 3, 33, 17), (2, 1, 256, 255), (1, 32, 5, 1), (0, 3, 8, 8)])
def test_one_pass_gives_what_torch_gives(shape: tuple[int, ...]) -> None:
    """To the bit and in the same layout, with values on and beside the borders between levels."""
    draw = torch.Generator().manual_seed(3)
    borders = (torch.randint(0, 255, shape, generator=draw) + 0.5) / 255
    steps = torch.randint(-3, 4, shape, generator=draw, dtype=torch.int32)
    for fractions in (torch.rand(shape, generator=draw), (borders.view(torch.int32) + steps).view(torch.float32)):
        for images in _layouts(fractions):
            levels = to_uint8(images)
            assert torch.equal(levels, images.clamp(0, 1).mul(255).round().to(torch.uint8))
            assert _orders(levels) == _orders(images.mul(255))
            assert torch.equal(to_float(levels), levels.float() / 255)
            assert _orders(to_float(levels)) == _orders(levels.float())


@pytest.mark.parametrize("shape", [(5,), (2, 3), (3, 4, 5), (1, 2, 3, 4, 5), ()])
def test_other_shapes_are_rounded_too(shape: tuple[int, ...]) -> None:
    fractions = torch.rand(shape, generator=torch.Generator().manual_seed(4))
    levels = to_uint8(fractions)
    assert torch.equal(levels, fractions.mul(255).round().to(torch.uint8))
    assert torch.equal(to_float(levels), levels.float() / 255)


@pytest.fixture
def untried() -> Iterator[None]:
    one_pass._rounds_as_torch.cache_clear()
    yield
    one_pass._rounds_as_torch.cache_clear()


def test_a_processor_on_which_opencv_rounds_otherwise(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half up instead of half to even, in one level of 255: torch rounds there."""
    assert one_pass._rounds_as_torch()
    one_pass._rounds_as_torch.cache_clear()
    monkeypatch.setattr(one_pass, "_levels", lambda rows: (rows * 255 + 0.5).astype("uint8"))
    fractions = torch.tensor([[0.5 / 255, 100.5 / 255, 1.0]])
    assert one_pass.rounded(fractions) is None
    assert to_uint8(fractions).tolist() == [[0, 100, 255]]


def test_a_default_device_of_the_caller_changes_nothing(untried: None) -> None:
    one_pass._fractions.cache_clear()
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    with torch.device("meta"):
        assert torch.equal(to_uint8(to_float(levels)), levels)
    assert one_pass.scaled(levels) is not None
