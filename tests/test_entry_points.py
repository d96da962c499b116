"""Metrics and tasks that stand outside the tree: in a package's entry points."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from outside_the_tree import PORTRAITS, ROOT, WORST_PIXEL, python, run, vtbench


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plug-in, installed by pip."""
    top = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "tests" / "plugin", top / "source")
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target")
    run(sys.executable, *install, top / "site", top / "source", cwd=top)
    return top / "site"


def test_a_plugins_metric_and_task_are_listed_and_run(site: Path, tmp_path: Path) -> None:
    for what, name in (("metrics", "example-largest-error"), ("tasks", "example-blocks")):
        lines = json.loads(vtbench("list", what, "--json", cwd=tmp_path, path=(site,)).stdout)
        (line,) = [m for m in lines if m["name"] == name]
        assert line["state"] == "ready"
    words = ("evaluate", "png", "--task", "example-blocks", "--limit", "1", "--out", "out")
    vtbench(*words, cwd=tmp_path, path=(site,))
    (place,) = (tmp_path / "out").glob("*/scores.jsonl")
    scores = {s["metric"]: s["value"] for s in map(json.loads, place.open())}
    assert scores["example-largest-error"] == 0


def test_a_plugins_task_is_a_default(site: Path, tmp_path: Path) -> None:
    code = """
from vtbench import registry
print(*(t.name for t in registry.default_tasks(images_given=False, generators=False)))
"""
    assert python(code, tmp_path, path=(site,)).split()[-1] == "example-blocks"


@pytest.mark.parametrize("group", ["vtbench.metrics", "vtbench.tasks"])
@pytest.mark.parametrize(
    ("module", "text", "sentence"),
    [
        ("gone", None, "No module named 'gone'"),
        ("empty", "", "defines no"),
        (
            "taken",
            WORST_PIXEL.replace("worst-pixel", "psnr")
            + PORTRAITS.replace("portraits", "text").replace("worst_pixel.py@worst-pixel", "ssim"),
            "is given by both",
        ),
    ],
)
def test_a_broken_plugin_is_named_and_hides_nothing(
    group: str, module: str, text: str | None, sentence: str, tmp_path: Path
) -> None:
    information = tmp_path / "broken-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{group}]\nfaulty = {module}\n")
    if text is not None:
        (tmp_path / f"{module}.py").write_text(text)
    what = group.removeprefix("vtbench.")
    lines = json.loads(vtbench("list", what, "--json", cwd=tmp_path, path=(tmp_path,)).stdout)
    (line,) = [m for m in lines if m["name"] == "faulty"]
    assert line["state"] == "broken"
    assert sentence in line["needs"]
    assert {"psnr", "ssim"} <= {m["name"] for m in lines} or {"text", "detail"} <= {m["name"] for m in lines}
    report = json.loads(vtbench("doctor", "--json", cwd=tmp_path, path=(tmp_path,)).stdout)
    assert sentence in report["plugins"]["faulty"]
    models = json.loads(vtbench("list", "models", "--json", cwd=tmp_path, path=(tmp_path,)).stdout)
    assert "faulty" not in {m["name"] for m in models}
