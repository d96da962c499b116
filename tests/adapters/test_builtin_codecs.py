"""Codecs and rates of the built-in tokenizers: published numbers, Pillow's bytes, arithmetic."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builtin_models import CODECS, cat, load, psnr, there_and_back
from PIL import Image

from vtbench import registry
from vtbench.adapters.builtin import codecs
from vtbench.images.opening import open_suite
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Batch, Reference
from vtbench.types.tokens import Bitstream


def test_jpeg_on_kodak(shared: Path) -> None:
    """CompressAI's published numbers (Pillow 7.1.2, qualities 5, 10, … 95): bpp within 0.5 %, PSNR within 0.2 dB."""
    published = json.loads((shared / "data" / "kodak" / "published_rate_distortion.json").read_text())["jpeg"]
    pictures = [
        torch.from_numpy(np.array(Image.open(p).convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        for p in sorted((shared / "data" / "kodak").glob("*.png"))
    ]
    assert len(pictures) == 24
    for quality in (5, 50, 75, 95):
        model = load("jpeg", quality=quality)

        def one(image: torch.Tensor, model: Any = model) -> tuple[float, float]:
            tokens, back = there_and_back(model, image)
            return float(tokens.bits()[0]) / (image.shape[2] * image.shape[3]), psnr(image, back)

        with ThreadPoolExecutor(4) as pool:
            bpp, quality_db = np.array(list(pool.map(one, pictures))).mean(axis=0)
        at = quality // 5 - 1
        assert bpp == pytest.approx(published["bpp"][at], rel=0.005)
        assert quality_db == pytest.approx(published["psnr-rgb"][at], abs=0.2)


def test_webp_on_kodak_is_the_published_curve(shared: Path) -> None:
    """To the sixth digit, by our codec and our metrics, as on the card: CompressAI's are of Pillow 7.1.2, its own PSNR
    and pytorch-msssim."""
    published = json.loads((shared / "data" / "kodak" / "published_rate_distortion.json").read_text())["webp"]
    (card,) = registry.model("webp").card.curves
    assert card.suite == open_suite(str(shared / "data" / "kodak")).hash
    assert [list(column) for column in zip(*card.points, strict=True)] == [
        published[name] for name in ("bpp", "psnr-rgb", "ms-ssim-rgb")
    ]
    model, rows = load("webp", quality=5), []
    for path in sorted((shared / "data" / "kodak").glob("*.png")):
        image = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None]
        tokens, back = there_and_back(model, image / 255)
        batch = Batch(Reference(image, [None], ["0"]), (back * 255).round().byte())  # type: ignore[list-item]
        values = [registry.metric(name).measure(batch)[0].value for name in card.metrics[1:]]
        rows.append((float(tokens.bits()[0]) / image[0, 0].numel(), *values))
    assert len(rows) == 24
    assert np.mean(rows, axis=0) == pytest.approx(card.points[0], rel=1e-6)


def test_jpeg_xl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A higher quality costs more and gives more; 100, which libjxl takes for lossless only, is refused by name."""
    image = cat()
    coded = [there_and_back(load("jpeg-xl", quality=quality), image) for quality in (1, 30, 75, 99)]
    bits, dbs = [float(tokens.bits()[0]) for tokens, _ in coded], [psnr(image, back) for _, back in coded]
    assert bits == sorted(bits)
    assert dbs == sorted(dbs)
    assert dbs[-1] > 40
    assert bits[-1] < float(there_and_back(load("jpeg-xl-lossless"), image)[0].bits()[0])
    with pytest.raises(VtbenchError, match="jpeg-xl: quality is 100; give 1 to 99"):
        load("jpeg-xl", quality=100)
    monkeypatch.setattr(codecs, "formats", lambda: ("PNG",))
    with pytest.raises(VtbenchError, match=r"pip install '\.\[formats\]'"):
        load("jpeg-xl")


def test_bytes_are_pillows() -> None:
    image = cat()
    rgb = Image.fromarray((image[0] * 255).round().byte().permute(1, 2, 0).numpy())
    for name, kind, how in (("jpeg", "JPEG", {"quality": 40}), ("png", "PNG", {"compress_level": 9})):
        out = io.BytesIO()
        rgb.save(out, kind, **how)
        model = load(name, **({"quality": 40} if name == "jpeg" else {}))
        (data,) = model.encode(image, [0]).data
        assert data == out.getvalue()
        assert model.encode(image, [0]).bits().tolist() == [8.0 * len(out.getvalue())]


@pytest.mark.parametrize("name", ["png", "jpeg-xl-lossless", "identity"])
def test_lossless(name: str) -> None:
    image = cat()
    assert torch.equal((there_and_back(load(name), image)[1] * 255).round(), (image * 255).round())


@pytest.mark.parametrize("name", CODECS)
def test_a_batch_is_its_images(name: str) -> None:
    """The threads of a batch keep the order."""
    many = torch.cat([cat(), cat().flip(3), 1 - cat()])
    model = load(name)
    tokens, back = there_and_back(model, many)
    assert isinstance(tokens, Bitstream)
    for k in range(3):
        alone, picture = there_and_back(model, many[k : k + 1])
        assert isinstance(alone, Bitstream)
        assert alone.data[0] == tokens.data[k]
        assert torch.equal(picture[0], back[k])


@pytest.mark.parametrize(
    ("name", "options", "bpp", "positions"),
    [
        # 8 x 8 patches of 16 float16 values; log2 1024 and log2 256 bits a patch; four books of 8 bits.
        ("pca", {"dims": 16}, 16 * 16 / 64, 384),
        ("pca", {"dims": 3}, 3 * 16 / 64, 384),
        ("kmeans-vq", {"codebook": 1024}, 10 / 64, 384),
        ("kmeans-vq", {"codebook": 256}, 8 / 64, 384),
        ("residual-vq", {"depth": 4}, 4 * 8 / 64, 384),
        ("product-quant", {"books": 8}, 8 * 8 / 64, 384),
        ("pca-fsq", {"levels": 5}, 6 * math.log2(5) / 64, 384),
        ("pca-signs", {"bits": 18}, 18 / 64, 384),
        # 24 bits a pixel that is sent; one pixel in four, one in 64.
        ("identity", {}, 24.0, 128 * 192),
        ("resize", {"factor": 2}, 6.0, 64 * 96),
        ("resize", {"factor": 8}, 24 / 64, 16 * 24),
    ],
)
def test_rate(name: str, options: Mapping[str, Any], bpp: float, positions: int) -> None:
    tokens = load(name, **options).encode(cat(), [0])
    assert float(tokens.bits()[0]) == pytest.approx(bpp * 128 * 192)
    assert tokens.positions == [positions]


def test_dct_pays_for_its_length() -> None:
    """1 bpp buys 128 x 192 / 8 = 3072 symbols; their number, which the decoder must know, costs log2 3073 bits."""
    tokens = load("dct", budget=1.0).encode(cat(), [0], 1.0)
    assert tokens.positions == [3072]
    assert float(tokens.bits()[0]) == pytest.approx(8 * 3072 + np.log2(3073))


@pytest.mark.parametrize(
    ("name", "knob", "values", "least"),
    [
        ("jpeg", "quality", (5, 30, 75, 95), 20),
        ("webp", "quality", (5, 50, 90), 25),
        ("jpeg2000", "db", (25, 35, 45), 24.5),
        ("avif", "quality", (10, 45, 90), 25),
        ("pca", "dims", (2, 8, 16, 64), 18),
        ("kmeans-vq", "codebook", (256, 1024, 4096), 18),
        ("residual-vq", "depth", (1, 2, 4, 8), 18),
        ("dct", "budget", (0.375, 0.5, 1.0, 2.0, 4.0), 18),
        ("resize", "factor", (16, 8, 4, 2), 18),
        ("product-quant", "books", (2, 4, 8), 20),
        ("pca-fsq", "levels", (5, 6, 7, 8), 19),
        ("pca-signs", "bits", (4, 8, 18, 36), 18),
        ("quadtree", "budget", (0.0625, 0.125, 0.25, 0.5), 18),
    ],
)
def test_more_bits_better_picture(name: str, knob: str, values: tuple[Any, ...], least: float) -> None:
    """On a photograph that nothing was fitted on, every step of the knob costs more and is nearer."""
    image = cat()
    points = []
    for value in values:
        model = load(name, **{knob: value})
        tokens = model.encode(image, [0], value) if model.takes_budget else model.encode(image, [0])
        points.append((float(tokens.bits()[0]), psnr(image, model.decode(tokens, [0]))))
    bits, quality = zip(*points, strict=True)
    assert list(bits) == sorted(set(bits)), points
    assert list(quality) == sorted(set(quality)), points
    assert quality[0] > least, points
