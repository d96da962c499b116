"""docs/images.md: every format, depth, colour, alpha and layout against a second decoder, and the page itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import ROOT

pytest.importorskip(
    "imagecodecs", reason="NOT CHECKED: docs/images.md, as the second decoder imagecodecs is missing (extra images)"
)

from benchmarks.images import cases as lines
from benchmarks.images.page import Line, cases, measured, page
from vtbench.images import tiff
from vtbench.images.limits import BadImage
from vtbench.images.reading import header_size, read_picture

ALL = list(cases())


@pytest.fixture(scope="module")
def measurements() -> list[Line]:
    return [measured(case) for case in ALL]


def test_both_decoders_agree(measurements: list[Line]) -> None:
    """To one level for a rounding: of transparency laid on white, and of two decoders' colours in lossy formats."""
    assert len(measurements) > 100
    assert [line.cells() for line in measurements if line.difference > line.case.bound] == []


def test_the_page_is_what_is_read(measurements: list[Line]) -> None:
    assert (ROOT / "docs" / "images.md").read_text(encoding="utf-8") == page(measurements) + "\n", (
        "write it anew: python -m benchmarks.images.page > docs/images.md"
    )


def test_headers_and_pixels_agree_on_every_size(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for case in ALL:
        turn = 6 if case.turned else 1
        for data in case.make(turn):
            path.write_bytes(data)
            size = (lines.HEIGHT, lines.WIDTH) if case.turned else (lines.WIDTH, lines.HEIGHT)
            assert header_size(path) == read_picture(data, "x").rgb.shape[1::-1] == size, case


def test_without_imagecodecs_pixels_are_the_same_or_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed decides whether a file is read, never what is read of it."""
    monkeypatch.setattr(tiff.Page, "_by_imagecodecs", False)
    refused = 0
    for case in (case for case in ALL if case.form == "TIFF"):
        for data in case.make(1):
            try:
                rgb = read_picture(data, "x").rgb
            except BadImage as bad:
                refused += "needs the package imagecodecs: pip install '.[images]'" in str(bad)
                continue
            assert np.abs(rgb - lines.rule(case.undo(data), case, 1)).max() <= 1, case
    # Three layouts of grey with alpha, and 16 bits where 0 is white: LZW, Zstandard and PackBits, strips and tiles.
    assert refused == 4 * 3 * 2
