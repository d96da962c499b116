"""A run whose images other processes read: the same rows, one of them killed or not; and Ctrl-C leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vtbench
from vtbench.images import ahead, processes
from vtbench.metrics import _beside

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked for in /proc")
PROGRAM = """
import sys
from vtbench.images import ahead, processes
from vtbench.metrics import _beside
processes.LOOKED_AT = 1
processes.PAYS = _beside.PAYS = 1e-12
ahead.cores = lambda: 4
from vtbench.cli.main import main
main()
"""


def children(parent: int) -> set[int]:
    """Readers of a process that are alive."""
    pids = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            reads = b"children import serve" in (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if reads and int(fields[1]) == parent and fields[0] != "Z":
            pids.add(int(entry.name))
    return pids


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for k in range(43):
        Image.fromarray(rng.integers(0, 256, (40, 48 + k % 2, 3), np.uint8)).save(folder / f"{k:02d}.png")
    (folder / "20.png").write_bytes(b"no picture")
    return folder


def rows(images: Path, out: Path, **more: Any) -> list[dict[str, Any]]:
    """The rows without their times, whose order of keys counts too."""
    result = vtbench.evaluate("jpeg", tasks=["compression"], images=images, view="32", out=out, **more)
    lines = (Path(result.runs[0].path) / "rows.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_rows_are_the_same_whoever_reads_and_whoever_dies(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ahead.VARIABLE, "1")
    wanted = rows(images, tmp_path / "one")
    assert len(wanted) == 43
    assert "no image" in wanted[20]["why"]["*"]
    monkeypatch.setattr(processes, "LOOKED_AT", 1)
    monkeypatch.setattr(processes, "PAYS", 1e-12)
    monkeypatch.setattr(_beside, "PAYS", 1e-12)
    monkeypatch.setattr(processes.Child, "begin", processes.Child._start)
    monkeypatch.setattr(ahead, "cores", lambda: 4)
    monkeypatch.setenv(ahead.VARIABLE, "2")
    assert json.dumps(rows(images, tmp_path / "two")) == json.dumps(wanted)
    monkeypatch.setenv(ahead.VARIABLE, "3")
    killed: set[int] = set()

    def kill(_: str, __: str, done: int, ___: int) -> None:
        # One reader, in the middle of the run.
        readers = children(os.getpid())
        if done >= 8 and readers and not killed:
            killed.add(min(readers))
            os.kill(min(readers), signal.SIGKILL)

    assert json.dumps(rows(images, tmp_path / "three", progress=kill)) == json.dumps(wanted)
    assert killed
    assert not children(os.getpid())


def test_ctrl_c_ends_all_readers(images: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for k in range(1500):
        os.link(images / "00.png", many / f"{k:04d}.png")
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    command = [sys.executable, "-c", PROGRAM, "evaluate", "jpeg", "--task", "compression", "--images", str(many)]
    run = subprocess.Popen(
        [*command, "--view", "native", "--out", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    end = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < end:
        if children(run.pid) and any(p.stat().st_size for p in tmp_path.glob("out/*/rows.jsonl")):
            break
        time.sleep(0.1)
    readers = children(run.pid)
    assert readers
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=20)
    assert run.returncode == 130, said.decode()
    assert b"stopped; finished batches are kept" in said
    # They end with the pipe to their parent, each after the image that it is at.
    end = time.monotonic() + 10
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in readers):
        time.sleep(0.05)
    assert not [pid for pid in readers if Path(f"/proc/{pid}").exists()]
    if before:
        assert not {name for name in os.listdir("/dev/shm") if name.startswith(("vtbench", "psm_"))} - before
