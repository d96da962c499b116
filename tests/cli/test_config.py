"""`evaluate --config`: a file's options, and a run's own, ask the same question as the command that was typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from object_models import Convolution
from support import command, noise

import vtbench


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    noise(tmp_path / "a")
    return tmp_path


TYPED = ("evaluate", "jpeg", "--images", "a", "--task", "compression", "--view", "native", "--seed", "3")
CONFIG = {"models": ["jpeg"], "images": "a", "task": "compression", "view": "native", "seed": 3}


def ids(out: str) -> dict[str, str]:
    """{folder: the question's id} of the runs in a folder."""
    return {p.parent.name: json.loads(p.read_text())["id"] for p in Path(out).glob("*/run.json")}


def test_a_file_is_the_command_that_it_spells(place: Path) -> None:
    Path("c.yaml").write_text(yaml.safe_dump({**CONFIG, "option": {"quality": [20, 80]}, "batch-size": 1, "out": "by"}))
    code, out, err = command("evaluate", "--config", "c.yaml")
    assert code == 0, err
    assert "quality=20  quality=80" in out
    assert command(*TYPED, "-o", "quality=20,80", "--batch-size", "1", "--out", "typed")[0] == 0
    assert ids("by") == ids("typed")
    assert len(ids("by")) == 2


def test_every_run_keeps_what_repeats_it(place: Path) -> None:
    command(*TYPED, "-o", "quality=20,80", "--save", "tokens", "--limit", "1", "--out", "typed")
    for name, asked in ids("typed").items():
        code, _, err = command("evaluate", "--config", f"typed/{name}", "--out", "again")
        assert code == 0, err
        assert ids("again")[name] == asked
        first, second = (json.loads(Path(out, name, "run.json").read_text()) for out in ("typed", "again"))
        assert (second["n"], second["save"]) == (1, ["tokens"])
        assert second["model"]["options"] == first["model"]["options"]
    assert command("runs", "rm", *(f"typed/{name}" for name in ids("typed")))[0] == 0


def test_what_is_typed_comes_first(place: Path) -> None:
    Path("c.json").write_text(json.dumps({**CONFIG, "option": ["quality=20"], "out": "by"}))
    command("evaluate", "png", "--config", "c.json", "--out", "elsewhere", "--option", "")
    code, out, _ = command("evaluate", "--config", "c.json", "-o", "quality=80", "--seed", "4", "--json")
    assert code == 0
    (one,) = json.loads(out)["runs"]
    assert (one["run"]["model"]["options"], one["run"]["seed"]) == ({"quality": 80}, 4)
    assert one["path"].startswith("by")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("imges: a\n", "did you mean images"),
        ("json_file: x\n", "json_file"),
        ("limit: many\n", "integer"),
        ("limit: true\n", "limit is True"),
        ("images: [a, b]\n", "images is ['a', 'b']"),
        ("view: {native: 1}\n", "view is"),
        ("option: {quality: {a: 1}}\n", "option is"),
        ("- jpeg\n", "holds no options"),
        ("", "holds no options"),
        ("a: [\n", "cannot be read as YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "cannot be read as YAML"),
        ("\x00", "cannot be read as YAML"),
        ("a: " + "[" * 5000, "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_one_sentence_and_nothing_is_done(place: Path, text: str, said: str) -> None:
    Path("c.yaml").write_text(text)
    code, out, err = command("evaluate", "jpeg", "--config", "c.yaml")
    assert code == 2
    assert said in re.sub(r"[│\s]+", " ", out + err)
    assert not Path("out").exists()


@pytest.mark.parametrize(("path", "said"), [("no.yaml", "is no file"), ("a", "holds no config.yaml")])
def test_what_is_no_config_is_refused(place: Path, path: str, said: str) -> None:
    code, _, err = command("evaluate", "--config", path)
    assert code == 2
    assert said in err


def test_an_object_cannot_be_repeated_by_anybody(place: Path) -> None:
    (run,) = vtbench.evaluate(Convolution(), images="a", tasks=["compression"], view="native", out="out").runs
    assert not (run.path / "config.yaml").exists()


def test_a_generator_too(place: Path) -> None:
    words = ("evaluate", "ngram-kmeans", "--suite", "classes:2", "--n", "1", "--task", "generation", "--images", "a")
    code, _, err = command(*words, "--out", "typed")
    assert code == 0, err
    (name,) = ids("typed")
    assert command("evaluate", "--config", f"typed/{name}", "--out", "again")[0] == 0
    assert ids("again") == ids("typed")


def test_files_of_metric_weights_are_part_of_what_repeats_it(place: Path) -> None:
    from backbones import random_backbone

    Path("squeeze.py").write_text(
        'from vtbench import Task\nTASK = Task("squeezed", "Squeezed", 1, (), "native", ("lpips-squeeze",))\n'
    )
    file = random_backbone("squeeze", place)
    words = ("evaluate", "jpeg", "--images", "a", "--task", f"{place}/squeeze.py@squeezed")
    code, _, err = command(*words, "--metric-weights", f"squeezenet1.1={file}", "--out", "typed")
    assert code == 0, err
    (name,) = ids("typed")
    assert command("evaluate", "--config", f"typed/{name}", "--out", "again")[0] == 0
    assert ids("again") == ids("typed")
