"""The published JSON schemas are those of the records that read the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vtbench.results import schema

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(schema.schemas()))
def test_docs_hold_the_schema_of_the_record(name: str) -> None:
    stored = json.loads((ROOT / "docs" / "schema" / name).read_text(encoding="utf-8"))
    assert stored == schema.schemas()[name], "run `python -m vtbench.results.schema`"


def test_nothing_else_is_published() -> None:
    assert {p.name for p in (ROOT / "docs" / "schema").iterdir()} == set(schema.schemas())


def test_a_schema_states_what_the_record_wants(tmp_path: Path) -> None:
    schema.write(tmp_path)
    run = json.loads((tmp_path / "run.schema.json").read_text())
    assert run["required"] == ["schema"]
    assert run["properties"]["schema"] == {"type": "integer"}
    assert run["properties"]["shard"]["anyOf"][0] == {
        "type": "array",
        "items": {"type": "integer"},
        "minItems": 2,
        "maxItems": 2,
    }
    score = json.loads((tmp_path / "score.schema.json").read_text())
    assert score["required"] == ["metric"]
    assert {"type": "number"} in score["properties"]["value"]["anyOf"]
