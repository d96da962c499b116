"""Two versions of a metric never stand in one column: on the page, in plots, in ranks, in comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_runs
import pytest
from made_runs import score

from vtbench import registry
from vtbench.reporting.compare import compare
from vtbench.reporting.curves import curves
from vtbench.reporting.ranking import ranking
from vtbench.reporting.reading import read_runs
from vtbench.reporting.versions import of_newest
from vtbench.results.record import Run, read_run
from vtbench.results.stale import stale_metrics
from vtbench.types.errors import VtbenchError


def three(root: Path, versions: tuple[int, int, int] = (1, 2, 2), metric: str = "psnr") -> dict[str, Run]:
    """Runs a, b and c, the first by an older version of a metric, and by far the best by it."""
    for name, value, bpp, version in zip("abc", (50.0, 30.0, 31.0), (0.5, 1.0, 2.0), versions, strict=True):
        scores = [score(metric, value, version=version, half=1.0), score("ssim", value / 60), score("bpp", bpp)]
        folder = made_runs.write(root / name, name=f"model-{name}", title=f"Model {name}", scores=scores)
        info = json.loads((folder / "run.json").read_text())
        info["metrics"][metric]["version"] = version
        (folder / "run.json").write_text(json.dumps(info))
    return {run.name[-1]: run for run in read_runs([root])}


def test_a_score_of_an_older_version_has_no_value_among_newer_ones(tmp_path: Path) -> None:
    runs = three(tmp_path)
    shown = {run.name[-1]: run for run in of_newest([*runs.values()])}
    old: Any = shown["a"].score("psnr")
    assert (old.value, old.low, old.high) == (None, None, None)
    assert old.why == "50 by version 1 of this metric, so not compared with version 2"
    for name in "bc":
        assert shown[name] == runs[name]
    other: Any = shown["a"].score("ssim")
    assert other.value == 50 / 60
    assert runs["a"].score("psnr").value == 50.0  # type: ignore[union-attr]


@pytest.mark.parametrize("versions", [(1, 1, 1), (3, 3, 3)])
def test_one_version_stays_as_it_is(tmp_path: Path, versions: tuple[int, int, int]) -> None:
    runs = [*three(tmp_path, versions).values()]
    assert of_newest(runs) == runs


def test_a_newer_version_without_a_number_takes_nothing_from_the_older(tmp_path: Path) -> None:
    """A machine without the weights says null by version 2: the numbers of version 1 are still the only ones."""
    runs = three(tmp_path, (1, 1, 2))
    folder = runs["c"].path
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    lines[0] |= {"value": None, "low": None, "high": None, "why": "no weights"}
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = [read_run(folder.parent / name) for name in "abc"]
    assert of_newest(runs) == runs
    assert ranking(runs, "psnr").places


def test_other_questions_do_not_matter(tmp_path: Path) -> None:
    runs = three(tmp_path, (2, 2, 2))
    made_runs.write(tmp_path / "d", name="old", task="detail", scores=[score("psnr", 40.0, version=1)])
    everyone = read_runs([tmp_path])
    assert of_newest(everyone) == everyone
    assert len(runs) == 3


def test_curves_and_ranks_are_of_one_version(tmp_path: Path) -> None:
    runs = of_newest([*three(tmp_path).values()])
    assert sorted(p.y for c in curves(runs) for p in c.points) == [30.0, 31.0]
    # A rate of another version is another axis.
    rates = of_newest([*three(tmp_path / "rates", metric="lpips-alex").values()])
    assert len(ranking(rates, "lpips-alex").places) == 2


def test_comparisons_of_two_versions_are_refused(tmp_path: Path) -> None:
    runs = three(tmp_path)
    with pytest.raises(VtbenchError, match=r"version of psnr is 1 in .* and 2 in"):
        compare([runs["a"], runs["b"]])


def test_stale_is_what_has_a_number_of_another_version_than_here(tmp_path: Path) -> None:
    runs = three(tmp_path, (1, 7, 0))
    installed = 1
    assert stale_metrics(runs["a"], registry.metric_version) == {}
    assert stale_metrics(runs["b"], registry.metric_version) == {"psnr": (7, installed)}
    assert stale_metrics(runs["c"], registry.metric_version) == {"psnr": (0, installed)}
    scores = [score("psnr", None, why="no", version=7), score("bpp", 1.0)]
    made_runs.write(tmp_path / "null", scores=scores)
    assert stale_metrics(read_run(tmp_path / "null"), registry.metric_version) == {}


def test_of_two_copies_of_a_run_the_renewed_one_is_read(tmp_path: Path) -> None:
    for name, version in (("older", 1), ("renewed", 2)):
        made_runs.write(tmp_path / name, scores=[score("psnr", 30.0 + version, version=version)])
    (run,) = read_runs([tmp_path])
    assert run.path.name == "renewed"
