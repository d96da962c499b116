"""What changed between two leaderboards: who came and went, and numbers that cannot have moved so far."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import made_runs
import pytest
from support import command

from vtbench import leaderboard
from vtbench.publishing.changes import changes, implausible
from vtbench.reporting.reading import read_runs
from vtbench.types.errors import VtbenchError


def _leaderboard(root: Path, values: dict[str, float], **more: Any) -> Path:
    """A run a model, with this PSNR."""
    for name, value in values.items():
        scores = [made_runs.score("psnr", value), made_runs.score("bpp", 1.0)]
        made_runs.write(root / name, name=name, scores=scores, **more)
    return root


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return _leaderboard(tmp_path / "old", {"jpeg": 30.0, "webp": 31.0, "avif": 33.0})


def test_nothing_changed(old: Path, tmp_path: Path) -> None:
    new = Path(shutil.copytree(old, tmp_path / "elsewhere" / "new"))
    seen = changes(old, new)
    assert (seen.came, seen.went, seen.changed, seen.ranks, seen.same) == ((), (), (), (), 3)
    code, out, _ = command("leaderboard", "diff", str(old), str(new))
    assert (code, out.strip()) == (0, "0 came, 0 went, 3 stayed, 0 numbers changed")


def test_a_jump_of_ten_decibels_is_refused_unless_it_is_accepted(old: Path, tmp_path: Path) -> None:
    new = _leaderboard(tmp_path / "new", {"jpeg": 40.0, "webp": 31.5, "titok": 20.0})
    code, out, err = command("leaderboard", "diff", str(old), str(new))
    assert code == 1
    assert "came: titok, reconstruction on starter-natural at 256" in out
    assert "went: avif, reconstruction on starter-natural at 256" in out
    assert "webp, reconstruction on starter-natural at 256: psnr 31 -> 31.5\n" in out
    assert "psnr 30 -> 40: IMPLAUSIBLE, a step of 10 dB, where 3 are plausible" in out
    assert "jpeg, reconstruction on starter-natural at 256: psnr jumps from 30 to 40" in err
    assert "--accept" in err
    code, out, err = command("leaderboard", "diff", str(old), str(new), "--accept", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["implausible"] == 1


def test_a_system_that_was_measured_again_is_the_same_system(old: Path, tmp_path: Path) -> None:
    """Another seed, or another release, is another id; ten decibels are ten decibels."""
    new = _leaderboard(tmp_path / "new", {"jpeg": 41.0, "webp": 31.0, "avif": 33.0}, seed=7)
    seen = changes(old, new)
    assert (seen.came, seen.went, seen.same) == ((), (), 3)
    assert [(c.metric, c.again, c.why is not None) for c in seen.changed] == [("psnr", True, True)]


def test_who_gains_and_loses_a_rank_is_said(old: Path, tmp_path: Path) -> None:
    new = Path(shutil.copytree(old, tmp_path / "new"))
    info = json.loads((new / "jpeg" / "run.json").read_text())
    info |= {"ranked": False, "why_not_ranked": "unverified weights"}
    (new / "jpeg" / "run.json").write_text(json.dumps(info))
    assert changes(old, new).ranks == (
        "jpeg, reconstruction on starter-natural at 256: not ranked any more (unverified weights)",
    )
    assert changes(new, old).ranks == ("jpeg, reconstruction on starter-natural at 256: ranked now",)


def test_sites_can_be_compared_as_they_are(old: Path, tmp_path: Path) -> None:
    """A page holds its runs' records, so that what is published can be held against what will be."""
    leaderboard.build([old], tmp_path / "site", {})
    new = _leaderboard(tmp_path / "new", {"jpeg": 15.0, "webp": 31.0, "avif": 33.0})
    assert [c.new for c in changes(tmp_path / "site", new).implausible] == [15.0]


@pytest.mark.parametrize(
    ("metric", "before", "after", "is_jump"),
    [
        ("psnr", 30.0, 33.0, False),
        ("psnr", 30.0, 26.9, True),
        ("ssim", 0.80, 0.89, False),
        ("ssim", 0.80, 0.95, True),
        ("rfid", 0.4, 0.9, False),
        ("rfid", 5.0, 7.0, False),
        ("rfid", 5.0, 9.0, True),
        ("lpips-alex", 0.10, 0.115, False),
        ("lpips-alex", 0.10, 0.2, True),
        ("bpp", 0.25, 0.5, True),
        ("bpp", 0.25, 0.0, True),
    ],
)
def test_how_far_a_number_may_move(tmp_path: Path, metric: str, before: float, after: float, is_jump: bool) -> None:
    bounds = {"ssim": [0.0, 1.0]}.get(metric, [0.0, None])
    cards = {"metrics": {metric: {**made_runs.card(metric), "bounds": bounds}}}
    made_runs.write(tmp_path / "r", scores=[made_runs.score(metric, after)], extra=cards)
    (run,) = read_runs([tmp_path / "r"])
    (new,) = run.scores
    assert (implausible(new.model_copy(update={"value": before}), new, run) is not None) is is_jump
    other = new.model_copy(update={"value": before, "version": 2})
    assert implausible(other, new, run) is None, "another version of a metric is another number"


def test_what_holds_no_run_is_refused(old: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(VtbenchError, match="holds no run"):
        changes(old, tmp_path / "empty")
