"""Reference features: which are used is decided by content. A limit, a kill, a twin, a damaged cache move no number.

What a finished run keeps of its features is in `test_finished_features.py`.
Truth is a fresh folder with a fresh cache, and numpy on the pictures themselves.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_features
from feature_places import Place, numbers
from PIL import Image
from support import command, cuts
from tiny_features import NAMES

import vtbench
from vtbench.results.record import Run
from vtbench.running import sets
from vtbench.scoring import measure


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One whose features take less than their moments; one whose moments take less; one of louder features."""
    folder = tmp_path_factory.mktemp("tasks")
    tags: dict[str, dict[str, Any]] = {
        "quad": {},
        "short": {"dim": 6},
        "loud": {"scale": 2.0},
    }
    return {tag: tiny_features.task(folder, tag=tag, **choices) for tag, choices in tags.items()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: dict[str, str]) -> Place:
    return Place(tmp_path, monkeypatch, tasks["quad"])


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images each call of a feature network was given."""
    counts: list[int] = []
    real = measure.extract

    def counting(extractor: Any, images: Any, items: Any) -> Any:
        counts.append(len(items))
        return real(extractor, images, items)

    monkeypatch.setattr(measure, "extract", counting)
    return iter([counts])  # type: ignore[list-item]


def killed_after(run: Run, rows: int) -> None:
    """The folder as a kill leaves it: rows and features of whole batches, and a torn line."""
    lines = (run.path / "rows.jsonl").read_text().splitlines(keepends=True)
    (run.path / "rows.jsonl").write_text("".join(lines[:rows]) + '{"item": "to')
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "status": "running"}))
    (run.path / "scores.jsonl").unlink()
    for file in (run.path / "features").glob("*.f32"):
        record = file.stat().st_size // len(lines)
        os.truncate(file, record * rows + record // 2)
        os.truncate(f"{file}.crc", 4 * rows)


# -- a limit, another model, the same again --------------------------------------------------------------------------


def test_a_limited_run_that_goes_on_after_another_model_has_a_fresh_folders_numbers(place: Place) -> None:
    place.jpeg(20, "out", limit=6)
    other = place.jpeg(80, "out")
    third = place.jpeg(20, "out")
    assert numbers(third) == place.fresh(20)
    assert numbers(other) == place.fresh(80)
    pixels = np.stack([np.asarray(Image.open(p)) for p in sorted(place.images.iterdir())])
    kept = place.jpeg(20, "pictures", save=["images"])
    pictures = np.stack([np.asarray(Image.open(p)) for p in sorted((kept.path / "images").iterdir())])
    wanted = tiny_features.frechet_by_numpy(*map(tiny_features.features, (pixels, pictures)))
    # Features are float32: 1e-7 of a mean level of 100, squared differences of it.
    assert numbers(third)["fid"][0] == pytest.approx(wanted, rel=1e-3)
    assert numbers(third)["fid"][3] == 24


@pytest.mark.parametrize("order", [(6, 10, 24), (10, 6, 24), (24, 6, 24), (5, None, 13)])
def test_limits_in_any_order_move_nothing(place: Place, order: tuple[int | None, ...]) -> None:
    for turn, limit in enumerate(order):
        run = place.jpeg(20 + 30 * (turn % 2), f"out-{turn}", limit=limit)
        assert numbers(run) == place.fresh(20 + 30 * (turn % 2), limit=limit)


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("rows", [4, 8, 24])
def test_a_kill_and_a_resume_move_nothing(place: Place, rows: int, other: bool) -> None:
    first = place.jpeg(20, "out")
    wanted = numbers(first)
    killed_after(first, rows)
    shutil.rmtree(place.cache)
    if other:
        # Another model fills the cache meanwhile.
        place.jpeg(80, "out")
    again = place.jpeg(20, "out")
    assert again.path == first.path
    assert numbers(again) == wanted == place.fresh(20)
    assert again.info.notes == []


@pytest.mark.parametrize("spoil", ["zeroed", "cut", "sums", "removed"])
def test_features_of_finished_images_that_are_not_as_written_are_made_anew(place: Place, spoil: str) -> None:
    first = place.jpeg(20, "out")
    wanted = numbers(first)
    killed_after(first, 8)
    (file,) = (first.path / "features").glob("*.reference.f32")
    if spoil == "zeroed":
        file.write_bytes(bytes(file.stat().st_size))
    elif spoil == "cut":
        os.truncate(file, file.stat().st_size // 3)
    elif spoil == "sums":
        os.truncate(f"{file}.crc", 5)
    else:
        file.unlink()
    again = place.jpeg(20, "out")
    assert numbers(again) == wanted
    assert "went through the model once more" in again.info.notes[0]


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_the_next_model_takes_the_originals_from_the_cache(place: Place, extracted: Any) -> None:
    (counts,) = extracted
    place.jpeg(20, "out")
    assert sum(counts) == 48
    counts.clear()
    run = place.jpeg(80, "out")
    assert sum(counts) == 24, "the candidates only"
    assert numbers(run) == place.fresh(80)


def of_another_version(path: Path) -> None:
    """An older vtbench kept bare records."""
    path.write_bytes(np.zeros((24, 12), "<f4").tobytes())


def half_changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-40:-36] = np.float32(np.nan).tobytes()
    path.write_bytes(bytes(data))


def of_a_twin(path: Path) -> None:
    """A whole file of other images under this one's name."""
    others = [p for p in path.parent.iterdir() if p != path]
    path.write_bytes(others[0].read_bytes())


