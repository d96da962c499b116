"""A suite is what its files hold: copies are one suite, other bytes are another, whatever names of folders and times
say; and what was read once is not read again."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from image_files import picture
from PIL import Image

from vtbench.images import ahead, folders, identity, shards
from vtbench.images.opening import open_suite


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are remembered however young they are, so that a test need not wait."""
    monkeypatch.setattr(identity, "YOUNG", -60.0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose bytes are read, in no order."""
    names: list[str] = []
    real = identity._sha256

    def noted(source: Any, extent: identity.Extent) -> str:
        names.append(Path(source.name).name)
        return real(source, extent)

    monkeypatch.setattr(identity, "_sha256", noted)
    return names


def folder(path: Path, seeds: Sequence[int] = (0, 1, 2)) -> Path:
    """Bitmaps, so that all files are of one length."""
    for k, seed in enumerate(seeds):
        (path / "b").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed)).save(path / ("b" if k else "") / f"{k}.bmp")
    return path


def hash_of(spec: Path | str) -> str:
    return open_suite(str(spec)).hash


def by_hand(names_and_bytes: Sequence[tuple[str, bytes]]) -> str:
    """The rule, written out once more."""
    lines = (n.encode() + b"\0" + hashlib.sha256(data).hexdigest().encode() for n, data in names_and_bytes)
    whole = b"".join(line + b"\n" for line in lines)
    return hashlib.sha256(whole).hexdigest()


# -- the rule --------------------------------------------------------------------------------------------------------


def test_the_hash_is_over_relative_names_and_bytes_in_order(tmp_path: Path) -> None:
    root = folder(tmp_path / "a")
    files = [(n, (root / n).read_bytes()) for n in ("0.bmp", "b/1.bmp", "b/2.bmp")]
    assert hash_of(root) == by_hand(files)
    assert by_hand(files) != by_hand(files[::-1])
    assert hash_of(root / "0.bmp") == by_hand(files[:1])
    assert hash_of(f"{root}/b/*.bmp") == by_hand([(n.removeprefix("b/"), data) for n, data in files[1:]])


def test_alike_in_names_sizes_and_times_with_other_bytes(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", (0, 1, 2)), folder(tmp_path / "two", (0, 1, 3))
    for root in (one, two):
        for file in root.rglob("*.bmp"):
            os.utime(file, ns=(1, 1))

    def facts(root: Path) -> list[Any]:
        return sorted((str(f.relative_to(root)), f.stat().st_size, f.stat().st_mtime_ns) for f in root.rglob("*.bmp"))

    assert facts(one) == facts(two)
    assert hash_of(one) != hash_of(two)


def test_copies_elsewhere_and_later_are_the_same_suite(tmp_path: Path) -> None:
    root = folder(tmp_path / "a")
    copy = tmp_path / "elsewhere" / "of another name"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    for file in copy.rglob("*.bmp"):
        os.utime(file, ns=(7, 7))
    first = hash_of(root)
    assert hash_of(copy) == first
    assert hash_of(f"{copy}/**/*.bmp") == first
    assert hash_of(root.rename(tmp_path / "renamed")) == first
    (tmp_path / "renamed" / "0.bmp").rename(tmp_path / "renamed" / "00.bmp")
    assert hash_of(tmp_path / "renamed") != first


def test_the_class_of_a_folder_is_no_part_of_it(tmp_path: Path) -> None:
    """A class folder of ImageNet alone, copied under another name, holds the same images."""
    for name in ("n01440764", "tench"):
        (tmp_path / name).mkdir()
        Image.fromarray(picture(0)).save(tmp_path / name / "a.bmp")
    assert open_suite(str(tmp_path / "n01440764")).items[0].meta == {"class": "n01440764"}
    assert hash_of(tmp_path / "n01440764") == hash_of(tmp_path / "tench")


def test_opening_and_listing_read_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise AssertionError("hashed")

    folder(tmp_path / "a")
    tar(tmp_path / "a.tar", [(f"{k}.bmp", b"%d" % k) for k in range(3)])
    for module in (folders, shards):
        monkeypatch.setattr(module, "digests", refuse)
    for spec in ("a", "a.tar", "a/b/*.bmp"):
        suite = open_suite(str(tmp_path / spec))
        assert [i.id for i in suite.items]
        assert suite.identity_seconds == 0
        with pytest.raises(AssertionError, match="hashed"):
            _ = suite.hash


def test_progress_and_seconds(tmp_path: Path) -> None:
    suite = open_suite(str(folder(tmp_path / "a", range(9))))
    told: list[tuple[int, int]] = []
    first = suite.identify(lambda done, total: told.append((done, total)))
    assert told == [(k, 9) for k in range(1, 10)]
    assert suite.identity_seconds > 0
    seconds = suite.identity_seconds
    assert suite.identify(lambda *_: told.append((0, 0))) == suite.hash == first
    assert len(told) == 9
    assert suite.identity_seconds == seconds


def test_what_cannot_be_read_is_part_of_what_the_suite_is(tmp_path: Path) -> None:
    """It is named in its row later; here it must neither raise nor pass for the whole suite."""
    root = folder(tmp_path / "a")
    whole, suite = hash_of(root), open_suite(str(root))
    (root / "0.bmp").unlink()
    os.mkfifo(root / "0.bmp")
    assert suite.hash == hash_of(root) != whole
    (root / "0.bmp").unlink()
    Image.fromarray(picture(0)).save(root / "0.bmp")
    assert hash_of(root) == whole


def test_a_disk_that_does_not_answer_for_one_file_keeps_no_suite_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading gives such an image up, and names it in its row; the hash, which comes first, must not wait for ever."""
    monkeypatch.setattr(ahead, "PATIENCE", 0.2)
    answers = threading.Event()
    files = open_suite(str(folder(tmp_path / "a", range(5))))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for file in sorted((tmp_path / "a").rglob("*.bmp")):
            packed.write(file, file.name)
    members = open_suite(str(tmp_path / "a.zip"))
    of_file, of_member = identity._of_file, members.read

    def slow_file(path: str, *more: Any) -> list[identity.Digest]:
        if path.endswith("2.bmp"):
            answers.wait(30)
        return of_file(path, *more)

    def slow_member(item: Any) -> bytes:
        if item.id == "2.bmp":
            answers.wait(30)
        return of_member(item)

    monkeypatch.setattr(identity, "_of_file", slow_file)
    monkeypatch.setattr(members, "read", slow_member)
    unreadable = [[k for k, c in enumerate(s.contents()) if c == identity.UNREADABLE] for s in (files, members)]
    answers.set()
    assert unreadable == [[2], [2]]


# -- shards ----------------------------------------------------------------------------------------------------------


def tar(path: Path, members: Sequence[tuple[str, bytes]], mtime: int = 0) -> Path:
    import io

    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            archive.addfile(member, io.BytesIO(data))
    return path


def test_shards_are_their_images_wherever_they_lie(tmp_path: Path) -> None:
    members = [[(f"{10 * s + k}.bmp", b"image %d of %d" % (k, s)) for k in range(100)] for s in range(2)]
    for s in range(2):
        tar(tmp_path / "a" / f"val-{s}.tar", [*members[s], ("note.txt", b"no image")])
        tar(tmp_path / "b" / "later" / f"val-{s}.tar", members[s], mtime=10**9)
    spec = "val-{0..1}.tar"
    first = hash_of(f"{tmp_path}/a/{spec}")
    assert first == by_hand([(f"val-{s}/{n}", data) for s in range(2) for n, data in members[s]])
    assert hash_of(f"{tmp_path}/a/val-*.tar") == hash_of(f"{tmp_path}/b/later/{spec}") == first
    # Unpacked, they are the same images under the same names.
    for s in range(2):
        (tmp_path / "unpacked" / f"val-{s}").mkdir(parents=True)
        for name, data in members[s]:
            (tmp_path / "unpacked" / f"val-{s}" / name).write_bytes(data)
    pairs = [(f"val-{s}/{n}", data) for s in range(2) for n, data in members[s]]
    assert hash_of(tmp_path / "unpacked") == by_hand(sorted(pairs))
    members[1][99] = ("109.bmp", b"image 99 of 9")
    tar(tmp_path / "a" / "val-1.tar", members[1])
    assert hash_of(f"{tmp_path}/a/{spec}") != first


@pytest.mark.usefixtures("at_once")
def test_each_image_of_a_shard_is_remembered(tmp_path: Path, read: list[str]) -> None:
    shard = tar(tmp_path / "x.tar", [(f"{k}.bmp", b"%d" % k) for k in range(150)])
    first = hash_of(shard)
    assert len(read) == 150
    assert hash_of(shard) == first
    assert len(read) == 150
    suite = open_suite(str(shard))
    # A member is a header of 512 bytes and its data, padded to 512: the last one's data are gone.
    os.truncate(shard, 149 * 1024 + 512)
    assert suite.hash != first


# -- what is remembered ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("at_once")
def test_the_second_time_only_what_changed_is_read(tmp_path: Path, read: list[str]) -> None:
    root = folder(tmp_path / "a", range(5))
    first = hash_of(root)
    assert len(read) == 5
    read.clear()
    assert hash_of(root) == first
    assert read == []
    os.utime(root / "0.bmp", ns=(5, 5))
    assert hash_of(root) == first
    assert read == ["0.bmp"]
    read.clear()
    Image.fromarray(picture(77)).save(root / "b" / "3.bmp")
    assert hash_of(root) != first
    assert read == ["3.bmp"]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("how", ["in place", "another file"])
def test_a_change_that_restores_size_and_time_is_seen(tmp_path: Path, how: str) -> None:
    root = folder(tmp_path / "a")
    file, first = root / "0.bmp", hash_of(root)
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    if how == "another file":
        (tmp_path / "new").write_bytes(data)
        (tmp_path / "new").replace(file)
    else:
        file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert hash_of(root) != first


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, read: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one step of the file system's clock a second change would leave no trace."""
    monkeypatch.setattr(identity, "YOUNG", 3600.0)
    root = folder(tmp_path / "a")
    first = hash_of(root)
    assert hash_of(root) == first
    assert len(read) == 6
    assert not list(cache.rglob("*.txt"))


@pytest.mark.usefixtures("at_once")
def test_a_torn_memory_is_passed_over(tmp_path: Path, read: list[str], cache: Path) -> None:
    root = folder(tmp_path / "a")
    first = hash_of(root)
    (memory,) = (cache / "hashes").iterdir()
    lines = memory.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    memory.write_bytes(b"\xff\x00 garbage\n" + lines[0][:40] + lines[1] + lines[2] + lines[0][:-9])
    read.clear()
    assert hash_of(root) == first
    assert len(read) == 2
    read.clear()
    assert hash_of(root) == first
    # The torn tail took the first of the lines that were appended to it.
    assert len(read) <= 1


@pytest.mark.usefixtures("at_once")
def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path, cache: Path, read: list[str]) -> None:
    root = folder(tmp_path / "a")
    cache.write_bytes(b"a file where the folder should be")
    assert hash_of(root) == hash_of(root)
    assert len(read) == 6


def test_several_processes_remember_at_once(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "a", range(200))
    code = (
        "import sys\nfrom vtbench.images import identity\nfrom vtbench.images.opening import open_suite\n"
        "identity.YOUNG, identity.ITEMS_AT_ONCE = -60, 2\nprint(open_suite(sys.argv[1]).hash)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    hashes = {process.communicate()[0].strip() for process in running}
    assert hashes == {hash_of(root)}
    (memory,) = (cache / "hashes").iterdir()
    lines = memory.read_text().splitlines()
    assert all(len(line) == 114 for line in lines)
    assert len(set(lines)) == 200
