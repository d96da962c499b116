"""Kills, interruptions and second calls: a run goes on to what one pass would have given, and is one question's."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import BAD_ADAPTERS as FILE
from support import evaluate, stable

import vtbench
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents


def test_a_limited_run_goes_on(images: Path, tmp_path: Path) -> None:
    first = evaluate("slow", images, tmp_path / "out", limit=8, batch_size=3).runs[0]
    assert (first.info["n"], first.info["ranked"]) == (8, False)
    assert "limited to 8 of 22" in first.info["why_not_ranked"]
    second = evaluate("slow", images, tmp_path / "out", batch_size=3).runs[0]
    assert second.path == first.path
    assert stable(second.path) == stable(evaluate("slow", images, tmp_path / "whole", batch_size=3).runs[0].path)


def test_the_same_question_is_answered_from_disk(images: Path, tmp_path: Path) -> None:
    path = evaluate("slow", images, tmp_path).runs[0].path
    before = (path / "rows.jsonl").stat().st_mtime_ns
    evaluate("slow", images, tmp_path)
    assert (path / "rows.jsonl").stat().st_mtime_ns == before


def test_what_was_not_kept_is_made_again(images: Path, tmp_path: Path) -> None:
    first = evaluate("slow", images, tmp_path, limit=5).runs[0]
    assert not (first.path / "images").exists()
    again = evaluate("slow", images, tmp_path, limit=5, save=["images"]).runs[0]
    assert again.path == first.path
    assert len(list((again.path / "images").iterdir())) == 5
    # And a call that asks for less keeps what is there.
    before = (again.path / "rows.jsonl").stat().st_mtime_ns
    assert evaluate("slow", images, tmp_path, limit=5).runs[0].info["save"] == ["images"]
    assert (again.path / "rows.jsonl").stat().st_mtime_ns == before
    twins = tmp_path / "twins"
    twins.mkdir()
    for suffix in ("png", "bmp"):
        Image.new("RGB", (64, 64)).save(twins / f"a.{suffix}")
    with pytest.raises(VtbenchError, match="has both"):
        evaluate("slow", twins, tmp_path / "o", save=["images"])


def test_an_interruption_says_how_to_go_on(images: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "vtbench",
        "evaluate",
        f"{FILE}@slow",
        "--images",
        str(images),
        "--view",
        "native",
        "--task",
        "compression",
        "--batch-size",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    running = subprocess.Popen(
        command,
        env={**os.environ, "SLOW": "0.3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that was started in the background (`make test &`) ignores interruptions, and hands that on.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/*/rows.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopped" in said
    assert "Traceback" not in said
    (info,) = (json.loads(p.read_text()) for p in tmp_path.glob("out/*/run.json"))
    assert info["status"] == "interrupted"
    assert not list(tmp_path.glob("out/*/lock"))


def test_a_run_that_goes_on_knows_its_multiply_accumulates(images: Path, tmp_path: Path) -> None:
    """Counted with the first batch alone: a kill after it, or while scoring, loses nothing and counts nothing else."""

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = torch.nn.Conv2d(3, 3, 1)

        def encode(self, x: torch.Tensor) -> Latents:
            return Latents(self.net(x).half(), (int(x.shape[2]), int(x.shape[3])))

        def decode(self, tokens: Latents) -> torch.Tensor:
            return tokens.values.float().clamp(0, 1)

    def scored() -> Any:
        more: dict[str, Any] = {"view": "native", "tasks": ["compression"], "out": tmp_path, "identity": "small"}
        run = vtbench.evaluate(Small(), images=images, **more).runs[0]
        return run.path, run.score("macs")["value"]  # type: ignore[index]

    path, whole = scored()
    assert whole
    for kept in (8, 22):
        # Killed after eight rows, and killed while it scored all of them.
        rows = (path / "rows.jsonl").read_text().splitlines(keepends=True)
        (path / "rows.jsonl").write_text("".join(rows[:kept]))
        info = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps({**info, "status": "running"}))
        assert scored() == (path, whole)
