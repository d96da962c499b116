"""`python -m vtbench.results.schema`: writes the JSON schemas of run.json, rows.jsonl and scores.jsonl to docs/schema/.

They are made from the records that read these files, so a schema says what is read; keys that it does not name are
kept. A run of a newer schema is refused before its fields are looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vtbench.results.record import SCHEMA, Row, RunInfo, Score
from vtbench.results.typed import Record

PUBLISHED: dict[str, tuple[type[Record], str]] = {
    "run": (RunInfo, "run.json"),
    "row": (Row, "a line of rows.jsonl"),
    "score": (Score, "a line of scores.jsonl"),
}
"""{name of the schema: (the record, the file that holds it)}"""
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schema"


def schemas() -> dict[str, dict[str, Any]]:
    """{file: JSON schema (draft 2020-12)} of every published record."""
    out = {}
    for name, (record, where) in PUBLISHED.items():
        head = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"vtbench results, schema {SCHEMA}: {where}",
        }
        out[f"{name}.schema.json"] = {**head, **_plain(record.model_json_schema(by_alias=True, mode="validation"))}
    return out


def _plain(schema: Any) -> Any:
    """Without what says nothing, and what only some releases of pydantic write: titles that repeat a name, and that
    further keys are allowed, which is so wherever a schema does not forbid them."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    named = {k: v for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    return {k: _plain(v) for k, v in named.items() if (k, v) != ("additionalProperties", True)}


def write(folder: Path = FOLDER) -> list[Path]:
    """Writes all schemas into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in schemas().items():
        path = folder / name
        path.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    print(*write(), sep="\n")
