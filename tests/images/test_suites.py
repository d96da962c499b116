"""The built-in suites: whole, measured, and what their manifests say; and the list of all suites."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from vtbench.images import manifests as suite_manifests
from vtbench.images.hub import REMOTE
from vtbench.images.manifests import builtin_suites
from vtbench.images.named import list_suites
from vtbench.images.opening import open_suite
from vtbench.images.reading import rgb_sha256
from vtbench.types.errors import VtbenchError

STARTERS = ("starter-detail", "starter-natural", "starter-text")


@pytest.mark.parametrize("name", STARTERS)
def test_starters_are_whole(name: str) -> None:
    """Every image is there, loads, and has both hashes of its manifest."""
    suite = open_suite(name)
    assert len(suite.items) >= 7
    assert suite.licence
    for item in suite.items:
        rgb = suite.load(item)
        assert rgb_sha256(rgb) == item.sha256_rgb
        assert hashlib.sha256(suite.read(item)).hexdigest() == item.sha256_file


def test_no_image_is_scored_twice_or_fitted_on() -> None:
    from sklearn.datasets import load_sample_images

    scored = Counter(item.sha256_rgb for name in STARTERS for item in open_suite(name).items)
    assert max(scored.values()) == 1
    fitted = {rgb_sha256(image) for image in load_sample_images().images}
    assert len(fitted) == 2
    assert not fitted & set(scored)


def test_only_one_of_the_stereo_pair() -> None:
    places = {item.place for name in STARTERS for item in open_suite(name).items}
    assert len([p for p in places if "motorcycle" in p]) == 1


def test_images_come_from_the_wheel_not_from_a_download() -> None:
    from importlib.metadata import files

    shipped = {f.as_posix().removeprefix("skimage/data/") for f in files("scikit-image") or ()}
    named = [str(i.place) for name in STARTERS for i in open_suite(name).items]
    outside = [p.partition(":")[2] for p in named if ":" in p and p.partition(":")[2] not in shipped]
    assert outside == []
    assert all((suite_manifests.MANIFESTS / p).is_file() for p in named if ":" not in p)


def test_patterns_are_what_their_formulas_say() -> None:
    suite = open_suite("starter-detail")
    by_name = {i.id: suite.load(i) for i in suite.items if "pattern" in i.meta}
    assert set(by_name) == {"zone-plate", "siemens-star", "line-pairs", "checkerboards", "grids"}
    board = by_name["checkerboards"][..., 0]
    # One-pixel squares: neighbours differ everywhere; eight-pixel squares: every eighth.
    assert (np.diff(board[:128, :128].astype(int), axis=1) != 0).all()
    changes = np.flatnonzero(np.diff(board[200, 128:].astype(int)))
    assert (np.diff(changes) == 8).all()
    plate = by_name["zone-plate"][..., 0].astype(float)
    assert np.array_equal(plate, plate.T)
    assert np.array_equal(plate, plate[::-1, ::-1])
    # At distance r from the middle, cos(pi r^2 / 256) along the middle row (r = k + 1/2, and 1/2 across).
    k = np.arange(128)
    truth = 0.5 + 0.5 * np.cos(np.pi * ((k + 0.5) ** 2 + 0.25) / 256)
    assert np.abs(plate[128, 128:] / 255 - truth).max() <= 0.5 / 255 + 1e-12
    grid = by_name["grids"][:128, :128, 0]
    assert [int(n) for n in np.flatnonzero((grid == 0).all(axis=0))] == list(range(3, 128, 8))
    # 36 spokes: on a circle, 72 changes between black and white.
    angle = np.linspace(0, 2 * np.pi, 7200, endpoint=False)
    star = by_name["siemens-star"][..., 0]
    ring = star[(128 + 100 * np.sin(angle)).astype(int), (128 + 100 * np.cos(angle)).astype(int)] > 127
    assert int((ring != np.roll(ring, 1)).sum()) == 72


def test_text_is_measured_and_inside_its_boxes() -> None:
    suite = open_suite("starter-text")
    lines = 0
    heights = set()
    for item in suite.items:
        rgb = suite.load(item).astype(int)
        assert rgb.shape == (512, 512, 3)
        paper = rgb[0, 0]
        ink = np.abs(rgb - paper).max(axis=2) > 100
        covered = np.zeros(ink.shape, bool)
        for line in item.meta["lines"]:
            x0, y0, x1, y1 = line["box"]
            assert 0 <= x0 < x1 <= 512
            assert 0 <= y0 < y1 <= 512
            assert ink[y0:y1, x0:x1].any(), line["text"]
            # The box holds an ascender or a capital above the x, so it is higher; a line is never three times as high.
            assert line["x_height"] < y1 - y0 <= 3 * line["x_height"] + 6, line["text"]
            assert not covered[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].any(), f"{line['text']} overlaps another line"
            covered[y0:y1, x0:x1] = True
            heights.add(line["x_height"])
            lines += 1
        assert not (ink & ~covered & (np.abs(rgb - paper).max(axis=2) > 150)).any(), f"{item.id}: ink outside the boxes"
    assert heights >= {3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 24}
    assert 60 <= lines <= 110
    blocks = {line["block"] for item in suite.items for line in item.meta["lines"]}
    assert blocks >= {"ladder", "digits", "mixed", "paragraph", "table", "receipt"}
    dark = [i.id for i in suite.items if suite.load(i)[0, 0].max() < 64]
    assert len(dark) == 1


def test_x_height_in_the_picture() -> None:
    """Rows that hold ink of the letters w, v, x, z alone, in the picture itself, are as many as stated (one of slack
    for antialiased edges)."""
    suite = open_suite("starter-text")
    page = next(i for i in suite.items if i.id == "text-ladder-light")
    dark = suite.load(page)[..., 0] < 128
    for line in page.meta["lines"]:
        x0, y0, x1, y1 = line["box"]
        rows = dark[y0:y1, x0:x1].sum(axis=1)
        # Rows between baseline and x-line hold far more ink than those of ascenders and descenders.
        dense = np.flatnonzero(rows >= 0.35 * rows.max())
        assert abs(int(dense[-1] - dense[0] + 1) - line["x_height"]) <= max(1, round(0.2 * line["x_height"])), line[
            "text"
        ]


def test_near_names_are_offered() -> None:
    with pytest.raises(VtbenchError, match="starter-natural"):
        open_suite("starter-naturl")


def test_list() -> None:
    rows = {row["name"]: row for row in list_suites()}
    assert set(STARTERS) <= set(builtin_suites())
    assert set(rows) == {*builtin_suites(), *REMOTE}
    assert all(rows[n]["state"] == "ready" and rows[n]["n"] == len(open_suite(n).items) for n in STARTERS)
    assert rows["vtbench-imagenet"]["n"] == 50_000
    assert "network" in rows["vtbench-imagenet"]["needs"]


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vtbench.images.named import list_suites; list_suites();"
        "print([m for m in ('torch', 'numpy', 'PIL', 'datasets', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_scripts_patterns_are_the_committed_ones() -> None:
    """make_starter's formulas still give the committed pixels (pages need the fonts they were made with)."""
    from vtbench.tasks.suites import make_starter

    suite = open_suite("starter-detail")
    for item in suite.items:
        if "pattern" in item.meta:
            assert np.array_equal(make_starter.PATTERNS[item.meta["pattern"]](), suite.load(item)), item.id
