"""`vtbench new`: what it writes is the recipe of CONTRIBUTING.md, and works as it is, whatever it is called."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import command

from vtbench.cli.new import STARTERS, text

CONTRIBUTING = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("kind", STARTERS)
def test_the_recipe_of_contributing_is_the_starting_point(kind: str) -> None:
    (recipe,) = re.findall(rf"^```(?:python|jsonl) {kind}\n(.*?)^```", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert text(kind, STARTERS[kind].name) == recipe


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    for folder in ("ORIGINALS", "RECONSTRUCTIONS"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((32, 32, 3), 9, np.uint8)).save(tmp_path / folder / "a.png")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "name"),
    [("tokenizer", "my-vq.2"), ("metric", "m"), ("task", "of-cats_3"), ("suite", "mine"), ("prompts", "my-own")],
)
def test_what_it_writes_works_at_once(place: Path, kind: str, name: str) -> None:
    code, out, err = command("new", kind, name, "--in", "mine")
    assert code == 0, err
    path, *then = out.splitlines()
    content = Path(path).read_text()
    assert name in content
    assert STARTERS[kind].name not in content
    for line in then:
        code, out, err = command(*shlex.split(line)[1:])
        assert code == 0, (line, out, err)
    assert "not checked" not in out or " 0 failed" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tokeniser", "a"), "did you mean tokenizer"),
        (("task", "A b"), "give small letters"),
        (("task", "../x"), "give small letters"),
        (("task", ""), "give small letters"),
        (("task", "class"), "a word of Python"),
    ],
)
def test_a_wrong_question_is_one_sentence(place: Path, words: tuple[str, ...], said: str) -> None:
    before = sorted(place.iterdir())
    code, _, err = command("new", *words)
    assert code == 2
    assert said in err
    assert sorted(place.iterdir()) == before


def test_nothing_is_overwritten(place: Path) -> None:
    Path("a.py").write_text("mine")
    code, _, err = command("new", "task", "a")
    assert code == 2
    assert "is not overwritten" in err
    assert Path("a.py").read_text() == "mine"
