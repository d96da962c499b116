"""Files that were made to take memory, time or the process, and files that are only damaged: one sentence each."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import textwrap
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import command

from vtbench.models import checkpoint, weights
from vtbench.models.fill import fill
from vtbench.models.identify import identify_file
from vtbench.models.pickle_limits import LEGACY_MAGIC
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError

GIBI = 1 << 30


def refusal(path: Path) -> str:
    """The one sentence about a file that is refused."""
    with pytest.raises(VtbenchError) as caught:
        checkpoint.inventories(path)
    said = str(caught.value)
    assert caught.value.code == 2
    assert clean(said), repr(said)
    return said


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


ODD_TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "meta": lambda: torch.zeros(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ODD_TENSORS)
def test_tensors_that_are_no_plain_ones(name: str, tmp_path: Path) -> None:
    torch.save({"w": ODD_TENSORS[name]()}, tmp_path / "x.pt")
    refusal(tmp_path / "x.pt")


NAMES = (
    "a\nb",
    "\x1b[2J\x1b[31mred",
    "\u202eright to left",
    "\xad\x90",
    ".".join("ab" * 40),
    "",
    "..",
    "\x00",
    "é" * 50,
)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_names_of_tensors_are_text_of_a_sentence(suffix: str, tmp_path: Path) -> None:
    for name in (*NAMES, "w" * 5000):
        path, tensors = tmp_path / f"x{suffix}", {name: torch.zeros(2, 3), "other": torch.zeros(1)}
        if suffix == ".safetensors":
            save_file(tensors, path)
        else:
            torch.save(tensors, path, _use_new_zipfile_serialization=suffix == ".pt")
        if len(name) > 2000:
            assert "a name of 5000 characters" in refusal(path)
            continue
        assert [one.shapes() for one in checkpoint.inventories(path)] == [{name: (2, 3), "other": (1,)}]
        tiny = torch.nn.Linear(1, 1)
        with pytest.raises(VtbenchError) as caught:
            fill(tiny, Card(name="m", family="m", kind="discrete", title="M"), {"model": path})
        assert clean(str(caught.value))


def clean(said: str) -> bool:
    """One line of moderate length, without anything that a terminal acts on."""
    return len(said) < 2100 and not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in said)


def header(stated: bytes, path: Path, length: int | None = None) -> Path:
    path.write_bytes((len(stated) if length is None else length).to_bytes(8, "little") + stated + bytes(64))
    return path


@pytest.mark.parametrize(
    "stated",
    [
        b"[]",
        b"{}",
        b"null",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}',
        b'{"a": {"dtype": "F32", "shape": [1e3], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [18446744073709551615, 2], "data_offsets": [0, 64]}}',
        b'{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F99", "shape": [16], "data_offsets": [0, 64]}}',
        b'{"a": {"dtype": "F32", "shape": [16], "data_offsets": [64, 0]}}',
        b'{"a": ' * 50_000,
        b"[" * 100_000,
    ],
    ids=range(12),
)
def test_safetensors_headers(stated: bytes, tmp_path: Path) -> None:
    refusal(header(stated, tmp_path / "x.safetensors"))


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 1 << 27, 1 << 40, (1 << 64) - 1])
def test_lengths_of_safetensors_headers(length: int, tmp_path: Path) -> None:
    assert "states a header of" in refusal(header(b"{}", tmp_path / "x.safetensors", length))


@pytest.mark.parametrize(
    "stated",
    [
        "[]",
        "null",
        "5",
        '"text"',
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 5}}',
        '{"weight_map": {"a": ["m.bin"]}}',
        '{"weight_map": {"a": null}}',
        '{"weight_map": {"a": "/dev/zero"}}',
        '{"weight_map": {"a": "../m.bin"}}',
        '{"weight_map": {"a": ".."}}',
        '{"weight_map": {"a": "."}}',
        '{"weight_map": {"a": "a\\u0000b"}}',
        '{"weight_map": {"a": "x\\ny"}}',
        '{"weight_map": {"a": "\\ud800"}}',
        '{"weight_map": {"a": "folder"}}',
        '{"weight_map": {"a": "pipe"}}',
        '{"weight_map": {"a": "nowhere"}}',
        '{"weight_map": ' * 30_000,
        '{"weight_map": {"a": ' + "9" * 5000 + "}}",
        "\xff",
        "",
    ],
    ids=range(24),
)
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_indexes(stated: str, suffix: str, tmp_path: Path) -> None:
    """By the file and by its folder."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    index = tmp_path / f"m.{suffix}.index.json"
    index.write_bytes(stated.encode("latin-1"))
    assert refusal(index) == refusal(tmp_path)


def test_arrays_that_unfold_and_arrays_that_state_more(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", w=np.zeros(4, np.float32))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for shape in ("(1099511627776,)", "(-1,)", "(3, -3)", "(0,)", "(" * 300, "(True, 5)", "('a',)"):
            head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
            content = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(64)
            (tmp_path / "x.npy").write_bytes(content)
            if shape != "(0,)":
                refusal(tmp_path / "x.npy")
        archive.writestr("w.npy", content)
        archive.getinfo("w.npy").file_size = 6 * GIBI
    assert "unfolds to" in refusal(tmp_path / "x.npz")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    for path in sorted(tmp_path.iterdir()):
        refusal(path)
    for path in ("pipe.pt", "loop.pt", "zero.pt", "a\nb.pt"):
        code, _, said = command("identify", tmp_path / path)
        assert code == 2
        assert clean(said[:-1])


@pytest.mark.parametrize("name", ["pipe", "zero", "full", "loop", "n" * 300, "in/here"])
def test_a_checkpoint_that_is_no_file(name: str, tmp_path: Path) -> None:
    """Hashed before it is read: a pipe would be waited for, and a device has no end."""
    os.mkfifo(tmp_path / "pipe")
    for device in ("zero", "full"):
        (tmp_path / device).symlink_to(f"/dev/{device}")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "in").write_text("a file")
    card = Card(name="m", family="m", kind="discrete", title="M", weights=(Weights(file="m.pt"),))
    with pytest.raises(VtbenchError, match=r"is no regular file|does not exist") as caught:
        weights.find(card, tmp_path / name)
    assert caught.value.code == 2


def test_identify_says_one_sentence_and_python_the_rest(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(VtbenchError) as caught:
        identify_file(tmp_path / "x.pt")
    assert caught.value.__cause__ is not None, "--debug has nothing to show"
