"""--json is a switch in every verb that answers, and standard output then holds JSON and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from vtbench.cli.main import app


def verbs(group: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    out = []
    for name, command in group.commands.items():
        out += verbs(command, (*above, name)) if hasattr(command, "commands") else [(*above, name)]
    return out


VERBS = verbs(get_command(app))


def options(words: tuple[str, ...]) -> set[str]:
    command = get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    return {spelt for param in command.params for spelt in param.opts if param.param_type_name == "option"}


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_has_the_switch(words: tuple[str, ...]) -> None:
    assert "--json" in options(words)


def test_every_verb_is_looked_at() -> None:
    assert len(VERBS) >= 22
    assert {("evaluate",), ("runs", "rm"), ("adapter", "parity"), ("geneval", "detect")} <= set(VERBS)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of two metrics; a name of a task is known once a process."""
    path = tmp_path_factory.mktemp("tasks") / "quick.py"
    path.write_text(TASK)
    return path


@pytest.fixture
def place(tmp_path: Path, quick: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("QUICK", f"{quick}@quick")
    rng = np.random.default_rng(0)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for i in range(2):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    return tmp_path


def run(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [os.environ["QUICK"] if word == "QUICK" else word for word in words])
    assert done.exit_code == code, (done.output, done.exception)
    return done


EVALUATE = ("evaluate", "jpeg", "--images", "a", "--task", "QUICK", "--out", "out")
TASK = 'from vtbench import Task\nTASK = Task("quick", "Quick", 1, (), "native", ("psnr", "bits"))\n'


def test_evaluate_answers_with_its_records(place: Path) -> None:
    done = run(*EVALUATE, "--json", "--json-file", "all.json")
    answered = json.loads(done.stdout)
    assert answered == json.loads((place / "all.json").read_text())
    (one,) = answered["runs"]
    assert one["run"]["model"]["name"] == "jpeg"
    assert one["run"] == json.loads((Path(one["path"]) / "run.json").read_text())
    kept = {s["metric"]: s for s in map(json.loads, (Path(one["path"]) / "scores.jsonl").read_text().splitlines())}
    assert {m: s["value"] for m, s in one["scores"].items()} == {m: s["value"] for m, s in kept.items()}
    assert all(s["value"] is not None or s["why"] for s in one["scores"].values())
    assert answered["failures"] == {}


ANSWERS: dict[str, tuple[tuple[str, ...], Callable[[Any], object]]] = {
    "score": (("score", "a", "b", "--metrics", "mse"), lambda d: d["candidates"][0]["scores"]["mse"]["n"] == 2),
    "score a run": (("score", "RUN", "--metrics", "psnr"), lambda d: d["scores"]["psnr"]["n"] == 2),
    "compare": (("compare", "RUN", "RUN2", "--metrics", "psnr"), lambda d: "psnr" in json.dumps(d)),
    "explain": (("explain", "jpeg", "--images", "a", "--claim", "psnr=20"), lambda d: "psnr" in json.dumps(d)),
    "runs": (("runs", "list", "out"), lambda d: len(d) == 2),
    "runs rm": (("runs", "rm", "RUN2"), lambda d: min(d["deleted"].values()) > 0),
    "suite freeze": (("suite", "freeze", "a", "--out", "a.jsonl"), lambda d: d["n"] == 2 and not d["refused"]),
    "cache": (("cache", "list"), lambda d: isinstance(d, list)),
    "cache prune": (("cache", "prune", "--dry-run"), lambda d: d["dry_run"] is True),
    "leaderboard": (("leaderboard", "build", "out", "--out", "site"), lambda d: Path(d["site"]).exists()),
    "generate": (
        ("generate", "ngram-kmeans", "--suite", "classes:2", "--out", "drawn"),
        lambda d: Path(d["images"]).is_dir() and d["n"] > 0,
    ),
    "manifest": (("adapter", "manifest", "taef2"), lambda d: all(isinstance(v, list) for v in d.values())),
    "prompts": (("geneval", "prompts", "--out", "p.jsonl", "--per-task", "1"), lambda d: d["n"] == 6),
}


def test_answers_are_json(place: Path) -> None:
    paths = [
        r["path"]
        for r in json.loads(run(*EVALUATE, "--save", "images", "-o", "quality=20,80", "--json").stdout)["runs"]
    ]
    names = {"RUN": paths[0], "RUN2": paths[1]}
    for what, (words, right) in sorted(ANSWERS.items(), key=lambda pair: pair[0] == "runs rm"):
        done = run(*(names.get(w, w) for w in words), "--json")
        assert right(json.loads(done.stdout)), what
        shutil.rmtree(place / "site", ignore_errors=True)


@pytest.mark.parametrize("words", [("--json", "x.json"), ("--json=x.json",), ("--json-file", "x.json")])
def test_a_path_after_json_is_still_taken(place: Path, words: tuple[str, ...]) -> None:
    done = run("score", "a", "b", "--metrics", "mse", *words)
    assert json.loads((place / "x.json").read_text())["candidates"][0]["scores"]["mse"]["n"] == 2
    assert "mse" in done.stdout
    assert ("--json-file PATH" in done.stderr) == ("--json-file" not in words)


def test_a_folder_after_json_is_a_candidate(place: Path) -> None:
    shutil.copytree("b", "c")
    answered = json.loads(run("score", "a", "--metrics", "mse", "--json", "b", "c").stdout)
    assert [c["path"] for c in answered["candidates"]] == ["b", "c"]


def test_failures_stand_beside_the_json(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    done = run("evaluate", "jpeg", "sd-vae-ft-mse", *EVALUATE[2:], "--json", code=1)
    answered = json.loads(done.stdout)
    assert len(answered["runs"]) == 1
    assert "sd-vae-ft-mse" in answered["failures"]
