"""Machines that are not as one hopes: stopped processes, clocks, locks, disks, rights, addresses, temporary folders."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from support import command, cuts, stable

import vtbench
from vtbench.results import files
from vtbench.results.folder import RunFolder
from vtbench.results.record import read_run
from vtbench.types.errors import VtbenchError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuts(tmp_path_factory.mktemp("machines") / "images", 8)


def evaluated(images: Path, out: Path, **more: Any) -> Path:
    asked: dict[str, Any] = {"view": "native", "tasks": ["compression"], "batch_size": 2, "out": out, **more}
    made = vtbench.evaluate("jpeg", images=images, **asked)
    assert made.failures == {}
    return made.runs[0].path


def test_a_process_that_is_stopped_and_goes_on(images: Path, tmp_path: Path) -> None:
    """It keeps its lock meanwhile; nobody else writes its run, and it ends as if nothing had been."""
    whole = evaluated(images, tmp_path / "whole")
    child = os.fork()
    if child == 0:
        evaluated(images, tmp_path / "out", save=["images"])
        os._exit(0)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("out/*/rows.jsonl")) and time.monotonic() < until:
        time.sleep(0.002)
    os.kill(child, signal.SIGSTOP)
    stopped = next(tmp_path.glob("out/*/lock"), None)
    if stopped is not None:
        with pytest.raises(VtbenchError, match="another process is writing"):
            RunFolder(stopped.parent).__enter__()
    os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stable(next((tmp_path / "out").iterdir())) == stable(whole)


def test_a_copy_of_a_folder_that_is_being_written_is_free(images: Path, tmp_path: Path) -> None:
    """A lock is of the file, not of its name: its copy holds nothing."""
    path = evaluated(images, tmp_path / "out")
    with RunFolder(path):
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        assert evaluated(images, tmp_path / "copy").parent == tmp_path / "copy"
    assert not list((tmp_path / "copy").glob("*/lock"))


@pytest.mark.parametrize("name", ["replace", "fsync"])
@pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP, errno.EIO, errno.ESTALE])
def test_file_systems_that_refuse(
    name: str, number: int, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS and its like: one sentence, nothing half written, and the same command works once the disk does."""

    def refuses(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    with monkeypatch.context() as broken:
        broken.setattr(files.os, name, refuses)
        with pytest.raises(VtbenchError, match="could not be written"):
            evaluated(images, tmp_path / "out")
        assert not list(tmp_path.glob("out/*/run.json"))
    assert read_run(evaluated(images, tmp_path / "out")).info.status == "complete"
    assert not [p for p in tmp_path.rglob(".*")]


def test_a_clock_that_runs_backwards(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluated(images, tmp_path / "whole")
    past = iter(range(2_000_000_000, 0, -3600))
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: float(next(past)))
        path = evaluated(images, tmp_path / "out")
    assert stable(path) == stable(whole)
    assert all(row.seconds["encode"] >= 0 for row in read_run(path).rows())


def test_rights_of_a_careful_user(images: Path, tmp_path: Path) -> None:
    """umask 077: the run and the page are written, and only what is meant for others is theirs to read."""
    before = os.umask(0o077)
    try:
        path = evaluated(images, tmp_path / "out")
        code, _, err = command("leaderboard", "build", tmp_path / "out", "--out", tmp_path / "site")
    finally:
        os.umask(before)
    assert code == 0, err
    assert path.stat().st_mode & 0o077 == 0
    assert read_run(path).info.status == "complete"


@pytest.mark.parametrize("folder", ["gone", "file"])
def test_without_a_temporary_folder(folder: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / folder))
    shutil.copytree(images, tmp_path / "other")
    evaluated(images, tmp_path / "out")
    code, _, err = command("explain", "jpeg", "--images", images, "--limit", "1", "--claim", "psnr=30")
    assert code == 2
    assert err.count("\n") == 1
    assert str(tmp_path / folder) in err


def test_a_finished_run_is_on_the_disk_before_it_says_so(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may cost the last batches of a run that goes on, never a part of one that says it is finished."""
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noting(handle: int) -> None:
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def renaming(old: Any, new: Any) -> None:
        finished = Path(new).name == "run.json" and json.loads(Path(old).read_text())["status"] == "complete"
        calls.append(("finished" if finished else "replace", str(new)))
        replace(old, new)

    monkeypatch.setattr(files.os, "fsync", noting)
    monkeypatch.setattr(files.os, "replace", renaming)
    path = evaluated(images, tmp_path / "out", save=["tokens", "images"])
    end = [kind for kind, _ in calls].index("finished")
    before = {Path(name) for kind, name in calls[:end] if kind == "fsync"}
    # The sums cover run.json, and so are written behind it: a run without them is one that cannot be verified.
    after = ("run.json", "config.yaml", "SHA256SUMS")
    kept = {p for p in path.rglob("*") if p.is_file() and p.name not in after}
    assert {path / "rows.jsonl", path / "scores.jsonl", path / "tokens.bin"} <= kept
    assert kept - {p for p in kept if p.name == "scores.jsonl"} <= before
    assert {path, path / "images"} <= before
    assert ("fsync", str(path)) in calls[end:]


def test_many_files_are_flushed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(files.FLUSHED_ALONE + 1):
        (tmp_path / str(k)).touch()
    called: list[str] = []
    monkeypatch.setattr(files.os, "sync", lambda: called.append("sync"))
    monkeypatch.setattr(files.os, "fsync", lambda _: called.append("fsync"))
    files.settled(tmp_path)
    assert called == ["sync"]


LIMITED = """
import resource, sys
import torch
from vtbench.cli.main import main
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
sys.argv = ["vtbench", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(("room", "codes"), [(1 << 20, (1, 2)), (1 << 31, (0,))])
def test_few_addresses(room: int, codes: tuple[int, ...], images: Path, tmp_path: Path) -> None:
    """An address limit as batch systems set it: scores or a sentence, no traceback."""
    words = ["evaluate", "jpeg", "--images", images, "--view", "native", "--task", "compression", "--out", tmp_path]
    code = textwrap.dedent(LIMITED).replace("ROOM", str(room))
    ran = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert ran.returncode in codes, ran.stderr
    assert "Traceback" not in ran.stderr


LOCALES: tuple[dict[str, str], ...] = (
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
)


@pytest.mark.parametrize("locale", LOCALES, ids=["C", "Turkish"])
def test_locales(locale: dict[str, str], tmp_path: Path) -> None:
    """Names that ASCII lacks, on an output of ASCII; and a language whose small I has no dot."""
    folder = cuts(tmp_path / "bılder-ä", 1)
    words = ["score", str(folder), str(folder), "--metrics", "PSNR,bits".lower(), "--json"]
    ran = subprocess.run(
        [sys.executable, "-m", "vtbench", *words], capture_output=True, env={**os.environ, **locale}, check=False
    )
    assert b"Traceback" not in ran.stderr
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)
