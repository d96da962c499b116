"""CITATION.cff says what the package says of itself; the schema was checked once, with cffconvert --validate."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

from vtbench.types.version import VERSION

ROOT = Path(__file__).resolve().parents[2]


def test_the_citation_agrees_with_the_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited), "what the format demands"
    assert cited["title"] == project["name"]
    assert str(cited["version"]) == VERSION
    assert cited["license"] == project["license"]
    assert cited["repository-code"] == project["urls"]["Documentation"]
    assert cited["authors"] == [{"name": "The vtbench authors"}]
