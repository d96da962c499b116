"""Plots: points where arithmetic puts them, axes, the front, costs of generators."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import made_runs
import pytest
from made_runs import score
from site_pages import task_page

from vtbench import leaderboard, registry
from vtbench.adapters.fits.kodak import KODAK
from vtbench.leaderboard import axes, plot
from vtbench.reporting.curves import Curve, curves
from vtbench.reporting.reading import read_runs
from vtbench.reporting.runs import identity


def drawn(lines: list[Curve], *, faded: set[str] | None = None, **frame: Any) -> str:
    """The SVG of a plot whose metric is better when higher."""
    marks = plot.Marks(faded=faded or set())
    whole = {"ident": "p", "title": "T", "y_title": "y", "better": "higher", **frame}
    return str(plot.draw(lines, axes.Frame(**whole), marks))


def test_plot_is_valid_svg_with_points_where_arithmetic_puts_them(tmp_path: Path) -> None:
    """On a log axis equal ratios are equal distances; on the linear one equal differences are."""
    for i, (bpp, psnr) in enumerate(((0.25, 20.0), (0.5, 25.0), (1.0, 30.0))):
        scores = [score("psnr", psnr), score("bpp", bpp)]
        made_runs.write(tmp_path / str(i), options={"quality": i}, knob="quality", scores=scores)
    tree = ET.fromstring(drawn(curves(read_runs([tmp_path])), y_title="PSNR (dB)"))
    dots = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in tree.iter("circle")]
    assert len(dots) == 3
    assert dots[1][0] - dots[0][0] == pytest.approx(dots[2][0] - dots[1][0], abs=0.11)  # one decimal is printed
    assert dots[0][1] - dots[1][1] == pytest.approx(dots[1][1] - dots[2][1], abs=0.11)
    assert dots[0][0] < dots[2][0]
    assert dots[0][1] > dots[2][1]
    texts = [t.text for t in tree.iter("text")]
    assert "bits per pixel (log scale)" in texts
    assert "PSNR (dB)" in texts
    assert {"0.2", "0.5", "1"} <= set(texts)
    ticks = {t.text: float(t.get("x", "")) for t in tree.iter("text") if t.get("class") == "tick"}
    at = ticks["0.5"] + (dots[2][0] - dots[1][0]) * math.log2(1.0 / 0.5)
    assert at == pytest.approx(ticks["1"], abs=0.2)
    assert ticks["0.5"] == pytest.approx(dots[1][0], abs=0.11)


def test_axis_does_not_run_past_what_a_metric_can_be(tmp_path: Path) -> None:
    for i, (bpp, ssim) in enumerate(((0.25, 0.61), (0.5, 0.8), (1.0, 0.999))):
        made_runs.write(tmp_path / str(i), name=f"m{i}", scores=[score("ssim", ssim), score("bpp", bpp)])
    lines = curves(read_runs([tmp_path]), "ssim")
    for bounds, top in (((None, None), 1.1), ((-1.0, 1.0), 1.0)):
        tree = ET.fromstring(drawn(lines, bounds=bounds))
        ticks = [t for t in tree.iter("text") if t.get("class") == "tick" and t.get("text-anchor") == "end"]
        assert max(float(t.text or "") for t in ticks) == pytest.approx(top)


def test_pale_points_are_not_on_the_front(tmp_path: Path) -> None:
    for name, bpp, psnr in (("a", 0.5, 25.0), ("b", 1.0, 30.0), ("c", 2.0, 35.0), ("cheat", 0.1, 50.0)):
        made_runs.write(tmp_path / name, name=name, scores=[score("psnr", psnr), score("bpp", bpp)])
    runs = read_runs([tmp_path])
    cheat = next(identity(run) for run in runs if run.name == "cheat")
    front = re.search(r'class="front" d="M([^"]+)"', drawn(curves(runs), faded={cheat}))
    assert front
    assert front[1].count("V") == 2
    alone = re.search(r'class="front" d="M([^"]+)"', drawn(curves(runs)))
    assert alone
    assert alone[1].count("V") == 0


def test_the_front_is_a_staircase_through_what_was_measured(tmp_path: Path) -> None:
    """Right along the quality of a point, then up to the next one, where that begins; no slope between them."""
    for name, bpp, psnr in (("a", 0.5, 25.0), ("beaten", 0.7, 24.0), ("b", 1.0, 30.0), ("c", 2.0, 35.0)):
        made_runs.write(tmp_path / name, name=name, scores=[score("psnr", psnr), score("bpp", bpp)])
    svg = drawn(curves(read_runs([tmp_path])))
    dots = sorted(
        {(c.get("cx"), c.get("cy")) for c in ET.fromstring(svg).iter("circle")}, key=lambda d: float(d[0] or 0)
    )
    a, _, b, c = dots
    front = re.search(r'class="front" d="([^"]+)"', svg)
    assert front
    assert front[1].startswith(f"M{a[0]} {a[1]}H{b[0]}V{b[1]}H{c[0]}V{c[1]}H")


def test_one_run_alone_has_no_place_and_no_front(tmp_path: Path) -> None:
    made_runs.write(
        tmp_path / "a", scores=[score("psnr", 25.0, half=1.0), score("bpp", 0.5)], values={"psnr": [25.0] * 6}
    )
    page = leaderboard.build([tmp_path], tmp_path / "site").read_text()
    assert 'class="front"' not in page
    assert 'class="pill"' not in page
    assert not re.search(r'class="rank"[^>]*>\s*\d', page)
    assert "Nothing has a place here" in page or '<svg class="plot"' not in page
    assert "no other ranked system of this kind at 0.25–0.5 bit/px" in page
    assert "(best)" not in page


def test_ticks_are_round_and_cover_the_data() -> None:
    assert axes.linear_ticks(18.6, 38.9, 6) == [15, 20, 25, 30, 35, 40]
    assert axes.log_ticks(0.09, 5.1) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5])
    assert axes.linear_ticks(3.0, 3.0)[0] < 3.0 < axes.linear_ticks(3.0, 3.0)[-1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00015, "1.5e−4"), (-0.00025, "−2.5e−4"), (1e-7, "1e−7"), (0.001, "0.001"), (0.0, "0"), (26.5, "26.5")],
)
def test_a_ticks_label_fits_beside_the_axis(value: float, text: str) -> None:
    assert axes.plain(value) == text


def test_generators_have_quality_against_cost(tmp_path: Path) -> None:
    """A run without a rate is drawn against what an image takes; the page's first plot stays rate and distortion."""
    for i, seconds in enumerate((0.5, 2.0, 8.0)):
        cost = {"metric": "image-seconds-p50", "value": seconds, "unit": "s/image", "better": "lower"}
        scores = [score("rfid", 9.0 - i), {**score("psnr", 1.0), **cost}]
        options = {"steps": i}
        folder = tmp_path / f"r{i}"
        made_runs.write(folder, name="drawer", kind="generator", options=options, task="generation", scores=scores)
    leaderboard.build([tmp_path], tmp_path / "site")
    for page in ((tmp_path / "site" / "index.html").read_text(), task_page(tmp_path / "site", "generation")):
        assert "rFID against time to image" in page
        assert "time to image, s/image (log scale)" in page
        assert "nothing gives more for less" in page
        assert "Rate and distortion" not in page
        assert "against network evaluations" not in page
        # Nor is there a column of dashes for a rate that a drawn image cannot have.
        assert 'data-c="bpp"' not in page


