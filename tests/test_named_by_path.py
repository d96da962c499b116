"""Metrics and tasks that stand outside the tree: in a file named by path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from outside_the_tree import PORTRAITS, ROOT, WORST_PIXEL, python, vtbench
from PIL import Image

MEAN_COLOUR = """
from vtbench.types.metric import Extractor, MetricCard, SetMetric, SetValue


class Means(Extractor):
    id, dim = "mean colour", 3

    def load(self, device="cpu"):
        pass

    def extract(self, images):
        return images.float().mean(dim=(2, 3)).cpu().numpy()


class MeanColour(SetMetric):
    card = MetricCard(
        name="mean-colour", title="Distance of mean colours", version=1, unit="grey levels", better="lower",
        source="Euclidean distance of the sets' mean colours", kind="set", paired=False,
    )

    def extractor(self):
        return Means()

    def finish(self, reference, candidate):
        return SetValue(float(((reference.mean(0) - candidate.mean(0)) ** 2).sum() ** 0.5))


METRICS = (MeanColour,)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody's folder: a metric, and a task that names it as the file beside itself."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "worst_pixel.py").write_text(WORST_PIXEL)
    (mine / "portraits.py").write_text(PORTRAITS)
    return mine


def test_score_takes_a_metric_from_a_file(folder: Path, tmp_path: Path) -> None:
    """Recorded by the name on its card, beside a metric of vtbench's own; and what it says is what the pixels say."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 200, (2, 16, 16, 3), dtype=np.uint8)
    second = first.copy()
    second[0, 3, 4, 1] += 7
    second[1, 0, 0, 2] += 55
    for name, images in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        for k, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{k}.png")
    spec = f"psnr,{folder.name}/worst_pixel.py@worst-pixel"
    vtbench("score", "a", "b", "--metrics", spec, "--json-file", "scores.json", cwd=tmp_path)
    text = (tmp_path / "scores.json").read_text()
    (candidate,) = json.loads(text)["candidates"]
    assert candidate["scores"]["worst-pixel"]["value"] == (7 + 55) / 2
    assert candidate["scores"]["psnr"]["value"] > 20
    assert "worst_pixel.py" not in text


def test_evaluate_takes_a_task_from_a_file_that_names_a_metric_in_a_file(folder: Path, tmp_path: Path) -> None:
    """The metric's file is looked for beside the task's, wherever the command is given."""
    spec = f"{folder}/portraits.py@portraits"
    vtbench("evaluate", "png", "--task", spec, "--limit", "1", "--out", "out", cwd=tmp_path)
    (place,) = (tmp_path / "out").glob("*/run.json")
    info = json.loads(place.read_text())
    assert info["task"] == {"name": "portraits", "version": 1, "title": "Faces at 256", "fit": "resize"}
    assert list(info["metrics"]) == ["psnr", "worst-pixel", "bpp"]
    scores = {s["metric"]: s["value"] for s in map(json.loads, (place.parent / "scores.jsonl").open())}
    assert scores["worst-pixel"] == 0
    assert scores["bpp"] > 1


def test_a_number_of_a_task_or_metric_from_outside_is_not_ranked(folder: Path, tmp_path: Path) -> None:
    code = f"""
