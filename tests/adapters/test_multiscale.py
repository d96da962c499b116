"""Quantizers over a pyramid of grids, against plain arithmetic and upstream's tables."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from small_networks import random_tensor

from vtbench.adapters.networks import infinity
from vtbench.adapters.networks.parts import multiscale
from vtbench.adapters.networks.parts.quantizers import VQ
from vtbench.models.made_weights import fill_
from vtbench.types.errors import VtbenchError

PHI = {
    4: "0123",
    5: "01223",
    6: "001233",
    7: "0012233",
    8: "00112233",
    9: "001122233",
    10: "0011122333",
    11: "00011222333",
    12: "000111222333",
    13: "0001112222333",
    14: "00011112222333",
}
"""Which of four Phi each scale gets: the table of parity_notes_conv.md, computed with upstream's own expressions."""


@pytest.mark.parametrize("scales", PHI)
def test_phi_is_dealt_out_as_upstream_deals_it(scales: int) -> None:
    assert "".join(map(str, multiscale.phi_index(scales, 4))) == PHI[scales]


@pytest.mark.parametrize(
    ("share", "keys"),
    [
        (0, ["quant_resi.0", "quant_resi.1", "quant_resi.2"]),
        (1, ["quant_resi.qresi"]),
        (2, ["quant_resi.qresi_ls.0", "quant_resi.qresi_ls.1"]),
    ],
)
def test_multi_scale_sum_and_keys(share: int, keys: list[str]) -> None:
    quantizer = multiscale.MultiScaleVQ(16, 3, [(1, 1), (2, 3), (4, 6)], share=share)
    fill_(quantizer)
    assert [
        n.removesuffix(".weight") for n in quantizer.state_dict() if n.startswith("quant_resi") and "weight" in n
    ] == keys
    z = random_tensor(2, 3, 4, 6)
    with torch.no_grad():
        tokens, total = quantizer(z)
        assert tokens.shape == (2, 1 + 6 + 24)
        assert torch.allclose(quantizer.lookup(tokens, (4, 6)), total, atol=1e-6)
        # The first scale by hand: the mean over the grid, its nearest code, spread flat, refined.
        mean = z.mean(dim=(2, 3))
        first = torch.cdist(mean, quantizer.embedding.weight).argmin(dim=1)
        assert torch.equal(tokens[:, 0], first)
    with pytest.raises(VtbenchError, match="last scale"):
        quantizer(random_tensor(1, 3, 4, 4))


def test_without_refinement_a_single_fine_scale_is_plain_vq() -> None:
    """ratio 0 leaves Phi out; where the coarse scale's code is zero, the last scale is ordinary VQ."""
    fine = multiscale.MultiScaleVQ(5, 2, [(1, 1), (3, 3)], ratio=0.0)
    assert not any("quant_resi" in n for n in fine.state_dict())
    fine.embedding.weight.data = torch.cat([torch.zeros(1, 2), 4 * random_tensor(4, 2)])
    z = random_tensor(1, 2, 3, 3, seed=3)
    z = z - z.mean(dim=(2, 3), keepdim=True)
    plain = VQ(5, 2)
    plain.embedding.weight.data = fine.embedding.weight.data
    with torch.no_grad():
        tokens, total = fine(z)
        assert int(tokens[0, 0]) == 0
        assert torch.equal(tokens[:, 1:], plain(z)[0])
        assert torch.allclose(total, plain(z)[1])


def test_signs_of_a_pyramid_by_hand() -> None:
    """Two scales without refinement: the signs of the mean, then the signs of what is left, a smaller step."""
    quantizer = multiscale.MultiScaleSigns(2, [(1, 1), (2, 2)], l2_norm=False, scale=0.5, ratio=0.0)
    z = torch.tensor([[[2.0, 1.2], [0.8, -0.4]], [[-3.0, -1.0], [0.5, 0.5]]])[None]
    tokens, back = quantizer(z)
    # Means 0.9 and -0.75: the first scale is +1, -1 everywhere; residuals then have these signs.
    assert tokens[0].tolist() == [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]]
    assert back[0, 0].tolist() == [[1.5, 1.5], [0.5, 0.5]]
    assert back[0, 1].tolist() == [[-1.5, -1.5], [-0.5, -0.5]]
    assert torch.equal(quantizer.lookup(tokens, (2, 2)), back)
    assert quantizer.state_dict() == {}


def test_normalised_signs_have_unit_length() -> None:
    """l2_norm: what a scale adds at a cell is a unit vector, whatever the latent's length."""
    quantizer = multiscale.MultiScaleSigns(9, [(1, 1), (2, 2)], l2_norm=True, ratio=0.0)
    z = random_tensor(1, 9, 2, 2)
    one, _ = quantizer(z)
    many, _ = quantizer(1000 * z)
    assert torch.equal(one, many)
    rows = quantizer.codes(one[0, :1], 0)
    assert float(rows.norm()) == pytest.approx(1.0)


def test_binary_spherical_codes_come_nearer_scale_by_scale() -> None:
    scales = [(1, 1), (2, 3), (4, 6)]
    quantizer = multiscale.MultiScaleBSQ(8, lambda grid: [s for s in scales if s[0] < grid[0]] + [grid])
    z = random_tensor(2, 8, 4, 6)
    tokens, back = quantizer(z)
    assert tokens.shape == (2, 1 + 6 + 24, 8)
    assert torch.allclose(quantizer.lookup(tokens, (4, 6)), back, atol=1e-6)
    # By hand, with upstream's own call: a time axis of one, trilinear.
    rest, at = z[:, :, None], 0
    for h, w in scales:
        seen = F.interpolate(rest, size=(1, h, w), mode="area")
        bits = (seen > 0).flatten(2).transpose(1, 2).long()
        assert torch.equal(tokens[:, at : at + h * w], bits)
        code = (torch.where(seen > 0, 1.0, -1.0)) / math.sqrt(8)
        assert torch.allclose(code.norm(dim=1), torch.ones(2, 1, h, w))
        rest = rest - F.interpolate(code, size=(1, 4, 6), mode="trilinear")
        at += h * w
    assert torch.allclose(z - rest[:, :, 0], back, atol=1e-6)


@pytest.mark.parametrize(("side", "scales", "positions"), [(256, 7, 521), (512, 10, 2521), (1024, 13, 10521)])
def test_infinity_has_upstreams_scales(side: int, scales: int, positions: int) -> None:
    """Counts as families.md states them from upstream's tables."""
    listed = infinity.scales_of((side // 16, side // 16))
    assert len(listed) == scales
    assert sum(h * w for h, w in listed) == positions


def test_infinity_formats_are_upstreams_lists() -> None:
    """3:2 and its turn, up to the first end of the table (dynamic_resolution.py:10); two of them written out."""
    tall = [(1, 1), (2, 2), (3, 2), (6, 4), (9, 6), (15, 10), (21, 14)]
    assert list(infinity.scales_of((21, 14))) == tall
    assert list(infinity.scales_of((14, 21))) == [(w, h) for h, w in tall]
    doubled = [(2, 2), (4, 4), (8, 8), (12, 12), (16, 16), (24, 24), (32, 32)]
    assert list(infinity.scales_of((32, 32), step=2)) == doubled


@pytest.mark.parametrize("grid", [(1, 1), (3, 50), (17, 30), (24, 24), (33, 31), (200, 64)])
def test_other_sizes_grow_to_the_whole_grid(grid: tuple[int, int]) -> None:
    scales = infinity.scales_of(grid)
    assert scales[-1] == grid
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(scales))
    assert all(h <= grid[0] and w <= grid[1] for h, w in scales)
