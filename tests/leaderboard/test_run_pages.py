"""A run's block on its model's page: where its numbers came from, and the command that repeats it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import made_runs
import pytest
from site_pages import Reader

from vtbench.leaderboard import runpage
from vtbench.leaderboard.labels import labels
from vtbench.results.record import read_run


def test_run_pages_say_where_the_numbers_came_from(world: Path) -> None:
    info = json.loads((world / "runs" / "taef2-None" / "run.json").read_text())
    page = Reader((world / "site" / "model" / "taef2.html").read_text())
    titles = {a.get("title") for _, a in page.elements}
    assert {info["id"], info["suite"]["hash"], info["provenance"]["git"]} <= titles
    assert "cd" * 32 in page.words
    assert "torch" in page.words
    assert "vtbench evaluate taef2" in page.words


def test_what_a_record_does_not_say_is_not_shown_as_nought(world: Path, tmp_path: Path) -> None:
    pages = sorted((world / "site" / "model").glob("*.html"))
    assert not [page.name for page in pages if "enlarged to the view" in page.read_text()]
    made_runs.write(tmp_path / "a", extra={"enlarged": 0})
    origin = runpage.facts(run := read_run(tmp_path / "a"), labels([run], {}))["origin"]
    assert ("images enlarged to the view", "0", None) in origin


def test_command_survives_a_shell(tmp_path: Path) -> None:
    mode = "a b; rm -rf $HOME"
    made_runs.write(tmp_path / "a", name="my file.py@x", options={"budget": 64, "mode": mode}, limit=3)
    line = runpage.command(read_run(tmp_path / "a"))
    assert shlex.split(line)[:3] == ["vtbench", "evaluate", "my file.py@x"]
    assert shlex.split(line)[3:7] == ["--option", "budget=64", "--option", f"mode={mode}"]
    assert shlex.split(line)[-2:] == ["--limit", "3"]


@pytest.mark.parametrize(
    ("status", "asked"), [("official", False), ("own", True), ("unverified", True), ("none", False)]
)
def test_command_asks_for_a_file_that_only_the_user_has(status: str, asked: bool, tmp_path: Path) -> None:
    weights = {"status": status, "files": [{"file": "model.safetensors", "sha256": "ab" * 32}]}
    made_runs.write(tmp_path / "a", weights=weights)
    assert ("--checkpoint" in runpage.command(read_run(tmp_path / "a"))) is asked
