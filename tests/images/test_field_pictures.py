"""Pictures from public reports of people who do this job (shared/field/images), through `score` as the report has it.

What each ought to be is in cases.jsonl, found by other decoders than ours; each is tried in two other forms elsewhere:
test_png_chunks, test_orientations, test_format_matrix, test_colour_profiles, and below.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from image_files import encoded, photograph, save
from PIL import Image

import vtbench

SAME = (
    "jp2-rgb16-white",
    "jp2-rgb10-white",
    "tiff-rgb16-planar-tiled",
    "png-grey2-trns",
    "png-rgb16-trns",
    "tiff-orientation6-right",
    "png-exif-damaged",
    "png-icc-2mb",
    "webp-exif-damaged",
)


def scored(folder: Path, metrics: list[str]) -> vtbench.Scored:
    return vtbench.score(folder / "ref", folder / "cand", metrics)


@pytest.mark.parametrize("case", SAME)
def test_the_same_picture_is_the_same(shared: Path, case: str) -> None:
    """Lossless: no grey level differs, PSNR is not defined."""
    mse, psnr = scored(shared / "field" / "images" / case, ["mse", "psnr"]).candidates[0].scores
    assert (mse.value, mse.n, psnr.value) == (0, 1, None)
    assert str(psnr.why).startswith("lossless")


def test_blank_pictures_are_refused_by_name(shared: Path) -> None:
    result = scored(shared / "field" / "images" / "png-alpha-zero-everywhere", ["psnr"])
    assert result.candidates[0].scores[0].value is None
    assert [why.partition(" (")[0] for why in result.bad.values()] == [
        "000.png is wholly transparent",
        "001.png is wholly transparent",
    ]


def test_other_sizes_are_refused_in_a_sentence(shared: Path) -> None:
    with pytest.raises(vtbench.VtbenchError, match=r"0\.png \(48x32, wanted 32x48\)"):
        scored(shared / "field" / "images" / "tiff-orientation6-other-size-ssim", ["ssim"])


def test_one_image_that_webp_cannot_take(shared: Path, tmp_path: Path) -> None:
    images = shutil.copytree(shared / "field" / "images" / "webp-one-image-too-wide" / "imgs", tmp_path / "imgs")
    ask = {"images": images, "view": "native", "tasks": ["compression"], "out": tmp_path / "out"}
    (run,) = vtbench.evaluate("webp", **ask).runs
    why = {row.item: row.why.get("*") for row in run.rows()}
    assert why["small.png"] is None
    assert "webp cannot encode" in str(why["pan.png"])
    assert "16383" in str(why["pan.png"])


# -- in other forms ----------------------------------------------------------------------------------------------------

WIDE = photograph(40, 48).astype(np.uint16) << 8 | 0x55
WIDE[:8] = 0xFFFF


def _tiff(**how: object) -> bytes:
    import io

    out = io.BytesIO()
    tifffile.imwrite(out, metadata=None, photometric="rgb", **how)
    return out.getvalue()


FORMS = {
    "j2k, lossy, 12 bits": lambda: imagecodecs.jpeg2k_encode(WIDE >> 4, level=70, codecformat="j2k", bitspersample=12),
    "jp2 with alpha": lambda: imagecodecs.jpeg2k_encode(
        np.dstack([WIDE, np.full(WIDE.shape[:2], 0xFFFF, np.uint16)]), level=0, reversible=True, codecformat="jp2"
    ),
    "BigTIFF in planes": lambda: _tiff(data=np.moveaxis(WIDE, 2, 0), planarconfig="separate", bigtiff=True),
    "big-endian TIFF of Zstandard tiles": lambda: _tiff(
        data=np.moveaxis(WIDE, 2, 0), planarconfig="separate", byteorder=">", tile=(32, 16), compression="zstd"
    ),
    "image of 16 bits in PNG": lambda: imagecodecs.png_encode(WIDE),
    "PPM": lambda: b"P6 48 40 65535\n" + WIDE.astype(">u2").tobytes(),
    "JPEG XL": lambda: encoded(Image.fromarray((WIDE >> 8).astype(np.uint8)), "JXL", lossless=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_sixteen_bits_are_their_high_bytes_in_every_form(form: str, tmp_path: Path) -> None:
    """White stays white, and the pair scores as the 8-bit one does."""
    save(tmp_path / "ref" / "0.png", (WIDE >> 8).astype(np.uint8))
    suffix = {"j": ".jp2", "B": ".tif", "b": ".tif", "i": ".png", "P": ".ppm", "J": ".jxl"}[form[0]]
    (tmp_path / "cand").mkdir()
    (tmp_path / "cand" / f"0{suffix}").write_bytes(bytes(FORMS[form]()))
    (mse,) = scored(tmp_path, ["mse"]).candidates[0].scores
    assert mse.value is not None
    assert mse.value < (1 if "lossy" in form else 1e-9)
