"""Rows on the disk behave as the list that they were, and leave no file."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest

from vtbench.results.kept_rows import KeptRows

ROWS: list[dict[str, Any]] = [
    {"item": "a\n√.png", "values": {"psnr": 0.1 + 0.2, "ssim": 1.0}, "why": {}, "size": [3, 4]},
    {"item": "b", "values": {}, "why": {"*": "no picture"}},
    {"item": "c", "values": {"psnr": 5e-324, "mse": 1e300}, "why": {}, "flags": {"black": True}},
]


def test_they_are_the_list_that_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = KeptRows(row for row in ROWS)
    assert (len(rows), list(rows), rows[1], rows[-1], rows[1:]) == (3, ROWS, ROWS[1], ROWS[2], ROWS[1:])
    assert json.dumps(list(rows)) == json.dumps(ROWS)
    assert rows == ROWS
    assert rows == KeptRows(ROWS)
    assert rows != ROWS[:2]
    assert rows != 3
    assert pickle.loads(pickle.dumps(rows)) == ROWS
    rows[0]["item"] = "another"
    assert rows[0] == ROWS[0]
    with pytest.raises(IndexError):
        rows[3]
    assert (len(KeptRows()), bool(KeptRows()), repr(rows)) == (0, False, "<3 rows>")
    assert not list(tmp_path.iterdir())
