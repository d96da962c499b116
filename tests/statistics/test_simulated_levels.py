"""Intervals and tests by a small simulation; docs/metrics.md holds the large one."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from benchmarks.metrics import coverage, report, simulated


@pytest.mark.parametrize("n", [2, 5, 9])
@pytest.mark.parametrize("name", ["pooled PSNR, pixels unlike", "pooled PSNR, a fifth lossless", "right or wrong"])
def test_equal_systems_are_not_told_apart_too_often(name: str, n: int) -> None:
    """The percentile bootstrap did it in 50, 18 and 11 of 100; 300 trials at 5 % end below 8.8 % (3 deviations)."""
    level = coverage.simulate_level(simulated.pairs()[name], n, trials=300)
    assert level["paired"] <= 0.088
    assert level["sign"] <= 0.088
    if n < 6:
        assert level["paired"] == 0


@pytest.mark.parametrize("n", [3, 5, 10])
def test_proportions_of_few_images_hold_their_truth(n: int) -> None:
    """Student's interval held it in 43 of 100; Wilson's does in 300 trials of 95 % more often than 90.4 %, but where
    n and the share are such that its steps fall badly."""
    for name in ("0 or 1, half of them 1", "0 or 1, nine of ten 1"):
        assert coverage.simulate_coverage(simulated.values()[name], n, trials=300) > 0.85


def test_the_section_of_the_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n## Statistics\n\nold\n\n## B\n\nkept\n")
    coverage.write_section(page, ["new", ""])
    assert page.read_text() == "# A\n\n## Statistics\n\nnew\n\n## B\n\nkept\n"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no section"):
        coverage.write_section(page, ["new"])


@pytest.mark.parametrize("name", ["four equal (PSNR)", "two equal, one 0.3 dB and one 1 dB behind"])
def test_ranges_of_places_hold_the_true_ranks(name: str) -> None:
    """95 of 100 or more; 60 simulations of 95 % end above 86.6 % (3 deviations)."""
    held, apart = coverage.simulate_ranks(simulated.ladders()[name], 8, trials=60)
    assert held > 0.866
    assert (apart < 0.134) == name.startswith("four equal")


def test_the_pages_number_of_simulations_is_the_one_that_it_states() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert f"Share of {coverage.TRIALS} simulated sets" in page
    assert inspect.signature(report.page).parameters["trials"].default == coverage.TRIALS
    for source in (simulated.values(), simulated.pairs(), simulated.ladders()):
        assert [name for name in source if f"| {name} |" not in page] == []
