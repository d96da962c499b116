"""Bytecode that Python would take for a file's is found where it is of another text; Python says what it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from vtbench.types import bytecode
from vtbench.types.bytecode import is_stale

ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def python(code: str, folder: Path) -> str:
    """What a new process prints, in the folder."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True
    ).stdout.strip()


def write(path: Path, number: int) -> None:
    path.write_text(f"N = {number}\n")
    os.utime(path, (10**9, 10**9))


def test_python_takes_the_older_text_and_it_is_found(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    write(path, 7)
    assert python("import one; print(one.N)", tmp_path) == "7"
    assert not is_stale(path, path.read_bytes())
    write(path, 1)
    assert python("import one; print(one.N)", tmp_path) == "7", "Python noticed: nothing to be found"
    assert is_stale(path, path.read_bytes())
    # It is gone now.
    assert python("import one; print(one.N)", tmp_path) == "1"
    assert not is_stale(path, path.read_bytes())


@pytest.mark.parametrize("change", ["touched", "longer", "none kept", "damaged"])
def test_what_python_would_not_take_is_no_trouble(change: str, tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    write(path, 7)
    if change != "none kept":
        python("import one", tmp_path)
    if change == "touched":
        # As a copy of a whole installation has it: the text is newer, and the same.
        path.chmod(0o644)
    if change == "longer":
        write(path, 10)
    if change == "damaged":
        next((tmp_path / "__pycache__").iterdir()).write_bytes(b"short")
    assert not is_stale(path, path.read_bytes())


def test_the_standard_library_is_known_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.13 on, sysconfig imports a file to answer, and every import asks: vtbench did not begin there."""
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: pytest.fail("asked while it imports"))
    bytecode._standard_library.cache_clear()
    assert bytecode.is_library(Path(json.__file__))
    assert not bytecode.is_library(Path(bytecode.__file__))
