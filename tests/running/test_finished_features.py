"""What a finished run keeps of its features: moments where they are the smaller, all of a shard's; and what drawn
images are compared with.

Truth is a fresh folder with a fresh cache, and numpy on what lies in the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_features
from feature_places import Place, numbers

import vtbench
from vtbench.metrics import moments
from vtbench.metrics.frechet import distance
from vtbench.results.record import Run, read_run
from vtbench.running.merge import merge


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One whose moments take less than its features; one of drawn images."""
    folder = tmp_path_factory.mktemp("tasks")
    tags: dict[str, dict[str, Any]] = {"few": {"dim": 6}, "pictured": {"dim": 3, "prompts": "classes:2"}}
    return {tag: tiny_features.task(folder, tag=tag, **choices) for tag, choices in tags.items()}


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: dict[str, str]) -> Place:
    """Enough images of few enough values that moments are the smaller."""
    return Place(tmp_path, monkeypatch, tasks["few"], images=32)


def names_in(run: Run) -> list[str]:
    return sorted(p.name for p in (run.path / "features").iterdir())


def test_a_finished_run_keeps_moments_and_numbers_are_the_same(long: Place) -> None:
    whole = long.jpeg(20, "whole", save=["features"])
    reduced = long.jpeg(20, "reduced")
    assert numbers(whole) == numbers(reduced)
    base = "quadrants_1"
    assert names_in(whole) == [f"{base}{s}" for s in (".f32", ".f32.crc", ".reference.f32", ".reference.f32.crc")]
    assert names_in(reduced) == [f"{base}.npz", f"{base}.reference.npz"]
    sides = [moments.load(reduced.path / "features" / name) for name in names_in(reduced)]
    assert [(s.n, s.extractor) for s in sides] == [(32, "quadrants/1")] * 2
    assert distance(*sides) == pytest.approx(numbers(whole)["fid"][0], rel=1e-9, abs=1e-9)
    bare = np.fromfile(whole.path / "features" / f"{base}.f32", "<f4").reshape(32, 6)
    np.testing.assert_allclose(sides[0].covariance, np.cov(bare.astype(np.float64).T), rtol=1e-9, atol=1e-9)
    assert sum(p.stat().st_size for p in (reduced.path / "features").iterdir()) < 2 * 8 * (6 + 36) + 2500


def test_a_reduced_limited_run_that_goes_on_begins_anew(long: Place) -> None:
    limited = long.jpeg(20, "out", limit=28)
    assert names_in(limited) == ["quadrants_1.npz", "quadrants_1.reference.npz"]
    whole = long.jpeg(20, "out")
    assert whole.path == limited.path
    assert "28 images that were finished went through the model once more" in whole.info.notes[0]
    assert numbers(whole) == long.fresh(20)
    # And a small one goes on from what it kept.
    small = long.jpeg(60, "out", limit=5)
    assert names_in(small)[0].endswith(".f32")
    assert long.jpeg(60, "out").info.notes == []


@pytest.mark.parametrize("save", [(), ("features",)])
def test_shards_keep_features_until_they_are_merged(long: Place, save: tuple[str, ...]) -> None:
    wanted = long.fresh(20)
    for part in (1, 2, 3):
        run = long.jpeg(20, "shards", shard=(part, 3), save=list(save))
        assert names_in(run)[0].endswith(".f32")
    (merged,) = merge([long.folder / "shards"], long.folder / "merged")
    joined = read_run(merged)
    assert numbers(joined) == wanted
    assert [n.rpartition(".")[2] for n in names_in(joined)] == (["npz"] * 2 if not save else ["f32", "crc"] * 2)


def test_a_damaged_shard_is_not_merged(long: Place) -> None:
    for part in (1, 2):
        run = long.jpeg(20, "shards", shard=(part, 2))
    path = run.path / "features" / "quadrants_1.f32"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(vtbench.VtbenchError, match=r"quadrants_1\.f32 is damaged: run shard 2 again"):
        merge([long.folder / "shards"], long.folder / "merged")


def test_shards_of_an_older_vtbench_have_no_sums_and_merge(long: Place) -> None:
    wanted = long.fresh(20)
    for part in (1, 2):
        run = long.jpeg(20, "shards", shard=(part, 2))
        for path in (run.path / "features").glob("*.crc"):
            path.unlink()
    (merged,) = merge([long.folder / "shards"], long.folder / "merged")
    assert numbers(read_run(merged)) == wanted


def test_images_that_fail_are_not_in_the_moments(long: Place) -> None:
    (long.images / "03.png").write_bytes(b"no picture")
    run = long.jpeg(20, "out")
    assert (run.info.status, numbers(run)["fid"][3]) == ("incomplete", 31)
    side = moments.load(run.path / "features" / "quadrants_1.npz")
    assert side.n == 31
    assert not long.kept, "features of a suite that cannot all be read are no whole"


def test_a_generators_reference_is_never_of_another_run(long: Place, tasks: dict[str, str]) -> None:
    """Its references are computed for it: what the cache holds, or another limit left, moves nothing."""

    def drawn(out: str) -> Run:
        choices: dict[str, Any] = {
            "tasks": [tasks["pictured"]],
            "view": "64",
            "options": {"size": "64"},
            "per_prompt": 6,
        }
        (run,) = vtbench.evaluate("ngram-kmeans", images=long.images, out=long.folder / out, **choices).runs
        return run

    long.use_cache("empty")
    first = drawn("first")
    long.use_cache("cache")
    long.jpeg(20, "out", limit=6)
    long.jpeg(80, "out")
    for path in long.kept:
        path.write_bytes(bytes(path.stat().st_size))
    second = drawn("second")
    assert numbers(first) == numbers(second)
    assert numbers(first)["fid"][0] > 0
    # Twelve images of three values each: moments are the smaller.
    assert names_in(second) == ["quadrants_1.npz"]
    assert moments.load(second.path / "features" / "quadrants_1.npz").n == 12
