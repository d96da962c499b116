"""Issue 8, cases 4, 5, 7 and 8, on every path that calls metrics: evaluate, score, score --set, generation, rescoring.

The metrics are a user's file, named as `file.py@name` on each path.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import BAD_ADAPTERS, cuts

import vtbench
from vtbench.images.views import View
from vtbench.metrics import inception
from vtbench.results.record import Run, Score, read_run
from vtbench.running import sets
from vtbench.running.rescore import add_metrics
from vtbench.scoring.fingerprint import fingerprint
from vtbench.types.errors import VtbenchError

METRICS = '''
import math
from vtbench.types.metric import ImageMetric, MetricCard, Value


class Level(ImageMetric):
    """The mean grey level; what happens at an image that is darker than all others is the metric's own."""

    def __init__(self, name, spoil):
        self.card, self.spoil = MetricCard(name, name, 1, "level", "higher", "test", paired=False), spoil

    def measure(self, batch):
        return [Value(self.spoil(float(image.double().mean()))) for image in batch.candidate]


def at_dark(answer):
    return lambda level: answer() if level < 25 else level


def raises():
    raise ZeroDivisionError("nothing to divide by")


METRICS = (
    lambda: Level("level", lambda level: level),
    lambda: Level("level-nan", at_dark(lambda: math.nan)),
    lambda: Level("level-inf", at_dark(lambda: math.inf)),
    lambda: Level("level-raises", at_dark(raises)),
)
'''
TASKS = """
from vtbench.types.task import Task

TASK = Task(name="{name}", version=1, title="Levels", suites=(), metrics=({metrics},), view="native",
            prompts={prompts})
"""
DARK = "01.png"
"""The image on which the metrics make their mistake; of those that are drawn it is the first of class 1."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metrics in a file, four originals of which one is dark, and their copies."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "levels.py").write_text(METRICS)
    cuts(folder / "images", 4, ((64, 64),))
    Image.new("RGB", (64, 64), (20, 20, 20)).save(folder / "images" / DARK)
    return folder


def spec(place: Path, *names: str) -> list[str]:
    return [f"{place / 'levels.py'}@{name}" for name in names]


def task(place: Path, *metrics: str, prompts: str = "()") -> str:
    """A task of a user's file; without prompts for tokenizers."""
    name = "-".join(["own", *(m.rpartition("@")[2] for m in metrics), *(["drawn"] if prompts != "()" else [])])
    file = place / f"{name.replace('-', '_')}.py"
    listed = ", ".join(repr(m) for m in metrics)
    file.write_text(TASKS.format(name=name, metrics=listed, prompts=prompts))
    return f"{file}@{name}"


Scores = dict[str, Score]


def by_evaluate(place: Path, out: Path, *names: str) -> Scores:
    run = vtbench.evaluate(
        f"{BAD_ADAPTERS}@right",
        images=place / "images",
        view="native",
        tasks=[task(place, *spec(place, *names))],
        out=out,
    )
    if run.failures:
        raise VtbenchError(next(iter(run.failures.values())), code=1)
    return {s.metric: s for s in run.runs[0].scores}


def by_score(place: Path, out: Path, *names: str) -> Scores:
    scored = vtbench.score(place / "images", place / "images", spec(place, *names))
    return {s.metric: s for s in scored.candidates[0].scores}


def by_set(place: Path, out: Path, *names: str) -> Scores:
    scored = sets.score(place / "images", [place / "images"], spec(place, *names))
    return {s.metric: s for s in scored.candidates[0].scores}


def generation(place: Path, out: Path, *metrics: str, **more: Any) -> Run:
    """Two images of each of two classes; the first of class 1 is darker than all others."""
    found = vtbench.evaluate(
        "ngram-kmeans",
        images=place / "images",
        tasks=[task(place, *metrics, prompts='("starter-classes",)')],
        options={"size": "64"},
        prompts="classes:2",
        per_prompt=2,
        out=out,
        **more,
    )
    if found.failures:
        raise VtbenchError(next(iter(found.failures.values())), code=1)
    return found.runs[0]


def by_generation(place: Path, out: Path, *names: str) -> Scores:
    return {s.metric: s for s in generation(place, out, *spec(place, *names)).scores}


def by_rescoring(place: Path, out: Path, *names: str) -> Scores:
    run = vtbench.evaluate(
        f"{BAD_ADAPTERS}@right",
        images=place / "images",
        view="native",
        tasks=["compression"],
        out=out,
        save=["images"],
    ).runs[0]
    return {s.metric: s for s in add_metrics(run.path, spec(place, *names)).scores}


PATHS: dict[str, Callable[..., Scores]] = {
    "evaluate": by_evaluate,
    "score": by_score,
    "set": by_set,
    "generation": by_generation,
    "rescoring": by_rescoring,
}
EVERY = pytest.mark.parametrize("path", PATHS)


def dark_one(path: str) -> str:
    return "class-0001/00000" if path == "generation" else DARK


@EVERY
def test_what_is_no_number_is_null_with_a_reason_on_every_path(place: Path, tmp_path: Path, path: str) -> None:
    scores = PATHS[path](place, tmp_path / "out", "level", "level-nan", "level-inf")
    whole = scores["level"]
    assert (whole.n, whole.missing) == (4, 0)
    for number in ("nan", "inf"):
        without = scores[f"level-{number}"]
        assert (without.n, without.missing) == (3, 1)
        assert without.details["missing"] == {f"level-{number} came out as {number}": 1}
        assert whole.value is not None
        assert without.value is not None
        assert whole.value < without.value, "the dark image counts where it has a value"


@EVERY
def test_a_metric_that_raises_is_named_with_its_image_on_every_path(place: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(VtbenchError) as caught:
        PATHS[path](place, tmp_path / "out", "level-raises")
    wanted = f"the metric level-raises raised ZeroDivisionError on {dark_one(path)}: nothing to divide by"
    assert str(caught.value) == wanted
    assert caught.value.code == 1
    records = [json.loads(p.read_text()) for p in (tmp_path / "out").glob("*/run.json")]
    if path in ("evaluate", "generation"):
        assert [(r["status"], r["failure"], r["ranked"]) for r in records] == [("failed", wanted, False)]
    if path == "rescoring":
        assert [(r["status"], "level-raises" in r["metrics"]) for r in records] == [("complete", False)]


@EVERY
def test_every_score_says_its_protocol_and_fingerprint_on_every_path(place: Path, tmp_path: Path, path: str) -> None:
    score = PATHS[path](place, tmp_path / "out", "level")["level"]
    assert score.protocol == ("native" if path in ("score", "set") else "vtbench")
    assert score.fingerprint is not None
    view = View.parse("native", score.protocol).fingerprint()
    paired = path in ("evaluate", "score", "rescoring")
    assert (score.fingerprint == fingerprint(view, "level", 1)) == paired
    assert int(score.fingerprint, 16) >= 0
    assert len(score.fingerprint) == 16


@pytest.fixture
def random_inception(seeded_inception: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={seeded_inception}")


@pytest.mark.usefixtures("random_inception")
def test_another_reference_is_another_fingerprint(place: Path, tmp_path: Path) -> None:
    """A set of the same name with other images is another; a copy elsewhere is the same."""
    here, copied, other = (tmp_path / n / "val" for n in ("here", "copied", "other"))
    for folder, n in ((here, 3), (copied, 3), (other, 4)):
        cuts(folder, n, ((64, 64),))
    digits = [
        sets.score(reference, [place / "images"], ["kid"]).candidates[0].scores[0].fingerprint
        for reference in (here, copied, other)
    ]
    assert digits[0] == digits[1] != digits[2]


def test_another_file_of_metric_weights_is_another_question(
    place: Path, tmp_path: Path, seeded_inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number made with weights of a user's own must not come back when they are no longer given."""
    folders = []
    torch.save(inception.random_state(1), tmp_path / "other.pth")
    for weights in (seeded_inception, tmp_path / "other.pth"):
        monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={weights}")
        folders.append(generation(place, tmp_path / "out", "kid"))
    assert folders[0].path != folders[1].path
    assert folders[0].score("kid") != folders[1].score("kid")
    assert not any(run.info.ranked for run in folders)


@pytest.mark.usefixtures("random_inception")
def test_a_generation_run_is_rescored_from_the_images_that_it_holds(place: Path, tmp_path: Path) -> None:
    run = generation(place, tmp_path / "out", *spec(place, "level"))
    before = [row.as_dict() for row in run.rows()]
    added = add_metrics(run.path, [*spec(place, "level-nan"), "kid", "psnr"])
    direct = generation(place, tmp_path / "direct", *spec(place, "level", "level-nan"), "kid")
    for metric in ("level-nan", "kid"):
        ours, theirs = (run.score(metric) for run in (added, direct))
        assert ours is not None
        assert theirs is not None
        assert {**ours.as_dict(), "task": None} == {**theirs.as_dict(), "task": None}
    rows = [row.as_dict() for row in added.rows()]
    assert [row["item"] for row in rows] == [row["item"] for row in before]
    for row, earlier in zip(rows, before, strict=True):
        assert earlier["values"].items() <= row["values"].items()
        assert {k: row[k] for k in ("seed", "label", "cost", "seconds", "sha256")} == {
            k: earlier[k] for k in ("seed", "label", "cost", "seconds", "sha256")
        }
    assert [r["values"].get("level-nan") for r in rows] == [
        None if r["item"] == "class-0001/00000" else r["values"]["level"] for r in rows
    ]
    assert added.info.added == ["kid", "level-nan", "psnr"]
    assert added.score("nfe") == run.score("nfe"), "costs are the run's own"
    psnr = added.score("psnr")
    assert psnr is not None
    assert (psnr.value, "drawn images have none" in (psnr.why or "")) == (None, True)
    assert read_run(run.path).info.prompts is not None


def test_a_drawn_image_that_changed_is_refused_by_name(place: Path, tmp_path: Path) -> None:
    run = generation(place, tmp_path / "out", *spec(place, "level"))
    image = run.path / "generated" / "images" / "class-0001" / "00001.png"
    Image.new("RGB", (64, 64)).save(image)
    with pytest.raises(VtbenchError, match=r"00001\.png is not the image that was drawn \(sha256 differs\)"):
        add_metrics(run.path, spec(place, "level-nan"))
    image.unlink()
    with pytest.raises(VtbenchError, match=r"00001\.png is not the image that was drawn"):
        add_metrics(run.path, spec(place, "level-nan"))
    assert "level-nan" not in read_run(run.path).info.metrics
