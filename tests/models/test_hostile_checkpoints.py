"""Archives and pickles that were made to take memory, time or the process, or are only damaged: one sentence each."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_refusals import refusal
from support import command

from vtbench.models import checkpoint
from vtbench.models.pickle_limits import LEGACY_MAGIC

GIBI = 1 << 30


# -- archives ----------------------------------------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[zipfile.ZipInfo, bytes], tuple[int, bytes]]) -> Path:
    """The archive with every member's compression and content as `change` has them."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for member in source.infolist():
            method, content = change(member, source.read(member))
            target.writestr(member.filename, content, method)
    path.write_bytes(out.getvalue())
    return path


@pytest.mark.parametrize("struck", ["data/0", "data.pkl", "version", "byteorder"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_torch_archives_are_refused(struck: str, method: int, tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(64)}, tmp_path / "x.pt")
    rewritten(tmp_path / "x.pt", lambda m, data: (method if m.filename.endswith(struck) else 0, data))
    assert "compressed, which torch never writes" in refusal(tmp_path / "x.pt")


def bomb(path: Path, size: int) -> Path:
    """A checkpoint whose one storage is `size` zeros, deflated; made without deflating them all."""
    block = 1 << 24
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(bytes(block)) + deflate.flush(zlib.Z_FULL_FLUSH)
    again = deflate.compress(bytes(block)) + deflate.flush(zlib.Z_FULL_FLUSH)
    packed = first + again * (size // block - 1) + deflate.flush()
    torch.save({"w": torch.zeros(4)}, path)
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            if member.filename.endswith("data/0"):
                target.writestr(member.filename, packed)
                info = target.getinfo(member.filename)
                info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, size
            else:
                content = content.replace(b"K\x04", b"J" + (size // 4).to_bytes(4, "little"))
                target.writestr(member.filename, content)
    path.write_bytes(out.getvalue())
    return path


def in_two_gibibytes(*words: object) -> tuple[int, str]:
    """(exit code, standard error) of `vtbench WORDS` under an address limit."""
    code = textwrap.dedent("""
        import resource
        import torch
        # What the libraries themselves take of addresses is not counted.
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (2 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        from vtbench.cli import main
        main()
    """)
    ran = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    return ran.returncode, ran.stderr


def test_a_bomb_within_two_gibibytes(tmp_path: Path) -> None:
    """6 GiB of zeros in 6 MB: refused before anything is inflated, by every verb that opens a checkpoint."""
    path = bomb(tmp_path / "bomb.pt", 6 * GIBI)
    assert path.stat().st_size < 1 << 23
    code, said = in_two_gibibytes("identify", path)
    assert code == 2, said
    assert "compressed, which torch never writes" in said
    assert said.count("\n") == 1
    assert (
        "compressed" in command("evaluate", "llamagen-vq-ds16-c2i", "--checkpoint", path, "--out", tmp_path / "out")[2]
    )


def test_members_that_share_their_bytes(tmp_path: Path) -> None:
    """A thousand storages that are one stretch of the file."""
    torch.save({f"w{k}": torch.zeros(1000) for k in range(100)}, tmp_path / "x.pt")
    out = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "x.pt") as source, zipfile.ZipFile(out, "w") as target:
        first = None
        for member in source.infolist():
            if "/data/" in member.filename and first is not None:
                info = zipfile.ZipInfo(member.filename)
                info.header_offset, info.CRC = first.header_offset, first.CRC
                info.file_size = info.compress_size = first.file_size
                target.filelist.append(info)
                continue
            target.writestr(member.filename, source.read(member))
            first = target.getinfo(member.filename) if "/data/" in member.filename else first
    (tmp_path / "x.pt").write_bytes(out.getvalue())
    assert "states members of" in refusal(tmp_path / "x.pt")


def test_an_archive_behind_a_pickle_and_two_of_a_name(tmp_path: Path) -> None:
    """What two readers of one file may take for two files."""
    torch.save({"w": torch.zeros(4)}, tmp_path / "x.pt")
    (tmp_path / "y.pt").write_bytes(pickle.dumps({"s": 1}) + (tmp_path / "x.pt").read_bytes())
    assert "holds no tensors" in refusal(tmp_path / "y.pt")
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x/data.pkl", b"")
    assert "twice" in refusal(tmp_path / "x.pt")


# -- pickles -----------------------------------------------------------------------------------------------------------


def as_pickle(content: bytes) -> bytes:
    return b"\x80\x04" + content + b"."


def as_archive(content: bytes, path: Path) -> Path:
    torch.save({"w": torch.zeros(4)}, path)
    return rewritten(path, lambda m, data: (0, as_pickle(content) if m.filename.endswith("data.pkl") else data))


PICKLES = {
    "a place far away": (b"}r\xff\xff\xff\x7f", "to remember its"),
    "a place further away": (b"}p99999999999999999999\n", "to remember its"),
    "nested tuples": (b")" + b"\x85" * 200_000, "nests more than"),
    "nested tuples as a key": (b"})" + b"\x85" * 200_000 + b"K\x01s", "nests more than"),
    "nested lists": (b"]" * 2000 + b"a" * 1999, "nests more than"),
    "a text longer than the file": (b"\x8d" + (1 << 60).to_bytes(8, "little"), "ends before"),
    "bytes longer than the file": (b"\x8e" + (1 << 40).to_bytes(8, "little"), "ends before"),
    "a long longer than the file": (b"\x8b\xff\xff\xff\x7f", "ends before"),
    "a frame longer than the file": (b"\x95" + (1 << 60).to_bytes(8, "little") + b"}", ""),
    "an int of 5,000 digits": (b"I" + b"9" * 5000 + b"\n", ""),
    "more ends than marks": (b"tt", ""),
    "nothing": (b"", ""),
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("kind", ["archive", "plain", "npy", "old"])
def test_pickles_that_ask_for_too_much(name: str, kind: str, tmp_path: Path) -> None:
    content, said = PICKLES[name]
    path = tmp_path / ("x.npy" if kind == "npy" else "x.pt")
    if kind == "archive":
        as_archive(content, path)
    elif kind == "plain":
        path.write_bytes(as_pickle(content))
    elif kind == "npy":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
        path.write_bytes(path.read_bytes()[:128] + as_pickle(content))
    else:
        head = b"".join(pickle.dumps(part, protocol=2) for part in (LEGACY_MAGIC, 1001, {"little_endian": True}))
        path.write_bytes(head + as_pickle(content) + pickle.dumps([], protocol=2))
    assert said in refusal(path)


class Again:
    """An array of bytes that stand in the pickle once."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return np._core.numeric._frombuffer, (self.content, np.dtype(">f4"), (len(self.content) // 4,), "C")


def test_bytes_that_become_an_array_a_thousand_times(tmp_path: Path) -> None:
    """2 GB out of 1 MB; once it is a checkpoint like any other."""
    content = bytes(1 << 20)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({f"w{k}": Again(content) for k in range(2000)}))
    assert "builds many times what it holds" in refusal(tmp_path / "x.pkl") or "not one that" in refusal(
        tmp_path / "x.pkl"
    )
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"w": Again(content), "v": Again(content)}))
    assert [one.shapes() for one in checkpoint.inventories(tmp_path / "x.pkl")] == [{"w": (1 << 18,), "v": (1 << 18,)}]


# -- tensors, names, headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [True, False])
def test_storages_and_tensors_larger_than_the_file(new: bool, tmp_path: Path) -> None:
    """What a pickle states of sizes is not made room for."""
    path, grown = tmp_path / "x.pt", tmp_path / "grown.pt"
    torch.save({"w": torch.zeros(5)}, path, _use_new_zipfile_serialization=new)
    for pattern in (b"K\x05tq" if new else b"K\x05Ntq", b"K\x05\x85q"):
        more = b"J\xff\xff\xff\x7f" + pattern[2:]
        grown.write_bytes(as_archive_of(path, pattern, more) if new else path.read_bytes().replace(pattern, more))
        assert grown.read_bytes() != path.read_bytes()
        if new and pattern.endswith(b"tq"):
            # The storage is what stands in the archive, whatever its pickle says of it.
            assert [one.shapes() for one in checkpoint.inventories(grown)] == [{"w": (5,)}]
        else:
            refusal(grown)


def as_archive_of(path: Path, old: bytes, new: bytes) -> bytes:
    """The archive with other bytes in its pickle."""
    copy = path.with_name("copy.pt")
    copy.write_bytes(path.read_bytes())
    return rewritten(
        copy, lambda m, data: (0, data.replace(old, new) if m.filename.endswith("data.pkl") else data)
    ).read_bytes()
