"""CONTRIBUTING.md is true: every recipe on it is executed, outside the tree and inside."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import warm
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILES = {
    "tokenizer": ("mean_colour.py", "python", "adapters/builtin"),
    "metric": ("worst_pixel.py", "python", "vtbench/metrics"),
    "task": ("portraits.py", "python", "tasks"),
    "suite": ("one-face.jsonl", "jsonl", "tasks/suites"),
    "prompts": ("two-classes.jsonl", "jsonl", "tasks/prompts"),
}
"""What each recipe's file is called, its language, and where it goes inside the tree."""
BY_NAME = {
    "mean_colour.py@mean-colour": "mean-colour",
    "worst_pixel.py@worst-pixel": "worst-pixel",
    "portraits.py@portraits": "portraits",
    "one-face.jsonl": "one-face",
    "two-classes.jsonl": "two-classes",
}
"""What stands for a file once it lies inside the tree: its name."""


def block(language: str, recipe: str) -> str:
    blocks = re.findall(rf"^```{language} {recipe}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0])


def pictures(folder: Path) -> None:
    """ORIGINALS and RECONSTRUCTIONS, three images each: the metric's recipe compares them."""
    for name, error in (("ORIGINALS", 0), ("RECONSTRUCTIONS", 9)):
        (folder / name).mkdir()
        for k in range(3):
            pixels = np.random.default_rng(k).integers(20, 200, (64, 64, 3)).astype(np.uint8)
            pixels[k, k, 0] += error
            Image.fromarray(pixels).save(folder / name / f"{k}.png")


def run(line: str, folder: Path, tree: Path) -> str:
    words = shlex.split(line)
    assert words[0] == "vtbench"
    more = {"PYTHONPATH": str(tree), "VTBENCH_CACHE": str(folder / "cache"), "VTBENCH_OFFLINE": "1"}
    ran = warm.ran([sys.executable, "-m", "vtbench", *words[1:]], folder, {**os.environ, **more})
    assert ran.returncode == 0, line + "\n" + ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with every recipe's file where it belongs."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("adapters", "tasks", "leaderboard"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    core = shutil.ignore_patterns("__pycache__", "adapters", "tasks", "leaderboard")
    shutil.copytree(ROOT / "vtbench", tree / "vtbench", ignore=core)
    for folder in ("adapters", "tasks", "leaderboard"):
        (tree / "vtbench" / folder).symlink_to(tree / folder)
    for recipe, (file, language, place) in FILES.items():
        (tree / place / file).write_text(block(language, recipe))
    return tree


def test_it_fits_on_screens() -> None:
    assert len(TEXT.splitlines()) <= 150


@pytest.mark.parametrize("recipe", FILES)
def test_a_recipe_outside_the_tree(recipe: str, tmp_path: Path) -> None:
    pictures(tmp_path)
    file, language, _ = FILES[recipe]
    (tmp_path / file).write_text(block(language, recipe))
    for line in block("sh", recipe).splitlines():
        says = run(line, tmp_path, ROOT)
    check(recipe, tmp_path, says)


@pytest.mark.parametrize("recipe", FILES)
def test_a_recipe_inside_the_tree(recipe: str, inside: Path, tmp_path: Path) -> None:
    """The file alone, nothing edited elsewhere: it goes by its name now."""
    pictures(tmp_path)
    for line in block("sh", recipe).splitlines():
        for path, name in BY_NAME.items():
            line = line.replace(path, name)
        says = run(line, tmp_path, inside)
    check(recipe, tmp_path, says)


def check(recipe: str, folder: Path, says: str) -> None:
    """What the recipe's last command left behind."""
    if recipe == "metric":
        assert re.search(r"worst-pixel\s+9 grey levels", says)
    elif recipe == "prompts":
        assert len(list((folder / "drawn" / "images").glob("*/*.png"))) == 2
    else:
        (record,) = folder.glob("out/*/*/run.json")
        info = json.loads(record.read_text())
        assert info["n"] == (1 if recipe == "suite" else 2)
        assert info["status"] == "complete"


def test_a_task_inside_the_tree_runs_by_default(inside: Path, tmp_path: Path) -> None:
    run("vtbench evaluate png --limit 1 --out out/all", tmp_path, inside)
    tasks = {json.loads(p.read_text())["task"]["name"] for p in tmp_path.glob("out/all/*/run.json")}
    assert tasks == {"reconstruction", "detail", "text", "compression", "portraits"}


@pytest.mark.parametrize("folder", ["adapters", "tasks", "tasks/suites", "tasks/prompts", "vtbench/metrics"])
def test_the_folders_it_names_exist(folder: str) -> None:
    assert f"`{folder}/`" in TEXT
    assert (ROOT / folder).is_dir()


def test_the_commands_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", TEXT)) <= targets
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.house"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "largest function:" in ran.stdout
