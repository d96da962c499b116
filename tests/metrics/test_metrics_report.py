"""The page of docs/metrics.md: its parts that can be wrong without anybody seeing it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from benchmarks.metrics import answers, costs, images, libraries, peer, pictures, report, text, tokens, understanding
from benchmarks.metrics.comparison import Comparison
from vtbench import registry
from vtbench.metrics import detail
from vtbench.models import tower_files
from vtbench.scoring.costs import OF_ANSWERS
from vtbench.types.errors import VtbenchError

ROOT = Path(__file__).resolve().parents[2]


def test_the_steps_to_a_peers_number_add_up() -> None:
    """`peer` itself refuses a first line that is not vtbench's number; here the sums are read off the page."""
    lines = peer.peer()
    tables = "\n".join(lines).split("| vtbench ")[1:]
    assert len(tables) == 4
    for one in tables:
        rows = [line for line in one.splitlines() if line.startswith("|")]
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
    assert peer.ssim_with_borders(a, b, 1.0) == pytest.approx(wanted, rel=1e-9)


def test_a_difference_above_its_tolerance_is_marked() -> None:
    good = Comparison("a", "x", "y", 1e-9, 1e-6, "r")
    bad = Comparison("b", "x", "y", 1e-3, 1e-6, "r")
    assert good.ok
    assert not bad.ok
    lines = report.comparison_rows([good, bad])
    assert "exceeds" in lines[3]
    assert "exceeds" not in lines[2]


def test_image_metrics_agree_with_their_libraries() -> None:
    comparisons = [*images.image_comparisons(), *libraries.library_comparisons()]
    names = {name for c in comparisons for name in c.metric.split(", ")}
    assert {"psnr", "ssim", "ms-ssim"} <= names
    assert {"ssim-y", "delta-e", "gmsd", "haarpsi", "psnr-pooled", "lpips-alex", "mtf50", "cer"} <= names
    assert [(c.metric, c.difference) for c in comparisons if not c.ok] == []


def test_token_comparisons_hold() -> None:
    assert all(c.ok for c in tokens.closed_forms())


def test_every_metric_stands_on_the_page_and_in_the_table_of_references() -> None:
    """The page is written by a command; a metric that came later must not be missing from it."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    first = page.split("## Every metric")[1].split("## Against the reference")[0]
    second = page.split("## Against the reference")[1].split("## Statistics")[0]
    listed = {line.split("`")[1] for line in first.splitlines() if line.startswith("| `")}
    compared = {
        n.strip() for line in second.splitlines() if line.startswith("| ") for n in line.split("|")[1].split(",")
    }
    assert set(registry.metrics()) - listed == set()
    assert set(registry.metrics()) - compared == set()
    assert set(OF_ANSWERS) - compared == set()
    assert "exceeds" not in page


@pytest.mark.parametrize("rows", [text.text_comparisons, tokens.code_comparisons, tokens.system_comparisons])
def test_readings_tokens_and_rates_agree_with_their_definitions(rows: Callable[[], list[Comparison]]) -> None:
    assert [(c.metric, c.difference) for c in rows() if not c.ok] == []


def test_gains_agree_with_the_whole_fourier_plane() -> None:
    """A band is a ring of the whole plane: rows and columns may change places."""
    x = pictures.originals()[0]
    y = pictures.jpeg(x)
    gain, excess = images.gains(x, y)
    ours = pictures.values(detail.ExcessPower(), [x], [y])[0]
    assert ours == pytest.approx(np.mean(excess), abs=1e-12)
    turned = [np.ascontiguousarray(p.transpose(1, 0, 2)) for p in (x, y)]
    assert pictures.values(detail.ExcessPower(), turned[:1], turned[1:])[0] == pytest.approx(ours, abs=1e-12)
    assert pictures.values(detail.CoherentGain(), [x], [y])[0] == pytest.approx(np.mean(gain), abs=1e-12)


@pytest.mark.parametrize(
    "rows", [understanding.understanding_comparisons, answers.answer_comparisons, costs.cost_comparisons]
)
def test_reduced_models_agree_with_scikit_learn_scipy_and_transformers(rows: Callable[[], list[Comparison]]) -> None:
    if int(version("transformers").partition(".")[0]) < tower_files.MAJOR:
        # `make oldest`: what is left to show there is that no number comes of it.
        with pytest.raises(VtbenchError, match=f"pip install 'transformers>={tower_files.MAJOR}"):
            rows()
        return
    assert [(c.metric, c.difference) for c in rows() if not c.ok] == []
