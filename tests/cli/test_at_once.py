"""At a terminal something is on the screen long before torch is loaded, and again at every stage."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, noise

RUNS = ROOT / "tests" / "data" / "runs_schema1" / "runs" / "curve"


def at_a_terminal(words: list[str], folder: Path, until: str | None = None) -> tuple[float, str]:
    """(seconds of the process's own CPU until it showed something, all that it showed; until: the text at which it is
    ended)."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "VTBENCH_CACHE": str(folder / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "vtbench", *words],
        cwd=folder,
        env=environment,
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
    )
    os.close(theirs)
    shown, first = b"", 0.0
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            data = os.read(ours, 1 << 16)
        except OSError:
            break
        if data and not shown:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            first = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        shown += data
        if until is not None and until.encode() in shown:
            process.kill()
            break
    process.wait(20)
    os.close(ours)
    return first, shown.decode(errors="replace")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="NOT TESTED: CPU time of another process needs /proc")
def test_a_person_sees_what_is_waited_for(tmp_path: Path) -> None:
    noise(tmp_path / "a", 3)
    words = ["evaluate", "jpeg", "--images", "a", "--task", "compression", "--view", "native", "--out", "out"]
    first, shown = at_a_terminal(words, tmp_path)
    # Of CPU, since a clock would measure the other tests beside it; torch alone takes more than a second of it.
    assert first < 1
    places = [shown.index(what) for what in ("loading torch", "jpeg · compression", "bits", "results: out")]
    assert places == sorted(places)
    assert "Traceback" not in shown


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="NOT TESTED: CPU time of another process needs /proc")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("generate ngram-kmeans --suite starter-classes --out drawn", "loading torch"),
        ("score a a --metrics psnr", "loading torch"),
        ("score a a --set", "loading torch"),
        ("statistics a --out a.npz", "loading torch"),
        ("explain jpeg --images a --claim psnr=20", "measuring under every convention"),
        ("check jpeg", "loading torch"),
        ("compare runs/a runs/b", "comparing image by image"),
        ("leaderboard build runs", "building the page"),
        ("view runs/a --no-open", "building the page"),
        ("merge runs", "joining shards"),
        ("doctor", "looking at packages"),
        ("identify a.pt", "comparing names and shapes"),
    ],
)
def test_every_verb_says_at_once_what_it_does(words: str, says: str, tmp_path: Path) -> None:
    noise(tmp_path / "a", 3)
    for name, run in zip("ab", sorted(RUNS.iterdir()), strict=False):
        shutil.copytree(run, tmp_path / "runs" / name)
    first, shown = at_a_terminal(words.split(), tmp_path, until=says)
    assert first < 1
    assert says in shown
