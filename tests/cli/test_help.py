"""`vtbench --help` in groups, and an example in the help of every verb: found by itself, and does what it says."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support import ROOT, command, cuts, parsed

from vtbench.cli import app
from vtbench.cli.verbs import BEGIN, GROUPS, KEEP, MEASURE, OWN, READ, VERBS

COMMAND: Any = typer.main.get_command(app)
RUNS = ROOT / "tests" / "data" / "runs_schema1" / "runs"
READERS = {
    "DIR": "ORIGINALS",
    "RUN_A": "runs/a",
    "RUN_B": "runs/b",
    "RUN": "runs/a",
    "SHARDS": "shards",
    "FIXTURE.json": str(ROOT / "tests" / "parity" / "tokenbridge__one-channel.json"),
}
"""What a reader has in place of a word in capitals."""
DONE = (
    "list",
    "compare",
    "new",
    "runs list",
    "runs rm",
    "cache list",
    "cache prune",
    "suite freeze",
    "geneval score",
    "geneval prompts",
    "adapter manifest",
)
"""Verbs whose examples are carried out here: what takes no second. The others' are parsed, and README's are run."""


def examples() -> Iterator[tuple[str, str]]:
    """(verb, example) of the texts that the terminal shows."""

    def below(verb: Any, name: str) -> Iterator[tuple[str, str]]:
        lines = (verb.epilog or "").split("\n\n")
        if not hasattr(verb, "commands"):
            yield from ((name, line) for line in lines if line.startswith("vtbench "))
        for word, inner in getattr(verb, "commands", {}).items():
            yield from below(inner, f"{name} {word}".strip())

    yield from below(COMMAND, "")


ALL = list(examples())


def words_of(example: str) -> list[str]:
    program, *words = shlex.split(example)
    assert program == "vtbench"
    return [
        READERS.get(word.partition("/")[0], word.partition("/")[0]) + "".join(word.partition("/")[1:]) for word in words
    ]


def verbs(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    for word, inner in group.commands.items():
        path = f"{name} {word}".strip()
        if hasattr(inner, "commands"):
            yield from verbs(inner, path)
        else:
            yield path, inner


def test_every_verb_has_an_example_of_its_own() -> None:
    assert {verb for verb, _ in ALL} == {name for name, _ in verbs(COMMAND)}
    for verb, example in ALL:
        # A group's first verb needs no name.
        assert example.startswith((f"vtbench {verb}", f"vtbench {verb.removesuffix(' list')}")), example


@pytest.mark.parametrize(("verb", "example"), ALL, ids=[example for _, example in ALL])
def test_an_example_is_what_its_verb_takes(verb: str, example: str) -> None:
    """Every option is known and every value of its kind; nothing is done."""
    assert parsed(*words_of(example)) is not None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a reader has, which is where he stands."""
    folder = tmp_path
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VTBENCH_CACHE", str(folder / "cache"))
    cuts(folder / "ORIGINALS", 2)
    first, second = sorted(RUNS.glob("curve/*"))[:2]
    shutil.copytree(first, folder / "runs" / "a")
    shutil.copytree(second, folder / "runs" / "b")
    shutil.copytree(first, folder / "out" / "a")
    clause = {"class": "cat", "count": 1, "color": "red"}
    case = {"metadata": {"tag": "colors", "prompt": "", "include": [clause]}, "detections": []}
    (folder / "cases.jsonl").write_text(json.dumps(case))
    return folder


@pytest.mark.parametrize("example", [example for verb, example in ALL if verb in DONE])
def test_an_example_does_what_it_says(example: str, place: Path) -> None:
    code, _, err = command(*words_of(example))
    assert code == 0, err


def test_the_whole_help_is_in_groups() -> None:
    code, out, _ = command("--help")
    assert code == 0
    places = [out.index(f"─ {heading} ─") for heading in (BEGIN, MEASURE, READ, OWN, KEEP)]
    assert places == sorted(places)
    assert "─ Commands ─" not in out, "a verb without a group"
    for name in [verb.name for verb in VERBS] + [group.name for group in GROUPS]:
        assert f"│ {name} " in out


@pytest.mark.parametrize("verb", ["evaluate", "runs", "suite freeze"])
def test_the_help_of_a_verb_shows_it(verb: str) -> None:
    code, out, _ = command(*verb.split(), "--help")
    assert code == 0
    assert "Example" in out
    (shown, *_) = [line.strip() for line in out.splitlines() if line.strip().startswith("vtbench ")]
    assert shown.startswith(f"vtbench {verb}")