import json, vtbench
run = vtbench.evaluate("png", tasks=[{str(folder / "portraits.py")!r} + "@portraits"], out={str(tmp_path)!r}).runs[0]
print(json.dumps([run.info["ranked"], run.info["why_not_ranked"]]))
"""
    ranked, why = json.loads(python(code, tmp_path).splitlines()[-1])
    assert not ranked
    assert "the task portraits is not vtbench's own" in why
    assert "the metric worst-pixel is not vtbench's own" in why


def test_a_finished_run_takes_a_metric_from_a_file(folder: Path, tmp_path: Path) -> None:
    """Also where its task was named by path: the run is scored anew in a process that has not read the task."""
    spec = f"{folder}/portraits.py@portraits"
    (folder / "other.py").write_text(WORST_PIXEL.replace("worst-pixel", "other-pixel").replace("amax", "amin"))
    vtbench("evaluate", "png", "--task", spec, "--limit", "1", "--save", "images", "--out", "out", cwd=tmp_path)
    (place,) = (tmp_path / "out").glob("*/run.json")
    vtbench("score", place.parent, "--metrics", f"{folder}/other.py@other-pixel", cwd=tmp_path)
    scores = {s["metric"]: s["value"] for s in map(json.loads, (place.parent / "scores.jsonl").open())}
    assert scores["other-pixel"] == 0


def test_sets_and_statistics_take_a_metric_from_a_file(folder: Path, tmp_path: Path) -> None:
    """One colour an image: (100 +- 10, 50, 0) beside (103 +- 10, 54, 0) is 5 apart, and its variance is known."""
    (folder / "mean_colour.py").write_text(MEAN_COLOUR)
    for name, red, green in (("a", 100, 50), ("b", 103, 54)):
        (tmp_path / name).mkdir()
        for k, off in enumerate((-10, 10)):
            Image.new("RGB", (8, 8), (red + off, green, 0)).save(tmp_path / name / f"{k}.png")
    spec = f"{folder.name}/mean_colour.py@mean-colour"
    vtbench("score", "a", "b", "--set", "--metrics", spec, "--json-file", "scores.json", cwd=tmp_path)
    (candidate,) = json.loads((tmp_path / "scores.json").read_text())["candidates"]
    assert candidate["scores"]["mean-colour"]["value"] == pytest.approx(5)
    vtbench("statistics", "a", "--out", "a.npz", "--metric", spec, cwd=tmp_path)
    with np.load(tmp_path / "a.npz") as saved:
        np.testing.assert_allclose(saved["mu"], [100, 50, 0])
        np.testing.assert_allclose(saved["sigma"], np.diag([200, 0, 0]), atol=1e-9)


def test_compare_takes_a_metric_by_its_name_and_by_its_file(folder: Path, tmp_path: Path) -> None:
    spec = f"{folder}/portraits.py@portraits"
    vtbench("evaluate", "png", "jpeg", "--task", spec, "--limit", "2", "--out", "out", cwd=tmp_path)
    runs = sorted((tmp_path / "out").glob("*--portraits--*"))
    assert len(runs) == 2
    tables = [
        vtbench("compare", *runs, "--metrics", name, cwd=tmp_path).stdout
        for name in ("worst-pixel", f"{folder.name}/worst_pixel.py@worst-pixel")
    ]
    assert tables[0] == tables[1]
    assert "worst-pixel: jpeg - png = +" in tables[0]
    assert "psnr" not in tables[0]
    refusal = vtbench("compare", *runs, "--metrics", "nowhere.py@worst-pixel", cwd=tmp_path, wanted=2).stderr
    assert "nowhere.py does not exist" in refusal


def test_what_was_named_by_path_is_neither_listed_nor_a_default(folder: Path, tmp_path: Path) -> None:
    code = f"""
