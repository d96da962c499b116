"""Features in the cache and in a run's folder: what is kept, what is trusted again, what it takes of a disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vtbench.metrics import moments
from vtbench.results.stores import FeatureFile
from vtbench.scoring.feature_cache import HEAD, Originals, keep, known, place
from vtbench.scoring.features import DiskUse, FeaturePlace, bytes_of_moments
from vtbench.types.metric import Extractor

IMAGES = [f"{i:064x}" for i in range(5)]
ORIGINALS = Originals("a suite", "a view", 0, 5, 4, "cpu")


class Net(Extractor):
    id, dim = "net/of 3", 3

    def load(self, device: str = "cpu") -> None: ...

    def extract(self, images: object) -> np.ndarray:
        raise AssertionError("nothing is computed here")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path


def records(path: Path, rows: int = 5, *, bad: float | None = None) -> FeatureFile:
    file, values = FeatureFile(path, 3), np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    if bad is not None:
        values[2, 1] = bad
    path.parent.mkdir(parents=True, exist_ok=True)
    file.append(values)
    return file


def test_what_is_kept_is_known_again_row_by_row(tmp_path: Path) -> None:
    file = records(tmp_path / "run.f32")
    keep(ORIGINALS, Net(), IMAGES, file)
    said: list[str] = []
    kept = known(ORIGINALS, {"net": Net()}, said.append)["net"]
    assert said == []
    assert kept.images == IMAGES
    assert np.array_equal(kept.records, file.read())
    rows = kept.of([3, 1], [IMAGES[3], IMAGES[1]])
    assert rows is not None
    assert rows.tolist() == [[9.0, 10.0, 11.0], [3.0, 4.0, 5.0]]
    assert kept.of([3], [IMAGES[1]]) is None
    assert kept.of([5], [IMAGES[4]]) is None
    key = ORIGINALS.key(Net())
    assert key is not None
    # Records begin where a memory map of float32 may: behind a padded line and whole digests.
    line = place(key).read_bytes().split(b"\n", 1)[0] + b"\n"
    assert len(line) % HEAD == 0
    assert json.loads(line)["n"] == 5
    assert sorted(p.name for p in place(key).parent.iterdir()) == [place(key).name]


@pytest.mark.parametrize(
    "other",
    [
        Originals("b", "a view", 0, 5, 4, "cpu"),
        Originals("a suite", "b", 0, 5, 4, "cpu"),
        Originals("a suite", "a view", 1, 5, 4, "cpu"),
        Originals("a suite", "a view", 0, 4, 4, "cpu"),
        Originals("a suite", "a view", 0, 5, 2, "cpu"),
        Originals("a suite", "a view", 0, 5, 4, "cuda"),
    ],
)
def test_features_are_known_only_for_what_they_are_of(tmp_path: Path, other: Originals) -> None:
    keep(ORIGINALS, Net(), IMAGES, records(tmp_path / "run.f32"))
    assert known(other, {"net": Net()}, print) == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_could_not_be_trusted_is_not_kept(tmp_path: Path, bad: float) -> None:
    """NaN, a missing image, too few records: nothing is written, and nothing is known."""
    keep(ORIGINALS, Net(), IMAGES, records(tmp_path / "nan.f32", bad=bad))
    keep(ORIGINALS, Net(), [*IMAGES[:4], None], records(tmp_path / "gone.f32"))
    keep(ORIGINALS, Net(), [*IMAGES[:4], "00"], records(tmp_path / "short.f32"))
    keep(ORIGINALS, Net(), IMAGES[:4], records(tmp_path / "hashes.f32"))
    keep(ORIGINALS, Net(), IMAGES, records(tmp_path / "few.f32", rows=4))
    assert known(ORIGINALS, {"net": Net()}, print) == {}


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda b: b[:-1], "bytes of"),
        (lambda b: b + b"\0", "bytes of"),
        (lambda b: b[:-1] + b"\xff", "its sha256 differs"),
        (lambda b: b.replace(b'"dim": 3', b'"dim": 4'), "of other images or of another network"),
        (lambda b: b"no JSON\n", "does not begin as such a file"),
        (lambda b: b"[]\n", "does not begin as such a file"),
    ],
)
def test_a_damaged_file_is_named_and_made_anew(tmp_path: Path, damage: object, why: str) -> None:
    file = records(tmp_path / "run.f32")
    keep(ORIGINALS, Net(), IMAGES, file)
    path = place(ORIGINALS.key(Net()) or "")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    said: list[str] = []
    assert known(ORIGINALS, {"net": Net()}, said.append) == {}
    assert why in said[0]
    assert str(path) in said[0]
    keep(ORIGINALS, Net(), IMAGES, file)
    assert list(known(ORIGINALS, {"net": Net()}, said.append)) == ["net"]


def test_a_runs_two_sides_lie_apart_and_its_moments_take_the_place_of_many_features(tmp_path: Path) -> None:
    """Three values: their moments take 96 bytes, as much as six records with their sums."""
    folder = FeaturePlace(tmp_path)
    for rows, moments_stay in ((1, False), (6, False), (7, True)):
        sides = folder.candidate(Net()), folder.reference(Net())
        assert [s.path.name for s in sides] == ["net_of_3.f32", "net_of_3.reference.f32"]
        assert [s.path.parent.name for s in sides] == ["features"] * 2
        values = [records(side.path, rows).read().astype(np.float64) for side in sides]
        assert folder.trouble({"net": Net()}, rows) is None
        assert "holds" in (folder.trouble({"net": Net()}, rows + 1) or "")
        folder.reduce({"net": Net()})
        for side, of_side in zip(sides, values, strict=True):
            assert (len(side) == 0) == moments_stay
            if moments_stay:
                saved = moments.load(side.path.with_suffix(".npz"))
                assert saved.mean == pytest.approx(of_side.mean(axis=0))
                assert saved.covariance == pytest.approx(np.cov(of_side, rowvar=False))
            side.remove()


def test_moments_are_of_the_images_that_were_scored(tmp_path: Path) -> None:
    """One image alone has no covariance: its features stay, however large the file."""
    folder = FeaturePlace(tmp_path)
    values = records(folder.candidate(Net()).path, 9).read().astype(np.float64)
    records(folder.reference(Net()).path, 9)
    folder.reduce({"net": Net()}, [4])
    assert len(folder.candidate(Net())) == len(folder.reference(Net())) == 9
    folder.reduce({"net": Net()}, [0, 4, 5])
    saved = moments.load(folder.candidate(Net()).path.with_suffix(".npz"))
    assert (saved.n, saved.extractor) == (3, "net/of 3")
    assert saved.mean == pytest.approx(values[[0, 4, 5]].mean(axis=0))


def test_disk_use_is_what_the_files_will_take(tmp_path: Path) -> None:
    """A record of three float32 and its sum: 16 bytes. Mean and covariance in float64: 12 numbers."""
    both = {"net": Net(), "other": Net()}
    assert bytes_of_moments(Net()) == 96
    assert len(records(tmp_path / "a.f32", 7).path.read_bytes()) + len((tmp_path / "a.f32.crc").read_bytes()) == 7 * 16
    assert DiskUse.of(both, 7) == DiskUse(running=4 * 112, finished=4 * 96, cache=0)
    assert DiskUse.of(both, 5, sides=1) == DiskUse(running=2 * 80, finished=2 * 80, cache=0)
    assert DiskUse.of(both, 7, kept=True, fresh=1) == DiskUse(running=4 * 112, finished=4 * 112, cache=112)
    assert DiskUse.passing(both, 7) == DiskUse(running=2 * 112, finished=0, cache=0)
    assert "nothing afterwards" in DiskUse.passing(both, 7).sentence(tmp_path)
    assert "only" in DiskUse(1 << 60, 0, 0).sentence(tmp_path)
    assert "112 bytes in the cache" in DiskUse.of(both, 7, fresh=1).sentence(tmp_path)
