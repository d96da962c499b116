"""Parts of tokenizers whose decoder is a sampler: against closed forms, against other libraries, and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from small_networks import random_tensor

from vtbench.adapters.networks.parts import diffusion, flow, patches, positions
from vtbench.adapters.networks.parts.fsq import FSQ
from vtbench.adapters.networks.parts.transformer import rotate_pairs
from vtbench.types.errors import VtbenchError


def test_schedules_fall_from_one_to_zero() -> None:
    assert flow.falling("linear", 4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert flow.falling("uniform", 2) == [1.0, 0.5, 0.0]
    # (k / 4)^4
    assert flow.falling("pow_0.25", 4) == [1.0, 81 / 256, 1 / 16, 1 / 256, 0.0]
    for bad in ("pow", "pow_0", "pow_-1", "pow_nan", "cosine", "", "pow_0.25_"):
        with pytest.raises(VtbenchError, match="schedule is"):
            flow.falling(bad, 4)
    with pytest.raises(VtbenchError, match="at least 1"):
        flow.falling("linear", 0)


def test_a_shift_keeps_the_ends() -> None:
    assert flow.shifted(0.0, 2.0) == 0.0
    assert flow.shifted(1.0, 2.0) == 1.0
    assert flow.shifted(0.5, 2.0) == pytest.approx(1 / 3)
    assert flow.shifted(0.3, 1.0) == pytest.approx(0.3)


def test_solvers_have_their_order() -> None:
    """On dx/dt = x, whose solution is exp(t): halving the step halves Euler's error and quarters Adams's."""
    start = torch.ones(1, 1, dtype=torch.float64)

    def error(solver: object, steps: int) -> float:
        times = [i / steps for i in range(steps + 1)]
        end = solver(lambda x, t, step: x, start, times)  # type: ignore[operator]
        return abs(float(end) - math.e)

    assert error(flow.euler, 200) / error(flow.euler, 400) == pytest.approx(2, rel=0.02)
    assert error(flow.adams2, 200) / error(flow.adams2, 400) == pytest.approx(4, rel=0.05)
    asked: list[tuple[float, int]] = []

    def watched(x: torch.Tensor, t: float, step: int) -> torch.Tensor:
        asked.append((t, step))
        return torch.zeros_like(x)

    flow.euler(watched, start, [1.0, 0.5, 0.0])
    assert asked == [(1.0, 0), (0.5, 1)]


def test_projected_guidance_adds_what_stands_at_right_angles() -> None:
    cond, uncond = random_tensor(2, 3, 4, 4).double(), random_tensor(2, 3, 4, 4, seed=1).double()
    guide = flow.ProjectedGuidance(3.0, momentum=-0.5, threshold=2.5, eta=0.0)
    first, second = guide(cond, uncond), guide(cond, uncond)
    for i in range(2):
        along, before = cond[i].numpy().ravel(), np.zeros(48)
        for out in (first, second):
            difference = (cond[i] - uncond[i]).numpy().ravel() - 0.5 * before
            before = difference.copy()
            difference = difference * min(1.0, 2.5 / np.linalg.norm(difference))
            difference = difference - along * (difference @ along) / (along @ along)
            assert np.allclose(out[i].numpy().ravel(), along + 2.0 * difference, atol=1e-12)
    assert torch.equal(flow.ProjectedGuidance(1.0)(cond, uncond), cond)


def test_finite_scalars_are_counted_first_channel_fastest() -> None:
    """Every id has a code of its own, and the code is its own nearest."""
    levels = (4, 3, 5)
    fsq, ids = FSQ(levels), torch.arange(60)[None]
    codes = fsq.lookup(ids, torch.float64)
    assert fsq.alphabets == (60,)
    # Halves of 4, 3 and 5 rounded down: 2, 1 and 2 values below zero.
    wanted = [[(a - 2) / 2, (b - 1) / 1, (c - 2) / 2] for c, b, a in itertools.product(range(5), range(3), range(4))]
    assert codes[0].tolist() == wanted
    # Latents that the squashing takes to the middle of each cell.
    half = (torch.tensor(levels) - 1) * 1.001 / 2
    offset = torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64)
    z = ((codes * torch.tensor([2, 1, 2]) + offset) / half).atanh() - (offset / half).atanh()
    tokens, quantized = fsq(z)
    assert torch.equal(tokens, ids)
    assert torch.equal(quantized, codes)
    with pytest.raises(VtbenchError, match="at least 2"):
        FSQ((8, 1))


def test_rotary_positions_are_products_of_complex_numbers() -> None:
    places = positions.raster(2, 3)
    assert places.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    x = random_tensor(6, 12).double()
    cos, sin = positions.rotary(places, (4, 8), 100.0, x)
    turned = rotate_pairs(x, cos, sin).numpy()
    for n, (row, column) in enumerate(places.tolist()):
        angles = [row * 100 ** (-2 * i / 4) for i in range(2)] + [column * 100 ** (-2 * i / 8) for i in range(4)]
        numbers = (x[n, 0::2] + 1j * x[n, 1::2]).numpy() * np.exp(1j * np.array(angles))
        assert np.allclose(turned[n, 0::2] + 1j * turned[n, 1::2], numbers)


def test_sinusoidal_positions_are_those_of_diffusers() -> None:
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    wanted = embeddings.get_2d_sincos_pos_embed(16, 5, base_size=5, output_type="np")
    assert np.allclose(positions.sincos(5, 5, 16).numpy(), np.asarray(wanted), atol=1e-6)


def test_a_causal_tail_sees_the_prefix_and_is_not_seen() -> None:
    assert positions.causal_tail(2, 3).int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


def test_patches_with_channels_last_come_back() -> None:
    images = random_tensor(2, 3, 4, 6)
    rows = patches.channels_last(images, 2)
    assert rows.shape == (2, 6, 12)
    # The second patch of the upper row, its pixel at row 1, column 0.
    assert torch.equal(rows[0, 1].reshape(2, 2, 3)[1, 0], images[0, :, 1, 2])
    assert torch.equal(patches.from_channels_last(rows, 2, (2, 3)), images)


def test_a_linear_schedule_of_a_thousand_betas() -> None:
    betas = diffusion.linear_betas(1000)
    assert (betas[0], betas[-1]) == pytest.approx((1e-4, 0.02))
    kept = diffusion.Diffusion("250", betas)
    # The share of the signal that is left at the last kept step is that of the thousand.
    assert len(kept) == 250
    assert np.prod(1 - kept.betas) == pytest.approx(np.prod(1 - betas), rel=1e-9)