def test_curves_published_for_the_very_pictures_are_drawn_behind(tmp_path: Path) -> None:
    """By the suite's hash, whole images only, for the metrics that they have; with links, and not on the front."""
    kodak = {"name": "my photographs", "hash": KODAK, "n": 24}
    for view, suite, metric in (
        ("native", kodak, "psnr"),
        ("256", kodak, "psnr"),
        ("native", {**kodak, "hash": "0" * 64}, "psnr"),
        ("native", kodak, "ssim"),
    ):
        runs = tmp_path / f"{view}-{suite['hash'][:4]}-{metric}"
        for i, (bpp, value) in enumerate(((0.5, 0.9), (1.0, 0.95))):
            scores = [score(metric, value), score("bpp", bpp)]
            made_runs.write(runs / str(i), name=f"m{i}", view=view, scores=scores, extra={"suite": suite})
        page = leaderboard.build([runs], tmp_path / "out").read_text()
        curves_of_cards = [curve for entry in registry.entries() for curve in entry.card.curves]
        wanted = len(curves_of_cards) if (view, suite, metric) == ("native", kodak, "psnr") else 0
        assert len(curves_of_cards) >= 3
        assert len(re.findall('<path class="published" d="M[^H"]*"/>', page)) == wanted
        assert page.count("As published, not measured here") == bool(wanted)
        assert ("WebP, Pillow 7.1.2" in page) == bool(wanted)
        front = re.search(r'class="front" d="M([^"]+)"', page)
        assert front is not None
        assert front[1].count("V") == 1
