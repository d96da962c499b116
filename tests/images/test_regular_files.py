"""Regular files of a stated size only: everything else is refused by name, at once, and never opened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, noise, save
from PIL import Image
from support import ROOT, command

from vtbench.images.limits import FILE_LIMIT, PIXEL_LIMIT
from vtbench.images.opening import open_suite
from vtbench.images.reading import BadImage, decode, header_size
from vtbench.images.stream import originals
from vtbench.images.views import View


def _socket(path: Path) -> None:
    # The address of a socket has 100 bytes at most, so it is made from its own folder.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as out:
        out.truncate(1 << 40)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is no regular file but a pipe"),
    "socket": (_socket, "is no regular file but a socket"),
    "link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "is no regular file but a device"),
    "link to a link to /dev/zero": (lambda path: _twice(path), "is no regular file but a device"),
    "a terabyte of nothing": (_sparse, f"has {1 << 40} bytes, the limit of an image file is {FILE_LIMIT}"),
}


def _twice(path: Path) -> None:
    (path.parent / "between").symlink_to("/dev/zero")
    path.symlink_to(path.parent / "between")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    """In a folder that is listed, hashed, measured by headers and read."""
    make, why = KINDS[kind]
    save(tmp_path / "a.png", noise(4, 4))
    make(tmp_path / "x.png")
    suite = open_suite(str(tmp_path))
    assert len(suite.hash) == 64
    with pytest.raises(BadImage, match=why):
        header_size(tmp_path / "x.png")
    (batch,) = originals(suite, View.parse("native"), suite.items, 4)
    assert batch[0].rgb is not None
    assert why in str(batch[1].why)
    assert str(batch[1].why).startswith("x.png ")


def test_a_pair_with_a_pipe_is_scored_without_it(tmp_path: Path) -> None:
    for side in ("ref", "cand"):
        save(tmp_path / side / "a.png", noise(4, 4))
        os.mkfifo(tmp_path / side / "x.png")
    code, out, err = command("score", tmp_path / "ref", tmp_path / "cand", "--metrics", "mse")
    assert code == 1
    assert "n=1" in out
    assert "x.png is no regular file but a pipe" in err


def test_pixel_counts_are_true_ones(tmp_path: Path) -> None:
    """Pillow refuses above 178,956,970 pixels by itself, with a number of its own; ours is 268,435,456."""
    wide = Image.new("1", (20_000, 13_000))
    assert 178_956_970 < wide.width * wide.height < PIXEL_LIMIT
    path = tmp_path / "x.png"
    wide.save(path)
    assert header_size(path) == (20_000, 13_000)
    out = bytearray(encoded(Image.new("1", (64, 64)), "BMP"))
    # Above twice our limit Pillow refuses on opening, in words of its own.
    for side in (20_000, 40_000):
        out[18:26] = np.array([side, side], "<u4").tobytes()
        with pytest.raises(BadImage, match=f"{side} x {side}|{side * side} pixels") as refused:
            decode(bytes(out), "x")
        assert f"the limit is {PIXEL_LIMIT}" in str(refused.value)


def test_a_limit_that_somebody_set_higher_stays(tmp_path: Path) -> None:
    code = "from PIL import Image; Image.MAX_IMAGE_PIXELS = None; from vtbench.images.reading import formats; formats()"
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; print(Image.MAX_IMAGE_PIXELS)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert told.stdout.strip() == "None"