def in_place_of_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "zeroed": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-100]),
    "cut in its head": lambda p: p.write_bytes(p.read_bytes()[:20]),
    "empty": lambda p: p.write_bytes(b""),
    "longer": lambda p: p.write_bytes(p.read_bytes() + bytes(48)),
    "not a number": half_changed,
    "swapped": of_a_twin,
    "text": lambda p: p.write_text("[1, 2, 3]\n"),
    "deep": lambda p: p.write_text("[" * 100_000),
    "bare records": of_another_version,
    "a folder": in_place_of_a_folder,
    "a dangling link": lambda p: (p.unlink(), p.symlink_to(p.parent / "nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_the_cache_is_made_anew_with_a_word(place: Place, damage: str) -> None:
    wanted = place.fresh(80)
    # Two entries, so that one can lie under the other's name.
    place.jpeg(20, "twin", images=cuts(place.folder / "twin", 20, ((64, 64),)))
    first = {*place.kept}
    place.jpeg(20, "out")
    (path,) = {*place.kept} - first
    DAMAGES[damage](path)
    run = place.jpeg(80, "out")
    assert numbers(run) == wanted
    if damage == "a dangling link":
        # A name that leads nowhere is no file: nothing to distrust.
        assert path.is_file()
        return
    (note,) = run.info.notes
    assert "cannot be trusted" in note
    assert path.name in note
    if damage != "a folder":
        healed = place.jpeg(50, "out")
        assert healed.info.notes == []
        assert numbers(healed) == place.fresh(50)


def test_a_damaged_cache_is_said_on_the_command_line(place: Place) -> None:
    place.jpeg(20, "out")
    (path,) = place.kept
    path.write_bytes(bytes(path.stat().st_size))
    words = ("evaluate", "jpeg", "-o", "quality=80", "--images", place.images, "--view", "native", "--task", place.task)
    code, out, err = command(*words, "--out", place.folder / "out")
    assert code == 0
    assert "cannot be trusted" in err
    assert "features take" in err
    assert "quad-fid" in out
    # What the features of pairs and of sets take is said before they begin, too: 48 of 12 values and a sum.
    for more in ((), ("--set",)):
        code, _, err = command("score", place.images, place.images, "--metrics", "quad-fid", *more)
        assert code == 0
        assert "features take 2.5 kB in " in err
        assert "while it runs and nothing afterwards" in err


def test_another_network_of_the_same_name_is_another_key(place: Place, tasks: dict[str, str], extracted: Any) -> None:
    """A network whose code is not that of the one whose features were kept, though it calls itself the same."""
    (counts,) = extracted
    place.jpeg(20, "out")
    counts.clear()
    for number, name in enumerate(("loud", "short"), 2):
        place.task = tasks[name]
        run = place.jpeg(20, "out")
        assert sum(counts) == 48
        assert len(place.kept) == number
        assert numbers(run) == place.fresh(20)
        counts.clear()


# -- identity is content -----------------------------------------------------------------------------------------------


def test_copies_with_other_times_share_and_twins_with_the_same_times_do_not(place: Place, extracted: Any) -> None:
    (counts,) = extracted
    stamp = 1_700_000_000
    here, twin = (place.folder / name / "suite" for name in ("here", "twin"))
    for folder, shift in ((here, 0), (twin, 7)):
        folder.mkdir(parents=True)
        for number in range(6):
            level = np.full((64, 64, 3), 20 * number + shift, np.uint8)
            level[:32, : 8 * number] += 40
            Image.fromarray(level).save(folder / f"{number}.bmp")
            os.utime(folder / f"{number}.bmp", (stamp, stamp))
    facts = [[(p.name, p.stat().st_size, p.stat().st_mtime) for p in sorted(f.iterdir())] for f in (here, twin)]
    assert facts[0] == facts[1]
    elsewhere = Path(shutil.copytree(here, place.folder / "copied" / "elsewhere"))
    for path in elsewhere.iterdir():
        os.utime(path, (stamp + 50, stamp + 50))
    one = place.jpeg(20, "out", images=here)
    counts.clear()
    copied = place.jpeg(50, "out", images=elsewhere)
    assert sum(counts) == 6, "a copy takes the originals from the cache"
    counts.clear()
    other = place.jpeg(20, "out", images=twin)
    assert sum(counts) == 12, "a twin makes its own"
    assert one.path != other.path
    assert numbers(copied) == place.fresh(50, images=here)
    assert numbers(other) == place.fresh(20, images=twin)
    assert numbers(other) != numbers(one)


def test_other_paths_leave_the_cache_alone_and_are_not_touched_by_it(place: Place) -> None:
    """score, score --set and generation make both sides themselves: a cache full of others, and damaged, is nothing."""
    run = place.jpeg(20, "out", save=["images"])
    metrics = [f"quad-{name}" for name in NAMES]
    twin = cuts(place.folder / "twin", 24, ((64, 64),))
    Image.new("RGB", (64, 64), (255, 0, 0)).save(twin / "00.png")

    def everywhere() -> list[Any]:
        pairs = vtbench.score(place.images, [run.path / "images"], metrics).candidates[0].scores
        against = sets.score(twin, [run.path / "images"], metrics).candidates[0].scores
        return [{s.metric: (s.value, s.n) for s in scores} for scores in (pairs, against)]

    before = everywhere()
    assert before[0]["quad-fid"][0] == pytest.approx(numbers(run)["fid"][0], rel=1e-6)
    place.jpeg(80, "out", limit=6)
    for path in place.kept:
        path.write_bytes(bytes(100))
    assert everywhere() == before


def test_sides_of_different_size_have_no_number(place: Place) -> None:
    """A row too few on one side, which no path should ever leave: null with the reason, never a number of two sets."""
    from vtbench import registry
    from vtbench.scoring.features import FeaturePlace
    from vtbench.scoring.loading import Metrics
    from vtbench.scoring.scores import Asked, Tally, scores_of

    run = place.jpeg(20, "out")
    metric: Any = registry.metric("quad-fid")
    features = FeaturePlace(run.path)
    os.truncate(features.reference(metric.extractor()).path, 23 * 48)
    metrics = Metrics(("quad-fid",), {"quad-fid": metric})
    seen = Tally({}, n=24, good=list(range(24)))
    (score,) = scores_of(Asked("t", metrics, "vtbench", "v"), lambda: iter(()), seen, sides=features.sides).scores
    assert score.value is None
    assert "23 originals and 24 candidates have features, of 24 images" in str(score.why)


# -- with the network of rFID ------------------------------------------------------------------------------------------


def test_three_commands_with_a_seeded_inception(
    tmp_path: Path, seeded_inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={seeded_inception}")
    file = tmp_path / "only_rfid.py"
    file.write_text(
        "from vtbench import Task\n"
        "TASK = Task(name='only', title='', version=1, suites=(), view='native', metrics=('rfid',))\n"
    )
    place = Place(tmp_path, monkeypatch, f"{file}@only", images=8)
    place.jpeg(20, "out", limit=3)
    place.jpeg(80, "out")
    third = place.jpeg(20, "out")
    assert third.info.n == 8
    (path,) = [p for p in place.kept if p.stat().st_size > 4 * 2048 * 8]
    path.write_bytes(bytes(path.stat().st_size))
    assert numbers(third) == place.fresh(20)
