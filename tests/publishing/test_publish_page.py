"""docs/publish.md: every command of ours does what the page says, and its workflow is whole."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, command, cuts

import vtbench
from vtbench.publishing.server import Server

TEXT = (ROOT / "docs" / "publish.md").read_text(encoding="utf-8")
SHELL = "".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
OURS = [line for line in SHELL.splitlines() if line.startswith("vtbench ")]
THEIRS = [line for line in SHELL.splitlines() if not line.startswith("vtbench ")]
WORKFLOW: dict[Any, Any] = yaml.safe_load(
    next(iter(re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)))
)
SPACE: dict[str, Any] = yaml.safe_load(next(iter(re.findall(r"^```yaml space\n(.*?)^```", TEXT, re.M | re.S))))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader stands: two runs that he made."""
    folder = tmp_path_factory.mktemp("publish")
    more: dict[str, Any] = {"view": "native", "tasks": ["compression"], "out": folder / "out"}
    vtbench.evaluate("jpeg", images=cuts(folder / "pictures", 2), options={"quality": [5, 60]}, **more)
    return folder


def _done(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command of the page prints, where the reader stands."""
    one, two = sorted((folder / "out").iterdir())
    readers = {"RUN": one, "RUN_A": one, "RUN_B": two, "OLD": folder / "runs", "NEW": folder / "runs"}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Server, "until_stopped", Server.server_close)
    words = [str(readers.get(word, word)) for word in shlex.split(line)[1:]]
    code, out, err = command(*words)
    assert code == 0, f"{line}: {err}"
    return out


def test_every_command_does_what_it_says(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page: what one leaves is what the next takes."""
    said = {line: _done(line, place, monkeypatch) for line in OURS}
    assert len(said) == 10
    assert "verified" in said["vtbench leaderboard verify RUN"]
    assert (place / "run.zip").is_file()
    assert len(list((place / "runs").glob("*/run.json"))) == 1
    assert (place / "site" / "index.html").is_file()
    assert (place / "table.tex").read_text().startswith("% \\usepackage")
    assert said["vtbench leaderboard diff OLD NEW"].startswith("0 came, 0 went, 1 stayed")
    assert said["vtbench export out --format model-index"].startswith("---\nmodel-index:")
    # The workflow, on the repository that they made.
    _workflow_runs(place, monkeypatch)


def _workflow_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps in a checkout of the repository, with the base of a pull request beside it."""
    checkout, before = place / "checkout", place / "before"
    shutil.copytree(place / "runs", checkout / "runs")
    shutil.copytree(place / "runs", before / "runs")
    monkeypatch.chdir(checkout)
    steps = [step["run"] for step in WORKFLOW["jobs"]["build"]["steps"] if "run" in step]
    lines = [line.strip() for step in steps for line in step.splitlines()]
    ours = [line for line in lines if line.startswith("vtbench ")]
    assert [line.split()[2] for line in ours] == ["verify", "diff", "build"]
    assert ours.pop() == "vtbench leaderboard build runs --out site", "the page's own line, which was run"
    for line in ours:
        code, _, err = command(*shlex.split(line.split(" || ")[0])[1:])
        assert code == 0, f"{line}: {err}"
    # As the shell reads it.
    subprocess.run(["bash", "-n"], input="\n".join(steps), text=True, check=True, timeout=20)


def test_the_workflow_is_whole() -> None:
    build, deploy = WORKFLOW["jobs"]["build"], WORKFLOW["jobs"]["deploy"]
    # YAML 1.1 reads `on` as true.
    assert set(WORKFLOW[True]) == {"pull_request", "push"}, "never pull_request_target, which hands out rights"
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "permissions" not in build
    assert build["steps"][0]["with"]["persist-credentials"] is False
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    assert (deploy["needs"], deploy["if"]) == ("build", "github.event_name == 'push'")
    uses = [step["uses"] for job in (build, deploy) for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", one) for one in uses)
    upload = next(step for step in build["steps"] if "upload-pages" in step.get("uses", ""))
    assert upload["with"]["path"] == "site"
    # What others wrote never stands in a shell's text itself.
    assert not [step for job in (build, deploy) for step in job["steps"] if "${{" in step.get("run", "")]


def test_the_space_is_a_static_page() -> None:
    from huggingface_hub import SpaceCardData

    card = SpaceCardData(**SPACE)
    assert (card.sdk, card.app_file) == ("static", "index.html")
    assert set(THEIRS) == {
        "git add runs",
        'git commit -m "A run of jpeg"',
        "cp space/README.md site/README.md",
        'hf upload OWNER/SPACE site . --repo-type space --delete "*"',
    }
