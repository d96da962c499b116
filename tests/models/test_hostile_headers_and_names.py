"""Tensors, names, headers, indexes and paths that were made to mislead, or are only damaged: one sentence each."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_refusals import clean, refusal
from safetensors.torch import save_file
from support import command

from vtbench.models import checkpoint, weights
from vtbench.models.fill import fill
from vtbench.models.identify import identify_file
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError

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
        archive.getinfo("w.npy").file_size = 6 << 30
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
