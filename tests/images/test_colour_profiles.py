"""Colour profiles: named in rows, remarked where pairs differ, applied on request; the pair is made by numpy alone."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tiny_features
from image_files import encoded, photograph
from made_profiles import ADOBE, P3, SRGB, in_colours, profile
from PIL import Image
from support import command

import vtbench
from vtbench.explaining.explain import explain
from vtbench.images.profiles import differ, stated
from vtbench.images.reading import BadImage, read_picture
from vtbench.images.views import View
from vtbench.running import sets
from vtbench.types.errors import VtbenchError

PICTURE = photograph(96, 128)
WIDE = in_colours(PICTURE, P3)
DISPLAY = profile("Display P3", P3)
DIFFER = "1 of 1 pairs state different colour profiles (none and Display P3), which are not applied: give --icc srgb"


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The same colours, in sRGB without a word and in Display P3 with its profile."""
    for name, rgb, how in (("ref", PICTURE, {}), ("cand", WIDE, {"icc_profile": DISPLAY})):
        (tmp_path / name).mkdir()
        Image.fromarray(rgb).save(tmp_path / name / "0.png", **how)
    return tmp_path / "ref", tmp_path / "cand"


def test_the_pair_by_score(pair: tuple[Path, Path]) -> None:
    """As stored the numbers differ; the same colours are the same up to one rounding to 8 bits more."""
    plain = vtbench.score(*pair, ["psnr"]).candidates[0]
    assert plain.scores[0].value == pytest.approx(psnr(PICTURE, WIDE), abs=1e-9)
    assert 30 < plain.scores[0].value < 40
    assert plain.scores[0].warning == DIFFER
    assert plain.rows[0]["flags"] == {"candidate_profile": "Display P3", "profiles_differ": "none and Display P3"}
    same = vtbench.score(*pair, ["psnr"], icc="srgb").candidates[0]
    assert 55 < same.scores[0].value < 60
    assert same.scores[0].warning is None
    assert same.rows[0]["flags"] == {"candidate_converted": "Display P3"}
    assert plain.scores[0].fingerprint != same.scores[0].fingerprint
    # The other way round it is the original that states one.
    back = vtbench.score(pair[1], pair[0], ["psnr"])
    assert "1 of 1 originals state a colour profile that was not applied (Display P3)" in str(back.notes)
    assert "(Display P3 and none)" in str(back.candidates[0].scores[0].warning)


