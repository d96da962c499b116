"""Files from elsewhere: whatever their reader raises becomes one sentence about the file, and a wrong question."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vtbench.types.errors import VtbenchError
from vtbench.types.shortage import refuse_shortage

LARGEST_JSON = 1 << 26
"""Bytes: an index of a million tensors."""
SHOWN = 160
"""Characters of a library's own words that a sentence holds."""


@contextlib.contextmanager
def reading(path: Path | str, kind: str, advice: str = "the file is truncated or damaged") -> Iterator[None]:
    """THE boundary of readers: what is raised inside, VtbenchError aside, is "PATH cannot be read as KIND (cause):
    advice". A damaged file makes libraries raise anything, and one that was made for it more. What this process or its
    machine lacks (open files, memory, disk) is Short, and no fault of the file."""
    try:
        yield
    except (VtbenchError, ImportError):
        # A library that is not here, or cannot be loaded, is no fault of the file.
        raise
    except Exception as bad:
        refuse_shortage(bad, path)
        raise VtbenchError(f"{path} cannot be read as {kind} ({cause(bad)}): {advice}") from bad


def cause(bad: BaseException) -> str:
    """What was raised, in a few words on one line. torch goes on to advise loading a file unsafely: that is cut."""
    if isinstance(bad, OSError) and bad.strerror:
        return bad.strerror
    if isinstance(bad, RecursionError):
        return "it is nested too deeply"
    if isinstance(bad, MemoryError):
        return "it would take more memory than there is"
    lines = str(bad).strip().splitlines()
    text = lines[0].split(". ")[0][:SHOWN] if lines else ""
    return f"{type(bad).__name__}: {text}" if text else type(bad).__name__


def read_object(path: Path, advice: str = "fetch it again") -> dict[str, Any]:
    """The object in a JSON file of somebody else's."""
    with reading(path, "JSON", advice):
        size = path.stat().st_size
        if not path.is_file() or size > LARGEST_JSON:
            raise VtbenchError(f"{path} is no file of at most {LARGEST_JSON} bytes: {advice}")
        value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise VtbenchError(f"{path} holds a {type(value).__name__}, wanted an object: {advice}")
    return value
