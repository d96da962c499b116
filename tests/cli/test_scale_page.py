"""docs/scale.md: every command on it is one that vtbench takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from vtbench.cli.main import app
from vtbench.running.request import Request

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text()
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
COMMANDS = [line[line.index("vtbench ") :] for line in LINES if "vtbench " in line]


def test_the_page_shows_one_gpu_eight_a_cluster_and_slurm() -> None:
    assert len(COMMANDS) >= 9
    assert any(line.startswith("torchrun ") for line in LINES)
    assert any(line.startswith("srun ") for line in LINES)
    assert sum("--shard auto" in line for line in COMMANDS) == 3
    assert {"local", "auto"} <= {shlex.split(line.partition("--ray ")[2])[0] for line in COMMANDS if "--ray " in line}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_parsed(line: str) -> None:
    """Every word of it is taken, and what it asks for makes sense together."""
    _, verb, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    parsed = command.make_context(verb, list(words)).params
    if verb == "evaluate":
        assert parsed["models"][0].startswith("MODEL")
        assert parsed["device"] == "cuda"
        shard = "auto" if parsed["shard"] == "auto" else None
        request = Request(parsed["models"], ray=parsed["ray"], workers=parsed["workers"], shard=shard)
        assert (request.ray is None) or (request.workers in (8, 64) and request.shard is None)
    assert parsed.get("out") is not None or verb == "score"
