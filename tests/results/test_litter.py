"""What a killed writer leaves beside its files is removed by the next one that holds the lock, and nothing else is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import made_runs
import pytest
from made_runs import score

from vtbench import leaderboard
from vtbench.results import files
from vtbench.results.files import disk_error, read_json, trouble
from vtbench.results.folder import RunFolder
from vtbench.results.holding import Held
from vtbench.results.removal import remove_run
from vtbench.types.errors import VtbenchError

LEFT = (
    ".rows.ab12_xyz",
    ".run.json.ab12_xyz",
    ".rows.jsonl.ab12_xyz",
    ".scores.jsonl.ab12_xyz",
    ".tokens.bin.ab12_xyz",
    ".generate.json.ab12_xyz",
    ".samples.jsonl.ab12_xyz",
    "samples/.samples.json.ab12_xyz",
    "features/.quad.part.npz",
)
OWN = (
    ".rows.mine",
    ".rows.ab12_xyz.txt",
    ".gitignore",
    ".scores.jsonl.AB12_XYZ",
    "samples/.samples.json.bak",
    "x.rows.ab12_xyz",
)


def test_the_next_writer_of_a_run_clears_up(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in (*LEFT, *OWN, "run.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("half")
    grave, other = tmp_path / ".run.removed-ab12_xyz", tmp_path / ".other.removed-ab12_xyz"
    for folder in (grave, other):
        (folder / "run" / "samples").mkdir(parents=True)
    (run / ".rows.ab12_fol").mkdir()
    with RunFolder(run):
        here = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
        assert here == {*OWN, "run.json", "lock"}
    assert not grave.exists()
    assert other.exists(), "another run's is left to its own next writer"


def test_who_does_not_get_the_lock_clears_up_nothing(tmp_path: Path) -> None:
    with RunFolder(tmp_path):
        (tmp_path / ".rows.ab12_xyz").write_text("being written")
        with pytest.raises(VtbenchError, match="another process"):
            RunFolder(tmp_path).__enter__()
        assert (tmp_path / ".rows.ab12_xyz").exists()


def test_a_run_that_was_half_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the renaming and the deletion: no run is left, and the next of its name takes the rest away."""
    run = made_runs.write(tmp_path / "run", scores=[score("psnr", 30.0)])
    with monkeypatch.context() as patch:

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("vtbench.results.folder.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_run(run)
    (grave,) = (p for p in tmp_path.iterdir() if p.name.startswith(".run.removed-"))
    with RunFolder(run):
        assert not grave.exists()


def site(tmp_path: Path) -> Path:
    if not (tmp_path / "r").exists():
        made_runs.write(tmp_path / "r", scores=[score("psnr", 30.0)])
    return leaderboard.build([tmp_path / "r"], tmp_path / "site")


def test_the_next_build_of_a_page_clears_up(tmp_path: Path) -> None:
    site(tmp_path)
    for name in (".site.new-ab12_xyz", ".site.old-ab12_xyz", ".site.new-design", ".site.new-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.html").write_text("half")
    site(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".site.new-design", ".site.new-mine", "r", "site"]


def test_a_page_that_was_moved_away_by_a_kill_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = site(tmp_path)
    before = index.read_bytes()
    away = tmp_path / ".site.old-ab12_xyz"
    away.mkdir()
    (tmp_path / "site").rename(away / "site")
    with monkeypatch.context() as patch:
        # The next build fails as well: the old page must stand all the same.
        patch.setattr(
            "vtbench.leaderboard.site.tempfile.mkdtemp", lambda **_: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(VtbenchError, match="the disk is full"):
            site(tmp_path)
    assert index.read_bytes() == before
    assert not away.exists()


def test_two_builds_of_one_page_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vtbench.leaderboard.site.PATIENCE", 0.1)
    site(tmp_path)
    with Held(tmp_path / ".site.lock", tmp_path / "site"), pytest.raises(VtbenchError, match="another process"):
        site(tmp_path)
    site(tmp_path)


# -- reading and writing told apart ------------------------------------------------------------------------------------


def test_what_failed_is_named_for_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "there").write_text("x")
    cases = {
        (errno.ENOENT, "gone"): "gone cannot be read (No such file or directory)",
        (errno.ENOENT, "link"): "is a link that leads nowhere",
        (errno.ELOOP, "there"): "there cannot be read",
        (errno.EACCES, "gone"): "gone cannot be read (Permission denied): mend its rights",
        (errno.EACCES, "there"): "there could not be written (Permission denied)",
        (errno.EROFS, "there"): "there could not be written (Read-only file system)",
        (errno.ENOSPC, "there"): "the disk is full: ",
        (errno.EIO, "there"): "there cannot be read (Input/output error)",
    }
    for (number, name), said in cases.items():
        assert said in str(trouble(OSError(number, os.strerror(number), str(tmp_path / name)))), (number, name)
    assert "cannot be read or written" in str(trouble(OSError(errno.EIO, "error")))


@pytest.mark.parametrize("place", ["link", "link/below/run"])
def test_a_dangling_out_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "further")
    with pytest.raises(VtbenchError, match=r"link is a link that leads nowhere\): choose another --out"):
        RunFolder(tmp_path / place).__enter__()
    with pytest.raises(VtbenchError, match=r"cannot be read .*leads nowhere\): mend it"):
        raise files.read_error(OSError(errno.ENOENT, "No such file"), tmp_path / place)
    assert "could not be written" in str(disk_error(OSError(errno.EIO, "error"), tmp_path / "x"))


def test_records_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("loop", "n" * 300, "."):
        with pytest.raises(VtbenchError, match="cannot be read"):
            read_json(tmp_path / name)


def test_rows_that_cannot_be_read_are_not_rows_that_cannot_be_written(tmp_path: Path) -> None:
    """Both happen while rows are replaced: the old ones are read, the new ones written."""

    def unreadable() -> object:
        yield {"item": "a"}
        raise OSError(errno.EIO, "Input/output error", "tokens.bin")

    with RunFolder(tmp_path) as folder:
        with pytest.raises(OSError, match="tokens"):
            folder.replace_rows(unreadable())  # type: ignore[arg-type]
        assert [p.name for p in tmp_path.iterdir()] == ["lock"]
