"""The page of docs/metrics.md: its parts that can be wrong without anybody seeing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from vtbench import metrics_references as references
from vtbench import metrics_references_codes as codes
from vtbench import metrics_report as report
from vtbench import registry
from vtbench.metrics import detail, reference
from vtbench.metrics.reference import Comparison


def test_the_steps_to_a_peers_number_add_up() -> None:
    """`peer` itself refuses a first line that is not vtbench's number; here the sums are read off the page."""
    lines = report.peer()
    tables = "\n".join(lines).split("| vtbench ")[1:]
    assert len(tables) == 4
    for text in tables:
        rows = [line for line in text.splitlines() if line.startswith("|")]
        end = next(i for i, row in enumerate(rows) if "whole" in row)
        steps = [float(row.split("|")[3]) for row in rows[:end]]
        whole = float(rows[end].split("**")[3])
        assert sum(steps) == pytest.approx(whole, abs=2e-4)  # printed with four digits


def test_ssim_with_borders_is_skimages_within_them() -> None:
    """On a picture whose borders are flat, counting them changes the mean by a known share of ones."""
    rng = np.random.default_rng(0)
    a, b = np.full((64, 64, 3), 0.5), np.full((64, 64, 3), 0.5)
    inner = slice(20, 44)
    a[inner, inner] = rng.random((24, 24, 3))
    b[inner, inner] = rng.random((24, 24, 3))
    cropped = structural_similarity(
        a, b, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    wanted = (cropped * 54**2 + (64**2 - 54**2)) / 64**2
    assert report.ssim_with_borders(a, b, 1.0) == pytest.approx(wanted, rel=1e-9)


def test_a_difference_above_its_tolerance_is_marked() -> None:
    good = report.Comparison("a", "x", "y", 1e-9, 1e-6, "r")
    bad = report.Comparison("b", "x", "y", 1e-3, 1e-6, "r")
    assert good.ok
    assert not bad.ok
    lines = report.comparison_rows([good, bad])
    assert "exceeds" in lines[3]
    assert "exceeds" not in lines[2]


def test_image_metrics_agree_with_their_libraries() -> None:
    found = report.image_comparisons()
    assert {"psnr", "ssim", "ms-ssim"} <= {c.metric for c in found}
    assert [c.metric for c in found if not c.ok] == []


def test_token_comparisons_hold() -> None:
    assert all(c.ok for c in report.token_comparisons())


def test_every_metric_stands_on_the_page_and_in_the_table_of_references() -> None:
    """The page is written by a command; a metric that came later must not be missing from it."""
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    first = text.split("## Every metric")[1].split("## Against the reference")[0]
    second = text.split("## Against the reference")[1].split("## Statistics")[0]
    listed = {line.split("`")[1] for line in first.splitlines() if line.startswith("| `")}
    compared = {
        n.strip() for line in second.splitlines() if line.startswith("| ") for n in line.split("|")[1].split(",")
    }
    assert set(registry.metrics()) - listed == set()
    assert set(registry.metrics()) - compared == set()
    assert "exceeds" not in text


@pytest.mark.parametrize("rows", [codes.text, codes.tokens, codes.models])
def test_readings_tokens_and_rates_agree_with_their_definitions(rows: Callable[[], list[Comparison]]) -> None:
    assert [(c.metric, c.difference) for c in rows() if c.difference > c.tolerance] == []


def test_gains_agree_with_the_whole_fourier_plane() -> None:
    """A band is a ring of the whole plane: rows and columns may change places."""
    x = reference.originals()[0]
    y = reference.jpeg(x)
    gain, excess = references.gains(x, y)
    found = reference.values(detail.ExcessPower(), [x], [y])[0]
    assert found == pytest.approx(np.mean(excess), abs=1e-12)
    turned = [np.ascontiguousarray(p.transpose(1, 0, 2)) for p in (x, y)]
    assert reference.values(detail.ExcessPower(), turned[:1], turned[1:])[0] == pytest.approx(found, abs=1e-12)
    assert reference.values(detail.CoherentGain(), [x], [y])[0] == pytest.approx(np.mean(gain), abs=1e-12)
