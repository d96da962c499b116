"""Submissions that are changed, and made anew with sums that fit."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vtbench.results.sums import SUMS, as_text, write_sums


def change_record(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    info = json.loads((path / "run.json").read_text())
    change(info)
    (path / "run.json").write_text(json.dumps(info, indent=1) + "\n")
    write_sums(path)


def of_quality(runs: Path, quality: int) -> Path:
    """Folders are named by ids, which are others for every state of the code."""
    infos = {path: json.loads((path / "run.json").read_text()) for path in runs.iterdir()}
    return next(path for path, info in infos.items() if info["model"]["options"] == {"quality": quality})


def made_anew(file: Path, contents: dict[str, bytes], *, sums: bool = True) -> Path:
    """A zip of these files, with the sums that fit them."""
    contents = dict(contents)
    if sums:
        contents[SUMS] = as_text({n: hashlib.sha256(d).hexdigest() for n, d in contents.items() if n != SUMS}).encode()
    with zipfile.ZipFile(file, "w") as sink:
        for name, data in contents.items():
            sink.writestr(name, data)
    return file


def contents_of(submission: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(submission) as opened:
        return {name: opened.read(name) for name in opened.namelist()}
