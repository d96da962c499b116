"""Float64 as parity's yardstick: the errors that it is rounded by, and the limits that they give one array.

Truths: numbers and their roundings worked out by hand.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vtbench.proving.fixtures import Report
from vtbench.proving.rounding import Array, measure, random_errors

# -- the errors ------------------------------------------------------------------------------------------------------


def test_errors_are_within_a_unit_and_turn_with_the_sign() -> None:
    x = torch.rand(10_000, dtype=torch.float64) + 1
    with random_errors(3):
        one = x * 1.0
    with random_errors(3, -1):
        other = x * 1.0
    # Sixteen of float32's units between 1 and 2, whose mantissa has 23 bits.
    unit = 16 * 2.0**-23
    assert float((one - x).abs().max()) <= unit
    assert float((one - x).abs().mean()) == pytest.approx(unit / 2, rel=0.05)
    assert torch.equal(one - x, x - other)


def test_numbers_that_float32_holds_with_bits_to_spare_stay() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -3.5, 1000.0, float("inf"), -float("inf"), 0.5], dtype=torch.float64)
    with random_errors(0):
        assert torch.equal(x * 1.0, x)
        assert torch.equal(torch.softmax(torch.tensor([0.0, -2000.0], dtype=torch.float64), 0)[1], x[0])
        assert bool(torch.isfinite(torch.exp(torch.arange(-750.0, 0.0, dtype=torch.float64))).all())


@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_a_variance_loses_what_a_difference_of_squares_cancels(mean: float) -> None:
    """As torch's float32 kernel for channels-last memory does, whose error the runs with errors cover; not more, so
    that an epsilon of another network stays outside. Without a mean there is nothing to cancel."""
    x = (torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(0)) + mean).double()
    weight, bias = torch.full((64,), 1.5, dtype=torch.float64), torch.full((64,), -4.0, dtype=torch.float64)

    def norm(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
        weights = (weight.to(x.dtype), bias.to(x.dtype))
        return torch.nn.functional.group_norm(x, 32, *weights, eps)

    exact, moved = norm(x), torch.zeros_like(x)
    for run in range(6):
        with random_errors(run // 2, 1 - 2 * (run % 2)):
            moved = moved.maximum((norm(x) - exact).abs())
    wide = norm(x.float().contiguous(memory_format=torch.channels_last)).double()
    assert float((wide - exact).abs().max()) < float(moved.max()) / 2
    unit = 16 * 2.0**-23
    greatest = float((exact - bias[0]).abs().max())
    assert float(moved.max()) < unit * (1.5 * mean**2 * greatest + 2 * float(exact.abs().max()))
    assert float((norm(x, 2e-2) - exact).abs().max()) > float(moved.max()) / 2


def test_what_moves_or_chooses_numbers_makes_no_error() -> None:
    x = torch.rand(50, dtype=torch.float64)
    with random_errors(0):
        for moved in (
            x.clone(),
            torch.cat([x[:9], x[9:]]),
            x[torch.arange(50)],
            x.clamp(0, 1),
            torch.where(x > 2, 0, x),
        ):
            assert torch.equal(moved, x)
        assert torch.full((2,), 0.1, dtype=torch.float64)[0] == 0.1
        assert not torch.equal(x + 0.1, torch.from_numpy(x.numpy() + 0.1))


# -- one array -------------------------------------------------------------------------------------------------------


def _cancelling(x: torch.Tensor) -> torch.Tensor:
    """x, but for what float32 loses beside a thousand: amplifies rounding a thousandfold."""
    return (x + 1000) - 1000


def _arrays(recorded: torch.Tensor, ours: torch.Tensor) -> dict[str, Array]:
    return {"a": Array(recorded, 1e-6, ours)}


def test_amplified_rounding_raises_the_limit_and_a_real_deviation_does_not_pass() -> None:
    x = torch.linspace(0, 1, 64, dtype=torch.float64)

    def evaluate(dtype: torch.dtype, errors: Any) -> dict[str, torch.Tensor]:
        with errors:
            return {"a": _cancelling(x.to(dtype))}

    ours = _cancelling(x.float())
    right = _arrays(ours.clone(), ours)
    assert measure(right, evaluate) is None
    assert not bool(right["a"].strays().any())
    assert right["a"].off(ours) > 1e-6
    # Half of sixteen units between 512 and 1024, each 2^-14; two operations, each of which adds its own.
    assert right["a"].allowed < 2 * 8 * 2.0**-13
    wrong = _arrays(ours + 0.01, ours)
    measure(wrong, evaluate)
    assert bool(wrong["a"].strays().all())


def test_a_float32_that_is_wrong_by_itself_fails() -> None:
    """Upstream's array equals our float64; only our float32 is off by more than rounding."""
    x = torch.linspace(0, 1, 64, dtype=torch.float64)

    def evaluate(dtype: torch.dtype, errors: Any) -> dict[str, torch.Tensor]:
        with errors:
            return {"a": x * 3.3}

    arrays = _arrays((x * 3.3).float(), (x * 3.3).float() + 1e-4)
    measure(arrays, evaluate)
    assert bool(arrays["a"].strays().all())
    report = Report("one")
    report.judge(arrays.items())
    assert "in float32 differs by 1.00e-04 from our own float64" in report.line()


def test_nan_fails() -> None:
    x = torch.linspace(0, 1, 8, dtype=torch.float64)
    arrays = _arrays(x.float(), torch.full((8,), float("nan")))
    measure(arrays, lambda dtype, errors: {"a": x})
    assert bool(arrays["a"].strays().all())


def test_integers_may_differ_at_a_tie_alone() -> None:
    scores = torch.tensor([[1.0, 1.0 + 1e-8], [1.0, 1.1], [2.0, 1.0]], dtype=torch.float64)

    def evaluate(dtype: torch.dtype, errors: Any) -> dict[str, torch.Tensor]:
        with errors:
            return {"tokens": (scores * 1.0).argmax(dim=1)}

    exact = torch.tensor([1, 1, 0])
    for recorded, strays in (([0, 1, 0], 0), ([1, 0, 0], 1), ([0, 1, 1], 1)):
        arrays = {"tokens": Array(torch.tensor(recorded), 0.0, exact)}
        measure(arrays, evaluate)
        assert int(arrays["tokens"].strays().sum()) == strays, recorded
    report = Report("one")
    arrays = {"tokens": Array(exact, 0.0, torch.tensor([0, 1, 0]))}
    measure(arrays, evaluate)
    report.judge(arrays.items())
    assert report.line() == "pass  one  tokens 66.67% equal (1 at a tie)"


def test_a_network_without_float64_is_held_to_the_plain_limit() -> None:
    def evaluate(dtype: torch.dtype, errors: Any) -> dict[str, torch.Tensor]:
        raise RuntimeError("expected scalar type Float but found Double")

    x = torch.linspace(0, 1, 8)
    for shift, ok in ((5e-7, True), (5e-6, False)):
        arrays, report = _arrays(x, x + shift), Report("one")
        report.no_float64 = measure(arrays, evaluate)
        report.judge(arrays.items())
        assert report.ok == ok
        assert "no float64: RuntimeError: expected scalar type Float but found Double" in report.line()
