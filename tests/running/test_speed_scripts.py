"""The benchmarks of speed run, at sizes that say nothing of speed: a GPU's table on a CPU, the single writer's rate."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import gpu, scale
from vtbench.models.load import load
from vtbench.results.stores import FeatureFile, TokenFile


def test_the_gpus_script_runs_on_a_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--device cpu --models jpeg --dtypes float32 --parts a,b --batch-size 2 --side 32 --images 6 --seconds 0"
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options.split()])
    monkeypatch.setattr(gpu, "DISTINCT", 4)
    gpu.main()
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("| jpeg")]
    assert [row[2] for row in rows] == ["bare, 4 images", "(a)", "(b)"]
    bare, off, on = (float(row[3]) for row in rows)
    assert min(bare, off, on) > 0
    assert rows[0][4:6] == ["", ""]
    assert [row[5] for row in rows[1:]] == ["1.05", "1.10"]
    assert float(rows[1][4]) > 0
    assert "Reading alone:" in said


def test_the_networks_passes_are_counted_by_image(tmp_path: Path) -> None:
    gpu.make_images(tmp_path / "images", 2, 32)
    seconds = gpu.passes(load("jpeg"), sorted((tmp_path / "images").iterdir()), 4, ["psnr", "ssim"], most=0.0)
    assert 0 < seconds < 1


def test_the_writers_rate_is_that_of_what_a_run_writes(tmp_path: Path) -> None:
    rates = scale.written(tmp_path / "run", 10, 4)
    assert set(rates) == {"rows", "features", "tokens", "all"}
    assert 0 < rates["all"] < min(rates["rows"], rates["features"], rates["tokens"])
    # Whole batches, as a run's.
    assert len((tmp_path / "run" / "rows.jsonl").read_text().splitlines()) == 12
    assert len(FeatureFile(tmp_path / "run" / "features" / "candidate.f32", scale.DIM)) == 12
    assert len(TokenFile(tmp_path / "run")) == 12
