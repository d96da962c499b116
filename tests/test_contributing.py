"""CONTRIBUTING.md is true: every recipe on it is executed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def block(language: str, recipe: str) -> str:
    found = re.findall(rf"^```{language} {recipe}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_it_fits_on_screens() -> None:
    assert len(TEXT.splitlines()) <= 120


def test_add_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "mean_colour.py").write_text(block("python", "tokenizer"))
    environment = {**os.environ, "VTBENCH_CACHE": str(tmp_path / "cache"), "VTBENCH_OFFLINE": "1"}
    for line in block("sh", "tokenizer").splitlines():
        words = shlex.split(line)
        assert words[0] == "vtbench"
        command = [sys.executable, "-m", "vtbench", *words[1:]]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list((tmp_path / "out" / "mine").glob("*/scores.jsonl"))


def test_add_a_metric(tmp_path: Path) -> None:
    """The file as it stands, put where the registry looks."""
    target = tmp_path / "worst_pixel.py"
    target.write_text(block("python", "metric"))
    code = f"""
import vtbench.metrics
vtbench.metrics.__path__.append({str(tmp_path)!r})
import torch
from vtbench import registry
from vtbench.types.metric import Batch, Reference
metric = registry.metric("worst-pixel")
a = torch.zeros(2, 3, 4, 4, dtype=torch.uint8); b = a.clone(); b[1, 2, 3, 3] = 7
assert [v.value for v in metric.measure(Batch(Reference(a, [], []), b))] == [0.0, 7.0]
"""
    ran = python(code, tmp_path)
    assert ran.returncode == 0, ran.stderr


def test_add_a_task(tmp_path: Path) -> None:
    (tmp_path / "portraits.py").write_text(block("python", "task"))
    code = f"""
import vtbench.tasks
vtbench.tasks.__path__.append({str(tmp_path)!r})
import vtbench
made = vtbench.evaluate("jpeg", tasks=["portraits"], limit=1, out={str(tmp_path / "out")!r})
assert made.value("bpp") > 0
"""
    ran = python(code, tmp_path)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("folder", ["adapters", "tasks", "vtbench/metrics"])
def test_the_folders_it_names_exist(folder: str) -> None:
    assert f"`{folder}/" in TEXT
    assert (ROOT / folder).is_dir()