from vtbench import registry
registry.tasks().get({str(folder / "portraits.py")!r} + "@portraits")
assert registry.tasks().get("portraits").metrics == ("psnr", "worst-pixel", "bpp")
assert registry.metric("worst-pixel").card.name == "worst-pixel"
assert "portraits" not in list(registry.tasks()) and "worst-pixel" not in list(registry.metrics())
assert "portraits" not in [t.name for t in registry.default_tasks(images_given=False, generators=False)]
assert registry.tasks().get({str(folder / "portraits.py")!r} + "@portraits") is registry.tasks().get("portraits")
print(registry.metrics().source("worst-pixel").file)
"""
    assert python(code, tmp_path).strip() == str((folder / "worst_pixel.py").resolve())


@pytest.mark.parametrize(
    ("kind", "file", "text", "name", "sentence"),
    [
        (
            "metrics",
            "psnr2.py",
            WORST_PIXEL.replace("worst-pixel", "psnr"),
            "psnr",
            "the metric 'psnr' is given by both vtbench.metrics.psnr and psnr2.py: rename one of them",
        ),
        (
            "tasks",
            "text2.py",
            PORTRAITS.replace("portraits", "text"),
            "text",
            "the task 'text' is given by both vtbench.tasks.text and text2.py: rename one of them",
        ),
        (
            "metrics",
            "twice.py",
            WORST_PIXEL.replace("(WorstPixel,)", "(WorstPixel, WorstPixel)"),
            "worst-pixel",
            "twice.py defines the metric 'worst-pixel' twice: rename one of them",
        ),
        ("metrics", "worst_pixel.py", WORST_PIXEL, "worst", "has no metric 'worst'; it has worst-pixel"),
        ("tasks", "portraits.py", PORTRAITS, "faces", "has no task 'faces'; it has portraits"),
        ("metrics", "empty.py", "", "a", "empty.py defines no METRICS: see CONTRIBUTING.md, add a metric"),
        ("tasks", "empty.py", "TASK = 3", "a", "empty.py defines no TASK: see CONTRIBUTING.md, add a task"),
        (
            "metrics",
            "bad.py",
            "import no_such_module",
            "a",
            "bad.py cannot be imported (ModuleNotFoundError: No module named 'no_such_module'): mend the file",
        ),
        (
            "tasks",
            "none.py",
            None,
            "a",
            "none.py does not exist: give path/to/file.py@name with a file that defines TASK",
        ),
    ],
)
def test_refusals(folder: Path, kind: str, file: str, text: str | None, name: str, sentence: str) -> None:
    if text is not None:
        (folder / file).write_text(text)
    code = f"""
from vtbench import registry
from vtbench.types.errors import VtbenchError
try:
    registry.{kind}().get({f"{file}@{name}"!r})
except VtbenchError as refusal:
    print(refusal)
assert len(list(registry.{kind}())) > 5
"""
    assert sentence in python(code, folder)


def test_two_files_of_one_name_collide(folder: Path) -> None:
    (folder / "again.py").write_text(WORST_PIXEL)
    spec = "psnr,worst_pixel.py@worst-pixel,again.py@worst-pixel"
    (folder / "a").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a" / "0.png")
    ran = vtbench("score", "a", "a", "--metrics", spec, cwd=folder, wanted=2)
    assert "the metric 'worst-pixel' is given by both worst_pixel.py and again.py: rename one of them" in ran.stderr


def test_a_file_of_vtbenchs_own_named_by_path_is_itself() -> None:
    code = f"""
from vtbench import registry
assert registry.tasks().get({str(ROOT / "tasks" / "text.py")!r} + "@text") is registry.tasks().get("text")
"""
    python(code, ROOT)


def test_a_task_finds_its_manifests_beside_itself(folder: Path, tmp_path: Path) -> None:
    """A suite and a set of prompts in files of its own folder; a name of vtbench's own stays a name."""
    (folder / "faces.jsonl").write_text("")
    (folder / "asked.jsonl").write_text("")
    text = PORTRAITS.replace('("starter-natural",)', '("faces.jsonl", "starter-natural", "elsewhere.jsonl")')
    (folder / "portraits.py").write_text(text.replace("version=1,", 'version=1, prompts=("asked.jsonl",),'))
    code = f"""
import json
from vtbench import registry
task = registry.tasks().get({str(folder / "portraits.py")!r} + "@portraits")
print(json.dumps([task.suites, task.prompts]))
"""
    suites, prompts = json.loads(python(code, tmp_path))
    place = folder.resolve()
    assert suites == [str(place / "faces.jsonl"), "starter-natural", "elsewhere.jsonl"]
    assert prompts == [str(place / "asked.jsonl")]
