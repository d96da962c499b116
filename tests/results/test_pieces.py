"""JSON in pieces is the JSON of the whole, byte for byte; a row at a time."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from vtbench.cli.main import app
from vtbench.results import pieces as long_json
from vtbench.results.files import plain, write_atomic, write_json
from vtbench.results.kept_rows import KeptRows
from vtbench.results.pieces import pieces
from vtbench.types.errors import VtbenchError

ROWS = [{"item": f"é\n{k}", "values": {"psnr": k / 3, "ssim": None}, "why": {}, "size": [k, 2]} for k in range(30)]


def whole(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False)


def with_lists(value: Any) -> Any:
    if isinstance(value, KeptRows):
        return list(value)
    if isinstance(value, dict):
        return {key: with_lists(part) for key, part in value.items()}
    return [with_lists(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    "value",
    [
        None,
        "a\nb",
        {},
        [],
        {"a": [], 3: {"é": 1.5}, "p": Path("x")},
        KeptRows(),
        KeptRows(ROWS),
        {"rows": KeptRows()},
        {"schema": 1, "candidates": [{"path": Path("a"), "rows": KeptRows(ROWS)}, {"rows": KeptRows(ROWS[:1])}, {}]},
        [KeptRows(ROWS), "x", (KeptRows(ROWS), 1)],
    ],
)
@pytest.mark.parametrize("long", [1, 1 << 16])
def test_the_pieces_are_the_whole(value: Any, long: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_json, "LONG", long)
    assert "".join(pieces(value)) == whole(with_lists(value))
    write_json(tmp_path / "whole.json", with_lists(value))
    write_atomic(tmp_path / "pieces.json", [*pieces(value), "\n"])
    assert (tmp_path / "pieces.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_what_json_cannot_hold_is_refused_before_a_piece_is_given() -> None:
    with pytest.raises(VtbenchError, match="nan"):
        pieces({"rows": KeptRows(ROWS), "last": float("nan")})


def test_no_more_than_some_rows_are_in_memory(tmp_path: Path) -> None:
    many = 4000
    value = {"rows": KeptRows(ROWS[k % 30] for k in range(many))}
    length = len("".join(pieces(value)))
    tracemalloc.start()
    write_atomic(tmp_path / "rows.json", pieces(value))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "rows.json").stat().st_size > length > 100 * many
    assert most < 600_000


def test_a_score_is_written_as_its_dict(tmp_path: Path) -> None:
    images, file = tmp_path / "images", tmp_path / "scores.json"
    images.mkdir()
    for grey in (10, 20, 30):
        Image.new("RGB", (32, 32), (grey, 0, grey)).save(images / f"{grey}.png")
    command = ["score", str(images), str(images), "--metrics", "mse,psnr", "--json", "--json-file", str(file)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout.encode() == file.read_bytes()
    stated = json.loads(done.stdout)
    assert done.stdout == whole(stated) + "\n"
    assert len(stated["candidates"][0]["rows"]) > 1
