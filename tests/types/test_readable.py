"""Numbers of bytes as people say them, and what somebody's code opened."""

from __future__ import annotations

import ctypes
import sqlite3
from pathlib import Path

import pytest

from vtbench.types.opened import Opened, noting
from vtbench.types.readable import bytes_in_words, readable


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9940, "9.9 kB"),
        (10_000, "10 kB"),
        (820_000_000, "820 MB"),
        (1_600_000_000, "1.6 GB"),
        (2_500_000_000_000_000, "2500 TB"),
    ],
)
def test_bytes_are_said_in_thousands(count: int, words: str) -> None:
    assert bytes_in_words(count) == words


def test_a_lone_surrogate_is_its_byte_and_others_are_named() -> None:
    assert readable("\udcff") == "\\xff"
    assert readable("\udc80é") == "\\x80é"
    assert readable("\ud800") == "\\ud800"


def test_what_is_read_is_noted_and_what_is_written_first_is_not(tmp_path: Path) -> None:
    read, written, changed = (tmp_path / name for name in ("read", "written", "changed"))
    for path in (read, changed):
        path.write_text("x")
    library = Path(str(__import__("_ctypes").__file__))
    opened = Opened()
    with noting(opened):
        read.read_text()
        written.write_text("y")
        written.read_text()
        with changed.open("r+") as file:
            file.write("z")
        ctypes.CDLL(str(library))
        sqlite3.connect(tmp_path / "base").close()
    names = [Path(path).name for path in opened.paths]
    assert [n for n in names if n in ("read", "written", "changed", "base")] == ["read", "changed", "base"]
    assert str(library) in opened.paths
    with noting(None):
        written.read_text()
    assert str(written) not in opened.paths
