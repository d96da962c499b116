"""Which tasks run where nobody names one: what the tasks say of themselves, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vtbench
from vtbench import registry
from vtbench.types.task import Task

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("images_given", "generators", "names"),
    [
        # The lists that stood in the code before the tasks said it.
        (False, False, ["reconstruction", "detail", "text", "compression"]),
        (True, False, ["reconstruction", "compression"]),
        (False, True, ["generation"]),
        (True, True, ["generation"]),
    ],
)
def test_the_defaults_of_vtbench(images_given: bool, generators: bool, names: list[str]) -> None:
    chosen = registry.default_tasks(images_given=images_given, generators=generators)
    assert [task.name for task in chosen] == names


def test_evaluate_asks_them(tmp_path: Path) -> None:
    """On images that the user gives: the two tasks that need no truth beside the pixels, in their order."""
    evaluation = vtbench.evaluate("jpeg", images="starter-natural", limit=1, out=tmp_path)
    assert [run.info["task"]["name"] for run in evaluation.runs] == ["reconstruction", "compression"]


def task(**more: object) -> Task:
    return Task("faces", "Faces", 1, ("starter-natural",), "256", ("psnr",), **more)  # type: ignore[arg-type]


def test_a_task_that_says_nothing_runs_on_its_own_suites_only() -> None:
    assert task().runs_by_default(images_given=False)
    assert not task().runs_by_default(images_given=True)


def test_a_task_that_is_off_runs_nowhere() -> None:
    for images_given in (True, False):
        assert not task(off_by_default=True, default_for=("suites", "images")).runs_by_default(images_given)
        assert not task(default_for=()).runs_by_default(images_given)


PORTRAITS = """
from vtbench.types.task import Task

TASK = Task(
    name="portraits", title="Faces at 256", version=1, suites=("starter-natural",), view="256", metrics=("psnr", "bpp"),
)
"""
"""The recipe of CONTRIBUTING.md."""


def run(code: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VTBENCH_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_task_added_as_contributing_says_runs_by_default(tmp_path: Path) -> None:
    """After the tasks of vtbench, on its own suite; and not where the user brings images."""
    (tmp_path / "portraits.py").write_text(PORTRAITS)
    code = f"""
import json
import vtbench.tasks
vtbench.tasks.__path__.append({str(tmp_path)!r})
from vtbench import registry
import vtbench
names = [t.name for t in registry.default_tasks(images_given=False, generators=False)]
runs = vtbench.evaluate("png", limit=1, out={str(tmp_path / "out")!r}).runs
print(json.dumps([names, [r.info["task"]["name"] for r in runs]]))
"""
    names, ran = json.loads(run(code, tmp_path))
    assert names == ran == ["reconstruction", "detail", "text", "compression", "portraits"]


def test_a_generators_task_runs_by_default_on_generators(tmp_path: Path) -> None:
    (tmp_path / "portraits.py").write_text(PORTRAITS.replace("version=1,", 'version=1, prompts=("starter-classes",),'))
    code = f"""
import vtbench.tasks
vtbench.tasks.__path__.append({str(tmp_path)!r})
from vtbench import registry
for generators in (False, True):
    print(*(t.name for t in registry.default_tasks(images_given=False, generators=generators)))
"""
    tokenizers, generators = run(code, tmp_path).splitlines()
    assert "portraits" not in tokenizers
    assert generators == "generation portraits"


def test_the_list_of_tasks_says_which_are_off(tmp_path: Path) -> None:
    from vtbench.cli import catalogue

    states = {line["name"]: line["state"] for line in catalogue.tasks()}
    assert states == {
        **dict.fromkeys(("reconstruction", "detail", "text", "compression"), "ready"),
        **dict.fromkeys(("generation", "stability", "written", "understanding", "answers"), "off by default"),
    }