def test_the_pair_by_evaluate_and_by_the_page_of_its_run(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ask = {"images": pair[1], "view": "native", "tasks": ["compression"], "out": tmp_path / "out"}
    (plain,) = vtbench.evaluate("png", **ask).runs
    (row,) = plain.rows()
    assert row.flags == {"profile": "Display P3"}
    assert plain.info.view.name == "native"
    assert "1 of 1 originals state a colour profile that was not applied (Display P3)" in plain.info.notes[0]
    (same,) = vtbench.evaluate("png", icc="srgb", **ask).runs
    (row,) = same.rows()
    assert row.flags == {"converted": "Display P3"}
    assert same.info.view.name == "native+srgb"
    assert same.info.notes == []
    assert same.info.id != plain.info.id
    # A run's view is read back from its record, by merge and rescoring alike.
    assert View.parse(same.info.view.name, same.info.view.protocol).fingerprint() == same.info.view.fingerprint


def test_the_pair_by_saved_pictures_and_explain(pair: tuple[Path, Path], tmp_path: Path) -> None:
    task = tiny_features.task(tmp_path / "code", tag="pairs")
    ask = {"images": pair[0], "tasks": [task], "view": "native", "out": tmp_path / "out", "save": ["images"]}
    values = {}
    for icc in (None, "srgb"):
        (run,) = vtbench.evaluate(f"folder:{pair[1]}", icc=icc, **ask).runs
        score = run.score("psnr")
        assert score is not None
        values[icc] = score.value
        assert (score.warning == DIFFER) == (icc is None)
        told = explain(f"folder:{pair[1]}", {"psnr": 30.0}, images=str(pair[0]), icc=icc)
        assert told.claims[0].value == pytest.approx(score.value, abs=1e-6)
        assert ("Display P3" in " ".join(told.notes)) == (icc is None)
        # Its own record is enough to explain it.
        assert explain(str(run.path), {"psnr": 30.0}).claims[0].value == pytest.approx(score.value, abs=1e-6)
    assert values[None] < 40 < 55 < values["srgb"]


def test_the_pair_as_sets(tmp_path: Path) -> None:
    """Fréchet distance of means of quadrants: large as stored, next to nothing in the same colours."""
    for name, rgb, how in (("ref", PICTURE, {}), ("cand", WIDE, {"icc_profile": DISPLAY})):
        (tmp_path / name).mkdir()
        for k in range(3):
            part = np.ascontiguousarray(rgb[32 * k : 32 * k + 32])
            Image.fromarray(part).save(tmp_path / name / f"{k}.png", **how)
    tiny_features.task(tmp_path / "code", tag="colours")
    metric = f"{tmp_path / 'code' / 'metrics_of_colours.py'}@colours-fid"
    folders = (tmp_path / "ref", [tmp_path / "cand"])
    plain, same = (sets.score(*folders, [metric], icc=icc).candidates[0].scores[0] for icc in (None, "srgb"))
    assert "3 of 3 images state a colour profile that was not applied (Display P3)" in str(plain.warning)
    assert "profile" not in str(same.warning)
    assert same.value < plain.value / 100
    assert same.fingerprint != plain.fingerprint


def test_the_command_line_says_so(pair: tuple[Path, Path]) -> None:
    code, out, _ = command("score", *pair, "--metrics", "psnr")
    assert (code, DIFFER in out) == (0, True)
    code, out, _ = command("score", *pair, "--metrics", "psnr", "--icc", "srgb")
    assert (code, "profile" in out) == (0, False)
    code, _, err = command("score", *pair, "--icc", "p3")
    assert code == 2
    assert "--icc 'p3' is no choice: give srgb" in err


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_every_format_states_its_profile(kind: str) -> None:
    how = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(WIDE, kind, icc_profile=DISPLAY, **how)
    assert read_picture(data, "x").flags == {"profile": "Display P3"}
    picture = read_picture(data, "x", "srgb")
    assert picture.flags == {"converted": "Display P3"}
    assert psnr(PICTURE, picture.rgb) > (55 if kind in ("PNG", "WEBP", "TIFF") else 28)


def test_a_profile_of_srgb_is_none_and_others_are_told_apart() -> None:
    ours, other = (stated(profile(name, P3))[0] for name in ("Display P3", "P3 by another name"))
    assert stated(profile("sRGB IEC61966-2.1", SRGB)) == (None, True)
    assert not differ(ours, other)
    assert differ(ours, None)
    assert differ(ours, stated(profile("Adobe RGB (1998)", ADOBE, 2.2))[0])
    data = encoded(PICTURE, "PNG", icc_profile=profile("sRGB", SRGB))
    assert np.array_equal(read_picture(data, "x", "srgb").rgb, PICTURE)


def test_alpha_and_grey_are_converted_before_they_are_laid_on_white() -> None:
    rgba = np.dstack([WIDE, np.full(WIDE.shape[:2], 255, np.uint8)])
    rgba[:8, :, 3] = 0
    rgb = read_picture(encoded(Image.fromarray(rgba), "PNG", icc_profile=DISPLAY), "x", "srgb").rgb
    assert (rgb[:8] == 255).all()
    assert psnr(PICTURE[8:], rgb[8:]) > 55


def _with_chunk(kind: bytes, body: bytes) -> bytes:
    data = encoded(PICTURE, "PNG")
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


def test_what_a_png_states_in_other_words() -> None:
    """cICP (H.273: primaries 12 are P3's, 1 sRGB's, transfer 13 is sRGB's) and gAMA: named, and not converted."""
    data = _with_chunk(b"cICP", b"\x0c\x0d\0\1")
    assert read_picture(data, "x").flags == {"profile": "cICP 12/13/0/1"}
    with pytest.raises(BadImage, match="embed an ICC profile"):
        read_picture(data, "x", "srgb")
    assert read_picture(_with_chunk(b"cICP", b"\x01\x0d\0\1"), "x").flags == {}
    assert read_picture(_with_chunk(b"gAMA", struct.pack(">I", 100_000)), "x").flags == {"profile": "gAMA 1"}
    assert read_picture(_with_chunk(b"gAMA", struct.pack(">I", 45455)), "x").flags == {}


def test_the_choice_is_part_of_the_view() -> None:
    plain, same = View.parse("256"), View.parse("256", icc="srgb")
    assert (same.name, same.size, same.icc) == ("256+srgb", 256, "srgb")
    assert View.parse("256+srgb") == same
    assert plain.fingerprint() != same.fingerprint()
    for text, icc in (("256+p3", None), ("256", "p3"), ("256+", None)):
        with pytest.raises(VtbenchError, match="is no choice: give srgb"):
            View.parse(text, icc=icc)
