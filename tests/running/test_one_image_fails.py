"""One image that a codec or a network cannot take is a row with its reason; the others are scored as they would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import cuts

import vtbench
from vtbench.running.evaluation import Evaluation

MODEL = """
import torch
from vtbench import Card, Family, Multiple
from vtbench.types.errors import ImageFailed
from vtbench.types.tokens import Bitstream
from vtbench.types.adapter import Tokenizer


class Picky(Tokenizer):
    def encode(self, images, seeds, budget=None):
        for image in images:
            if {refuses}:
                raise {raised}
        self.sizes = images.shape
        return Bitstream([(i * 255).byte().numpy().tobytes() for i in images], tuple(images.shape[2:]))

    def decode(self, tokens, seeds):
        rows = [torch.frombuffer(bytearray(d), dtype=torch.uint8).reshape(3, *tokens.size) for d in tokens.data]
        return torch.stack(rows).float() / 255


FAMILY = Family("picky", "Picky", (Card("picky", "picky", "codec", "Picky", Multiple(1)),), Picky)
"""
DARK = "image.mean() < 0.1 and image.shape[1] > 8"


def picky(folder: Path, raised: str, refuses: str = DARK) -> str:
    file = folder / "picky.py"
    file.write_text(MODEL.replace("{refuses}", refuses).replace("{raised}", raised))
    return f"{file}@picky"


def run(model: str, images: Path, out: Path, **more: object) -> Evaluation:
    return vtbench.evaluate(model, images=images, view="native", tasks=["compression"], out=out, **more)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six pictures of one size, of which the third is black."""
    folder = cuts(tmp_path / "images", 6, sizes=((32, 32),))
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "02.png")
    return folder


@pytest.mark.parametrize("codec", ["webp", "jpeg", "avif"])
def test_a_size_that_a_format_does_not_have(codec: str, tmp_path: Path) -> None:
    """16,383 pixels a side in WebP, 65,535 in JPEG, 65,536 in AVIF; the first in the order of names."""
    folder = tmp_path / "imgs"
    folder.mkdir()
    Image.new("RGB", (17_000 if codec == "webp" else 66_000, 2)).save(folder / "pan.png")
    cuts(folder, 2, sizes=((16, 16),))
    result = run(codec, folder, tmp_path / "out")
    (done,) = result.runs
    assert (result.failures, done.info.status) == ({}, "incomplete")
    why = {row.item: row.why.get("*") for row in done.rows()}
    assert why["00.png"] is why["01.png"] is None
    assert f"{codec} cannot encode" in str(why["pan.png"])
    bpp = done.score("bpp")
    assert bpp is not None
    assert (bpp.n, bpp.missing) == (2, 1)


@pytest.mark.parametrize("batch", [1, 4, 6])
@pytest.mark.parametrize("raised", ["ImageFailed('too dark')", "MemoryError()", "RuntimeError('CUDA out of memory')"])
def test_the_others_of_its_batch_are_scored(raised: str, batch: int, images: Path, tmp_path: Path) -> None:
    result = run(picky(tmp_path, raised), images, tmp_path / "out", batch_size=batch, save=["images", "tokens"])
    (done,) = result.runs
    rows = {row.item: row for row in done.rows()}
    assert [item for item, row in rows.items() if "*" in row.why] == ["02.png"]
    wanted = "too dark" if "dark" in raised else "picky has not memory enough for an image of 32 x 32"
    assert rows["02.png"].why["*"] == wanted
    assert {row.bits for item, row in rows.items() if item != "02.png"} == {32 * 32 * 3 * 8.0}
    assert len(rows) == 6
    assert not (done.path / "images" / "02.png").exists()
    with Image.open(done.path / "images" / "03.png") as kept, Image.open(images / "03.png") as original:
        assert np.array_equal(np.array(kept), np.array(original))


def test_a_model_that_fits_nowhere_ends_the_run(images: Path, tmp_path: Path) -> None:
    result = run(picky(tmp_path, "MemoryError()", refuses="image.shape[1] > 8"), images, tmp_path / "out")
    assert result.runs == ()
    assert "nor for any before" in str(result.failures)


def test_what_is_the_models_own_fault_still_ends_it(images: Path, tmp_path: Path) -> None:
    result = run(picky(tmp_path, "ValueError('no')"), images, tmp_path / "out")
    assert "picky raised ValueError" in str(result.failures)
