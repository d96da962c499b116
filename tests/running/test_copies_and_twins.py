"""A suite is what it holds, on every path: copies with other times are one, twins with the same times are two.

Twins are alike in names, sizes and times, and hold other pictures.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vtbench
from vtbench import leaderboard
from vtbench.explaining.explain import explain
from vtbench.explaining.runs import explain_runs
from vtbench.leaderboard.runpage import WORST
from vtbench.results.record import Run, read_run
from vtbench.running.merge import merge
from vtbench.running.rescore import add_metrics
from vtbench.types.errors import VtbenchError

STAMP = 1_700_000_000
N = 6


def bitmaps(folder: Path, shift: int) -> Path:
    """Six bitmaps of one size in bytes and one time: grey steps, `shift` levels lighter."""
    folder.mkdir(parents=True)
    for number in range(N):
        level = np.full((64, 64, 3), 30 * number + shift, np.uint8)
        level[8 * number : 8 * number + 8, ::3] += 50
        Image.fromarray(level).save(folder / f"{number}.bmp")
        os.utime(folder / f"{number}.bmp", (STAMP, STAMP))
    return folder


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One suite, its copy elsewhere with other times and in another order of writing, and its twin."""
    root = tmp_path_factory.mktemp("suites")
    here, twin = bitmaps(root / "here" / "suite", 0), bitmaps(root / "twin" / "suite", 9)
    copied = root / "copied" / "suite"
    copied.mkdir(parents=True)
    for path in sorted(here.iterdir(), reverse=True):
        shutil.copy(path, copied / path.name)
        os.utime(copied / path.name, (STAMP + 100, STAMP + 100))
    facts = [[(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(f.iterdir())] for f in (here, twin)]
    assert facts[0] == facts[1]
    return {"here": here, "copied": copied, "twin": twin}


def run_of(images: Path, out: Path, model: str = "jpeg", **more: Any) -> Run:
    choices: dict[str, Any] = {"view": "native", "tasks": ["compression"], "batch_size": 2, **more}
    return vtbench.evaluate(model, images=images, out=out, **choices).runs[0]


@pytest.fixture(scope="module")
def runs(suites: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """JPEG on the suite; DCT on each of the three."""
    out = tmp_path_factory.mktemp("runs")
    evaluated = {name: run_of(suites[name], out / name, "dct", save=["images"]) for name in suites}
    return {"jpeg": run_of(suites["here"], out / "jpeg", save=["images"]), **evaluated}


# -- merge -------------------------------------------------------------------------------------------------------------


def test_shards_of_copies_merge_and_those_of_twins_do_not(suites: dict[str, Path], tmp_path: Path) -> None:
    whole = run_of(suites["here"], tmp_path / "whole")
    run_of(suites["here"], tmp_path / "copies", shard=(1, 2))
    run_of(suites["copied"], tmp_path / "copies", shard=(2, 2))
    (merged,) = merge([tmp_path / "copies"], tmp_path / "merged")
    joined = read_run(merged)
    assert (merged.name, joined.info.n) == (whole.path.name, N)
    assert [row.sha256 for row in joined.rows()] == [row.sha256 for row in whole.rows()]
    run_of(suites["here"], tmp_path / "twins", shard=(1, 2))
    run_of(suites["twin"], tmp_path / "twins", shard=(2, 2))
    with pytest.raises(VtbenchError, match="is missing"):
        merge([tmp_path / "twins"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


# -- compare -----------------------------------------------------------------------------------------------------------


def test_runs_on_copies_compare_and_those_on_twins_do_not(runs: dict[str, Run]) -> None:
    compared = vtbench.compare([runs["jpeg"].path, runs["copied"].path], ["bpp"])
    assert compared.images == N
    with pytest.raises(VtbenchError, match="suite hash is"):
        vtbench.compare([runs["jpeg"].path, runs["twin"].path], ["bpp"])


# -- explain -----------------------------------------------------------------------------------------------------------


def test_two_runs_are_explained_on_copies_and_never_on_twins(runs: dict[str, Run]) -> None:
    answer = explain_runs(runs["jpeg"].path, runs["copied"].path, ["bpp"])
    assert answer.n == N
    with pytest.raises(VtbenchError, match="no image in common: pictures of the same names are others"):
        explain_runs(runs["jpeg"].path, runs["twin"].path, ["bpp"])


def test_of_two_suites_that_share_pictures_the_shared_ones_are_explained(
    suites: dict[str, Path], runs: dict[str, Run], tmp_path: Path
) -> None:
    """Half of the twin's pictures replaced by the suite's own: three are the same, whatever all are called."""
    mixed = Path(shutil.copytree(suites["twin"], tmp_path / "mixed"))
    for number in (1, 2, 4):
        shutil.copy(suites["here"] / f"{number}.bmp", mixed / f"{number}.bmp")
    other = run_of(mixed, tmp_path / "out", "dct")
    answer = explain_runs(runs["jpeg"].path, other.path, ["bpp"])
    assert answer.n == 3
    by_item = {row.item: row.values["bpp"] for row in runs["jpeg"].rows()}
    (claim,) = answer.claims
    assert claim.value == pytest.approx(sum(by_item[f"{n}.bmp"] for n in (1, 2, 4)) / 3)  # type: ignore[misc]
    # At another view their pixels say nothing of each other.
    small = run_of(mixed, tmp_path / "small", "dct", view="32")
    with pytest.raises(VtbenchError, match="nothing tells which pictures are the same"):
        explain_runs(runs["jpeg"].path, small.path, ["bpp"])


def test_a_run_is_explained_on_a_copy_and_not_on_a_twin(suites: dict[str, Path], runs: dict[str, Run]) -> None:
    answer = explain(str(runs["here"].path), {"psnr": 30.0}, images=str(suites["copied"]))
    assert answer.n == N
    with pytest.raises(VtbenchError, match="no longer what"):
        explain(str(runs["here"].path), {"psnr": 30.0}, images=str(suites["twin"]))


# -- score RUN ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["copied", "twin"])
def test_metrics_are_added_by_a_copy_in_the_place_of_the_originals_and_not_by_a_twin(
    suites: dict[str, Path], tmp_path: Path, place: str
) -> None:
    images = Path(shutil.copytree(suites["here"], tmp_path / "images"))
    run = run_of(images, tmp_path / "out", save=["images"])
    shutil.rmtree(images)
    shutil.copytree(suites[place], images)
    if place == "twin":
        with pytest.raises(VtbenchError, match="no longer what"):
            add_metrics(run.path, ["mse"])
        return
    added = add_metrics(run.path, ["mse"]).score("mse")
    assert added is not None
    assert added.value is not None


# -- the page ----------------------------------------------------------------------------------------------------------


def test_copies_are_one_section_of_the_page_and_twins_another(runs: dict[str, Run], tmp_path: Path) -> None:
    leaderboard.build([run.path for run in runs.values()], tmp_path / "site")
    page = "".join(path.read_text() for path in sorted((tmp_path / "site" / "task").iterdir()))
    ids = {name: run.info.id[:12] for name, run in runs.items()}
    assert ids["here"] == ids["copied"] != ids["twin"]
    by_suite = {}
    for section in re.findall(r'<section id=".*?</section>', page, re.DOTALL):
        (suite,) = re.findall(r'<abbr title="([0-9a-f]{64})">suite ', section)
        by_suite[suite] = {mark for mark in ids.values() if f"#r-{mark}" in section}
        assert re.search(rf"<h2[^>]*>[^<]*\({suite[:6]}\) <small>", section), "their names are alike"
    wanted = {"here": {ids["jpeg"], ids["here"]}, "twin": {ids["twin"]}}
    assert by_suite == {runs[name].info.suite.hash: marks for name, marks in wanted.items()}
    # Samples: a run's block shows the originals that it was made from, though both suites and their items are alike.
    (own,) = [t for p in (tmp_path / "site" / "model").iterdir() if f"r-{ids['here']}" in (t := p.read_text())]
    for name, other in (("here", "twin"), ("twin", "here")):
        block = own.split(f'id="r-{ids[name]}"')[1].split('class="of-run"')[0]
        shown = [_shown_originals(block, runs[side]) for side in (name, other)]
        assert shown == [WORST, 0]


def _shown_originals(block: str, run: Run) -> int:
    """How many of the run's originals a block shows; the site names pictures by their bytes."""
    pictures = (run.path / "samples").glob("*.reference.png")
    return sum(hashlib.sha256(path.read_bytes()).hexdigest()[:20] in block for path in pictures)


def test_one_suite_keeps_its_plain_name_on_the_page(runs: dict[str, Run], tmp_path: Path) -> None:
    leaderboard.build([runs["jpeg"].path, runs["copied"].path], tmp_path / "site")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 3
    assert not [page.name for page in pages if re.search(r"suite \([0-9a-f]{6}\)", page.read_text())]
