"""A run's own page: where its numbers came from, the command that repeats it, what was claimed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import made_runs
import pytest
from made_runs import score
from site_pages import Reader

from vtbench.leaderboard import runpage
from vtbench.leaderboard.labels import labels
from vtbench.reporting.runs import identity
from vtbench.results.record import read_run


def test_run_pages_say_where_the_numbers_came_from(world: Path) -> None:
    info = json.loads((world / "runs" / "taef2-None" / "run.json").read_text())
    page = Reader((world / "site" / "runs" / f"taef2-{info['id'][:12]}.html").read_text())
    titles = {a.get("title") for _, a in page.elements}
    assert {info["id"], info["suite"]["hash"], info["provenance"]["git"]} <= titles
    assert "cd" * 32 in page.words
    assert "torch" in page.words
    assert "vtbench evaluate taef2" in page.words


def test_what_a_record_does_not_say_is_not_shown_as_nought(world: Path, tmp_path: Path) -> None:
    pages = sorted((world / "site" / "runs").glob("*.html"))
    assert not [page.name for page in pages if "enlarged to the view" in page.read_text()]
    made_runs.write(tmp_path / "a", extra={"enlarged": 0})
    origin = runpage.facts(run := read_run(tmp_path / "a"), [], labels([run], {}))["origin"]
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


def test_claims_stand_beside_measured_values_only_under_one_protocol(tmp_path: Path) -> None:
    folder = made_runs.write(tmp_path / "a", scores=[score("psnr", 31.25)])
    info = json.loads((folder / "run.json").read_text())
    info["model"]["card"]["published"] = [
        {"metric": "psnr", "value": 30.0, "source": "A table", "protocol": "vtbench"},
        {"metric": "psnr", "value": 29.0, "source": "https://example.org/t", "protocol": "magvit2"},
        {"metric": "psnr", "value": 28.0, "source": "javascript:alert(1)", "protocol": None},
    ]
    (folder / "run.json").write_text(json.dumps(info))
    run = read_run(folder)
    claims = runpage.facts(run, [], labels([run], {identity(run): "x.html"}))["claims"]
    assert [c["measured"] for c in claims] == ["31.25", "—", "—"]
    assert [c["url"] for c in claims] == [None, "https://example.org/t", None]
