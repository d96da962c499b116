"""What a damaged file of results says: one sentence with the file, the line and the field, and never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtbench.results.drawings import read_drawing_record, read_notes, read_samples
from vtbench.results.files import read_json, read_lines
from vtbench.results.record import read_run
from vtbench.types.errors import VtbenchError

RECORDED = Path(__file__).resolve().parents[1] / "data" / "runs_schema1" / "runs" / "generation"
READERS: dict[str, Callable[[Path], object]] = {
    "run.json": read_run,
    "rows.jsonl": lambda folder: list(read_run(folder).rows()),
    "scores.jsonl": read_run,
    "generated/generate.json": lambda folder: read_drawing_record(folder / "generated"),
    "generated/samples.jsonl": lambda folder: list(read_samples(folder / "generated")),
}
FIELDS = {
    # file: (a number, where it stands; an object, where it stands)
    "run.json": (("batch_size",), ("model",)),
    "rows.jsonl": (("seconds", "generate"), ("values",)),
    "scores.jsonl": (("value",), ("details",)),
    "generated/generate.json": (("per_prompt",), ("model",)),
    "generated/samples.jsonl": (("seconds",), ("cost",)),
}
LINE = 2
"""The line of a JSONL file that is damaged."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (recorded,) = RECORDED.iterdir()
    return Path(shutil.copytree(recorded, tmp_path / "run"))


def refused(folder: Path, name: str) -> str:
    with pytest.raises(VtbenchError) as caught:
        READERS[name](folder)
    sentence = str(caught.value)
    assert caught.value.code == 2
    assert str(folder / name) in sentence
    assert "\n" not in sentence
    assert len(sentence) < 400 + len(str(folder))
    if name.endswith(".jsonl"):
        assert f"line {LINE}" in sentence
    return sentence


def record(path: Path) -> dict[str, Any]:
    text = path.read_text()
    return json.loads(text.splitlines()[LINE - 1] if path.suffix == ".jsonl" else text)


def damage(path: Path, text: str | bytes) -> None:
    """`text` in place of the record, or of line 2."""
    data = text.encode() if isinstance(text, str) else text
    if path.suffix == ".jsonl":
        lines = path.read_bytes().splitlines(keepends=True)
        lines[LINE - 1] = data.replace(b"\n", b" ") + b"\n"
        data = b"".join(lines)
    path.write_bytes(data)


def replaced(value: dict[str, Any], place: tuple[str, ...], text: str) -> str:
    """The record as JSON, with `text` standing at `place`."""
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = "@@"
    return json.dumps(value).replace('"@@"', text)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_no_number_of_json(folder: Path, name: str, number: str) -> None:
    place, _ = FIELDS[name]
    damage(folder / name, replaced(record(folder / name), place, number))
    sentence = refused(folder, name)
    assert number.lstrip("-") in sentence
    assert "damaged" in sentence


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", ['"1.5"', '"1"', "[1]", "{}", "true"])
def test_what_is_no_number_where_one_was_wanted(folder: Path, name: str, value: str) -> None:
    place, _ = FIELDS[name]
    if place == ("seconds", "generate"):
        place = ("bits",)
    damage(folder / name, replaced(record(folder / name), place, value))
    sentence = refused(folder, name)
    assert ".".join(place) in sentence
    assert repr(json.loads(value)) in sentence


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", ["[]", "[1, 2]", '"text"', "7", "null"])
def test_what_is_no_object_where_one_was_wanted(folder: Path, name: str, value: str) -> None:
    _, place = FIELDS[name]
    damage(folder / name, replaced(record(folder / name), place, value))
    sentence = refused(folder, name)
    assert ".".join(place) in sentence
    assert repr(json.loads(value)) in sentence


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("whole", ["[]", "[{}]", '"text"', "7", "null", "true"])
def test_a_record_that_is_no_object(folder: Path, name: str, whole: str) -> None:
    damage(folder / name, whole)
    refused(folder, name)


@pytest.mark.parametrize("name", FIELDS)
def test_a_truncated_file(folder: Path, name: str) -> None:
    path = folder / name
    text = path.read_bytes() if path.suffix == ".json" else path.read_bytes().splitlines()[LINE - 1]
    damage(path, text[: len(text) // 2])
    assert "damaged" in refused(folder, name)


@pytest.mark.parametrize("name", FIELDS)
def test_a_deeply_nested_file(folder: Path, name: str) -> None:
    damage(folder / name, '{"a": ' * 100_000 + "1" + "}" * 100_000)
    assert "damaged" in refused(folder, name)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("data", [b"\x00\x01\x02\xff\xfe", b"\x89PNG\r\x1a", b"\xff" * 40, b"", b"\xef\xbb\xbf{}"])
def test_a_binary_or_empty_file(folder: Path, name: str, data: bytes) -> None:
    damage(folder / name, data)
    refused(folder, name)


@pytest.mark.parametrize("name", FIELDS)
def test_whole_numbers_that_no_float_holds(folder: Path, name: str) -> None:
    place, _ = FIELDS[name]
    if place == ("seconds", "generate"):
        place = ("bits",)
    for digits in (400, 5000):
        damage(folder / name, replaced(record(folder / name), place, "1" + "0" * digits))
        assert "too large for a number" in refused(folder, name)


@pytest.mark.parametrize("name", FIELDS)
def test_half_a_character(folder: Path, name: str) -> None:
    """A lone surrogate, which JSON can spell and no file can hold."""
    _, place = FIELDS[name]
    damage(folder / name, replaced(record(folder / name), place, '{"\\ud800": "\\udcff"}'))
    assert "damaged" in refused(folder, name)


@pytest.mark.parametrize("name", ["scores.jsonl", "rows.jsonl", "generated/samples.jsonl"])
def test_a_field_that_is_missing(folder: Path, name: str) -> None:
    key = {"scores.jsonl": "metric", "rows.jsonl": "item", "generated/samples.jsonl": "sha256"}[name]
    value = record(folder / name)
    del value[key]
    damage(folder / name, json.dumps(value))
    assert key in refused(folder, name)


def test_keys_of_a_newer_patch_pass_through(folder: Path) -> None:
    info = json.loads((folder / "run.json").read_text())
    info["model"]["colour"] = info["mood"] = {"of": [1, None]}
    (folder / "run.json").write_text(json.dumps(info))
    run = read_run(folder)
    assert run.info.model["colour"] == run.info["mood"] == {"of": [1, None]}
    assert run.info.as_dict() == info


def test_a_hand_written_samples_file_needs_the_files_name_only(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"file": "a.png"}\n{"file": "b.png", "text": "a cat", "label": 3}\n')
    first, second = read_notes(path)
    assert first.meta() == {"prompt": None, "label": None}
    assert (second.meta(), second.label) == ({"prompt": "a cat", "label": 3}, 3)
    path.write_text('{"file": "a.png", "label": "three"}\n')
    with pytest.raises(VtbenchError, match="line 1: label is 'three'"):
        list(read_notes(path))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """A folder in a file's place; rights would not keep the superuser out."""
    (tmp_path / "run.json").mkdir()
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(VtbenchError, match=r"run\.json cannot be read"):
        read_json(tmp_path / "run.json")
    with pytest.raises(VtbenchError, match=r"rows\.jsonl cannot be read"):
        list(read_lines(tmp_path / "rows.jsonl"))
