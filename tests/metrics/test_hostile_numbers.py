"""Statistics, arrays and metric weights from elsewhere: what they state is checked before room is made for it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtbench.images.arrays import open_npz
from vtbench.images.npz import names_in_npz, read_arrays
from vtbench.metrics import moments, weights
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import read_object, reading

SHAPES = ("(1099511627776,)", "(-1,)", "(True, 5)", "('a',)", "(" * 300, "(2, 1e3)")


def npy(shape: str, dtype: str = "<f8", values: bytes = bytes(64)) -> bytes:
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + values


def archive(path: Path, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in parts.items():
            target.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_that_state_more_than_they_hold(shape: str, tmp_path: Path) -> None:
    whole = archive(tmp_path / "x.npz", mu=npy("(2,)", values=bytes(16)), sigma=npy("(2, 2)", values=bytes(32)))
    assert moments.load(whole).dim == 2
    for name in ("mu", "sigma", "n"):
        parts = {"mu": npy("(2,)"), "sigma": npy("(2, 2)"), "n": npy("()"), name: npy(shape)}
        with pytest.raises(VtbenchError, match=r"cannot be read as \.npz"):
            moments.load(archive(tmp_path / "x.npz", **parts))


def test_statistics_that_unfold(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", mu=npy("(2,)"), sigma=npy("(2, 2)"))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = (0xF0000000).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(VtbenchError, match="unfolds to"):
        moments.load(path)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mu=np.array([{}], dtype=object), sigma=np.eye(1))
    with pytest.raises(VtbenchError, match="never unpickled"):
        moments.load(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [{"mu": "x", "sigma": 1}, {"mu": [1.0]}, [], 5, {"mu": {}, "sigma": {}}])
def test_other_caches(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(VtbenchError):
        moments.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "labels", [npy("(1099511627776,)", "<i8"), npy("(3,)", "<i8"), npy("(2,)", "|O"), npy("(2,)", "<i8", b"")]
)
def test_labels_of_a_set(labels: bytes, tmp_path: Path) -> None:
    images = io.BytesIO()
    np.save(images, np.zeros((2, 4, 4, 3), np.uint8))
    path = archive(tmp_path / "x.npz", arr_0=images.getvalue(), arr_1=labels)
    try:
        assert open_npz(path).labels is None, "objects are no labels"
    except VtbenchError as bad:
        assert "labels" in str(bad) or "ends early" in str(bad)  # noqa: PT017


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x93NUMPY", bytes(100)])
def test_what_is_no_archive(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(data)
    for read in (moments.load, open_npz):
        with pytest.raises(VtbenchError):
            read(tmp_path / "x.npz")
    with pytest.raises(VtbenchError):
        read_arrays(tmp_path / "gone.npz", ("mu",))
    with pytest.raises(VtbenchError):
        names_in_npz(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04})" + b"\x85" * 200_000 + b"K\x01s.", b"\x80\x04N."])
def test_metric_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(VtbenchError) as caught:
        weights.load_state("lpips-alex", tmp_path / "x.pth")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["[]", "5", "null", "{" * 100_000, '{"a": ' + "9" * 5000 + "}", "\xff", "", '{"a": 1'])
def test_configurations_of_libraries(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(VtbenchError, match=r"config\.json .*: fetch it again"):
        read_object(path)
    path.write_text(json.dumps({"a": 1}))
    assert read_object(path) == {"a": 1}


def test_a_library_that_is_not_here_is_no_fault_of_the_file() -> None:
    with pytest.raises(ImportError), reading("x", "a checkpoint"):
        raise ImportError("libtorch is not here")
