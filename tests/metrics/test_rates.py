"""Rates against arithmetic: 256 tokens of 14 bits on 256 x 256 pixels are 3,584 bits and 0.0547 bits a pixel."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench.metrics import rates
from vtbench.types.metric import Batch, Reference
from vtbench.types.tokens import Bitstream, Codes, Latents


def batch_of(tokens: object, size: tuple[int, int], images: torch.Tensor | None = None) -> Batch:
    count = len(tokens) if tokens is not None else 1  # type: ignore[arg-type]
    pixels = torch.zeros(count, 3, *size, dtype=torch.uint8) if images is None else images
    bits = tokens.bits() if tokens is not None else None  # type: ignore[attr-defined]
    return Batch(Reference(pixels, [], []), pixels.clone(), tokens, bits)  # type: ignore[arg-type]


def values(factory: object, batch: Batch) -> list[float | None]:
    return [v.value for v in factory().measure(batch)]  # type: ignore[operator]


def test_codes_cost_the_logarithm_of_their_alphabet() -> None:
    codes = Codes(torch.zeros(2, 256, 1, dtype=torch.int64), (2**14,), (256, 256))
    batch = batch_of(codes, (256, 256))
    assert values(rates.bits, batch) == [3584.0, 3584.0]
    assert values(rates.bpp, batch) == [3584 / 65536] * 2
    assert values(rates.ratio, batch) == pytest.approx([24 * 65536 / 3584] * 2, rel=1e-15)
    assert values(rates.TokensUsed, batch) == [256.0, 256.0]


def test_bits_are_divided_by_the_scored_pixels_not_by_the_padded_ones() -> None:
    codes = Codes(torch.zeros(1, 256, 1, dtype=torch.int64), (256,), (256, 256))
    assert values(rates.bpp, batch_of(codes, (250, 200))) == [256 * 8 / 50_000]


def test_books_count_their_bits_but_not_as_tokens() -> None:
    codes = Codes(torch.ones(1, 64, 18, dtype=torch.int64), (2,) * 18, (64, 64))
    batch = batch_of(codes, (64, 64))
    assert values(rates.bits, batch) == [64 * 18]
    assert values(rates.TokensUsed, batch) == [64.0]


def test_latents_count_their_dtype_and_bitstreams_their_bytes() -> None:
    latents = Latents(torch.zeros(1, 4, 8, 8, dtype=torch.float16), (64, 64))
    assert values(rates.bits, batch_of(latents, (64, 64))) == [4 * 64 * 16]
    stream = batch_of(Bitstream([b"x" * 100], (64, 64)), (64, 64))
    assert values(rates.bits, stream) == [800.0]
    assert rates.TokensUsed().measure(stream)[0].why == "a bitstream has no tokens"


def test_a_folder_has_no_rate_and_says_so() -> None:
    for factory in rates.METRICS:
        (value,) = factory().measure(batch_of(None, (32, 32)))
        assert value.value is None
        assert "unknown" in (value.why or "")


def test_ratio_of_a_set_is_the_ratio_of_the_means() -> None:
    stream = Bitstream([b"x" * 50, b"x" * 150], (40, 20))
    batch = batch_of(stream, (40, 20))
    ratios = rates.ratio().measure(batch)
    score = sum(v.value * v.weight for v in ratios) / sum(v.weight for v in ratios)  # type: ignore[operator]
    assert score == pytest.approx(24 / ((400 / 800 + 1200 / 800) / 2), rel=1e-14)


def test_ratio_to_png_is_taken_from_a_png_that_reads_back() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (1, 3, 24, 32), dtype=np.uint8))
    batch = batch_of(Bitstream([b"x" * 10], (24, 32)), (24, 32), images)
    out = io.BytesIO()
    Image.fromarray(images[0].permute(1, 2, 0).numpy()).save(out, "PNG", compress_level=9)
    assert values(rates.ratio_png, batch) == [8 * len(out.getvalue()) / 80]
    assert np.array_equal(np.asarray(Image.open(out)), images[0].permute(1, 2, 0).numpy())


def test_kodak_png_ratio_is_that_of_the_files(shared: Path) -> None:
    """Kodak's files are PNGs of another encoder: sizes agree to a few per cent, which no unit error survives."""
    path = shared / "data" / "kodak" / "kodim03.png"
    bits = rates.png_bits(np.asarray(Image.open(path).convert("RGB")))
    assert bits / 8 == pytest.approx(path.stat().st_size, rel=0.1)
