"""Protocols as data: their views, their rounding, their fingerprints."""

from __future__ import annotations

import pytest
import torch

from vtbench.images import protocols, rounding
from vtbench.scoring.fingerprint import fingerprint_under
from vtbench.types.errors import VtbenchError


def test_truncation_through_range_moves_ninety_five_grey_levels() -> None:
    """The count that SEED-Voken's reading of uint8 gives; floats in [0, 1] lose what truncation takes."""
    grey = torch.arange(256).to(torch.uint8)
    assert int((rounding.truncate_through_range(grey) != grey).sum()) == 95
    half = torch.tensor([0.999 / 255, 1.0])
    assert rounding.truncate(half).tolist() == [0, 255]
    original, candidate = rounding.rounded(grey, half, "round")
    assert original is grey
    assert candidate.tolist() == [1, 255]


def test_every_protocol_names_a_view_and_has_its_own_fingerprint() -> None:
    assert {p.name for p in protocols.PROTOCOLS.values() if p.crop is None} == {"native"}
    prints = {fingerprint_under(p, 256, "ssim") for p in protocols.PROTOCOLS.values()}
    assert len(prints) == len(protocols.PROTOCOLS)
    assert protocols.get("llamagen").means("ssim") == "ssim-range2"
    default = protocols.get("vtbench")
    assert fingerprint_under(default, 256, "ssim") != fingerprint_under(default, 512, "ssim")
    with pytest.raises(VtbenchError, match="did you mean titok"):
        protocols.get("titik")
