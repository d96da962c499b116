"""Results on disk: torn tails, locks, atomic writes, newer schemas, full disks."""

from __future__ import annotations

import errno
import fcntl
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vtbench.results import files
from vtbench.results.files import disk_error, write_json
from vtbench.results.folder import RunFolder
from vtbench.results.record import SCHEMA, read_run
from vtbench.types.errors import VtbenchError


def rows(n: int, start: int = 0) -> list[dict[str, object]]:
    return [{"item": f"{i}", "values": {"psnr": float(i)}, "why": {}} for i in range(start, start + n)]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_tail_is_cut_to_whole_batches(tmp_path: Path, cut: int) -> None:
    with RunFolder(tmp_path) as folder:
        for start in (0, 4, 8):
            folder.append_rows(rows(4, start))
        data = folder.rows_path.read_bytes()
        folder.rows_path.write_bytes(data[:-cut])
        kept = folder.keep_rows(4)
        assert kept == 8
        folder.append_rows(rows(4, 8))
        assert folder.rows_path.read_bytes() == data


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom vtbench.results.folder import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r})):\n    pass"
    )
    with RunFolder(tmp_path):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process is writing" in ran.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_newer_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(VtbenchError, match="upgrade vtbench"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(VtbenchError, match="not valid JSON"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(VtbenchError, match="no schema"):
        read_run(tmp_path)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder, pytest.raises(VtbenchError, match="null with a reason"):
        folder.append_rows([{"item": "a", "values": {"psnr": float("nan")}}])
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(VtbenchError, match="the disk is full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_lock_on_a_file_that_was_removed_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first writer ends, and removes the file, between the second one's opening and its locking."""
    first = RunFolder(tmp_path).__enter__()
    flock = fcntl.flock

    def late(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.__exit__()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with RunFolder(tmp_path), pytest.raises(VtbenchError, match="another process"):
        RunFolder(tmp_path).__enter__()


def test_a_killed_writer_keeps_nobody_out(tmp_path: Path) -> None:
    """The file of its lock stays, and the kernel drops the lock itself: no later writer has to remove anything."""
    code = (
        "import time\nfrom pathlib import Path\nfrom vtbench.results.folder import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r})):\n    print('locked', flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "locked\n"
        with pytest.raises(VtbenchError, match="another process"):
            RunFolder(tmp_path).__enter__()
        writer.send_signal(signal.SIGKILL)
    assert (tmp_path / "lock").exists()
    with RunFolder(tmp_path):
        pass
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def missing(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(VtbenchError, match="cannot lock files: choose an --out on another"):
        RunFolder(tmp_path).__enter__()


def test_sentences_for_other_full_things(tmp_path: Path) -> None:
    for number, words in ((errno.EDQUOT, "quota"), (errno.EFBIG, "file size limit"), (errno.EROFS, "Read-only")):
        assert words in str(disk_error(OSError(number, "Read-only file system"), tmp_path))
