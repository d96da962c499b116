"""Somebody's code that calls `sys.exit`, or raises anything else, ends nothing but itself."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import cuts

import vtbench
from vtbench import registry
from vtbench.types.errors import VtbenchError
from vtbench.types.plugins import plugins
from vtbench.types.tokens import Bitstream

ENDS = {
    "exits with words": "import sys; sys.exit('CUDA toolkit not found')",
    "exits with a number": "import os, sys; sys.exit(3)",
    "raises SystemExit deep inside": "def f():\n    raise SystemExit\nf()",
    "raises": "raise RuntimeError('no GPU')",
}
GROUPS = (registry.ENTRY_POINTS, registry.METRIC_PLUGINS, registry.TASK_PLUGINS)


def _installed(folder: Path, module: str, text: str, group: str) -> None:
    """A distribution with one entry point, as pip would leave it."""
    (folder / f"{module}.py").write_text(text + "\n")
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{group}]\n{module} = {module}\n")


@pytest.mark.parametrize("group", GROUPS)
def test_a_plug_in_that_ends_is_broken_and_hides_nothing(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"ends_{group.partition('.')[2]}_{k}" for k in range(len(ENDS))]
    for name, text in zip(names, ENDS.values(), strict=True):
        _installed(tmp_path, name, text, group)
    _installed(tmp_path, f"whole_{group.partition('.')[2]}", "X = 1", group)
    monkeypatch.syspath_prepend(tmp_path)
    added = []
    broken = plugins(group, lambda module, words: added.append(module.__name__))
    assert set(names) <= broken.keys()
    assert "SystemExit: CUDA toolkit not found" in broken[names[0]]
    assert f"whole_{group.partition('.')[2]}" in added


@pytest.mark.parametrize("how", ENDS)
def test_a_file_that_ends_is_one_sentence(how: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ENDS[how])
    with pytest.raises(VtbenchError, match=r"mine\.py cannot be imported"):
        vtbench.evaluate(f"{tmp_path / 'mine.py'}@x", images=tmp_path)


ADAPTER = """
import sys
from vtbench import Bitstream, Card, Family, Multiple, Tokenizer
class T(Tokenizer):
    def load(self, files, device="cpu", dtype="float32"):
        self.end("load")
    def encode(self, images, seeds, budget=None):
        self.end("encode")
        return Bitstream([b"x"] * len(images), tuple(images.shape[2:]))
    def decode(self, tokens, seeds):
        self.end("decode")
    def end(self, where):
        if self.card.name == where:
            sys.exit(f"ended in {where}")
CARDS = tuple(Card(name=n, family="t", kind="codec", title=n, sizes=Multiple(1)) for n in ("load", "encode", "decode"))
FAMILY = Family("t", "t", CARDS, T)
"""


def test_a_model_that_ends_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(ADAPTER)
    names = [f"{tmp_path / 'ends.py'}@{name}" for name in ("load", "encode", "decode")]
    more: dict[str, Any] = {"images": cuts(tmp_path / "images", 2), "view": "native", "tasks": ["compression"]}
    made = vtbench.evaluate([*names, "png"], out=tmp_path / "out", **more)
    assert [run.name for run in made.runs] == ["png"]
    for where, why in zip(("load", "encode", "decode"), made.failures.values(), strict=True):
        assert "SystemExit" in why
        assert f"ended in {where}" in why


LOUD = """
import asyncio, os, sys
print("at import")
from vtbench import Bitstream, Card, Family, Multiple, Tokenizer
class T(Tokenizer):
    def load(self, files, device="cpu", dtype="float32"):
        print("in load")
    def encode(self, images, seeds, budget=None):
        print("in encode")
        if self.card.name == "forks" and os.fork() == 0:
            sys.exit(0)
        if self.card.name == "comes-back":
            os.fork()
        if self.card.name == "cancels":
            raise asyncio.CancelledError("no more")
        return Bitstream([b"x"] * len(images), tuple(images.shape[2:]))
    def decode(self, tokens, seeds):
        import torch
        return torch.zeros(len(seeds), 3, *tokens.size)
NAMES = ("forks", "comes-back", "cancels")
FAMILY = Family("t", "t", tuple(Card(name=n, family="t", kind="codec", title=n, sizes=Multiple(1)) for n in NAMES), T)
"""


def test_what_code_prints_forks_and_raises_stays_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Printed words would stand in the answer of `--json`, a forked process would write every row twice."""
    (tmp_path / "loud.py").write_text(LOUD)
    names = [f"{tmp_path / 'loud.py'}@{name}" for name in ("forks", "comes-back", "cancels")]
    more: dict[str, Any] = {"images": cuts(tmp_path / "images", 3), "view": "native", "tasks": ["compression"]}
    made = vtbench.evaluate(names, out=tmp_path / "out", **more)
    assert [run.name for run in made.runs] == ["forks", "comes-back"]
    assert [len(list(run.rows())) for run in made.runs] == [3, 3]
    (why,) = made.failures.values()
    assert "CancelledError" in why
    assert "no more" in why
    states = [json.loads(path.read_text())["status"] for path in (tmp_path / "out").glob("*/run.json")]
    assert sorted(states) == ["complete", "complete", "failed"]
    printed, said = capfd.readouterr()
    assert printed == ""
    for words in ("at import", "in load", "in encode"):
        assert words in said


AT_THE_END = """
import atexit, ctypes, os, sys
atexit.register(lambda: print("at exit"))
atexit.register(lambda: os.write(1, b"at exit, by number"))
atexit.register(os.system, "echo at exit, by a shell")
ctypes.CDLL(None).puts(b"by C, at import")
os.system("echo by a shell")
print("on the original", file=sys.__stdout__)
from vtbench import Bitstream, Card, Family, Multiple, Tokenizer
class T(Tokenizer):
    def encode(self, images, seeds, budget=None):
        ctypes.CDLL(None).puts(b"by C, at work")
        return Bitstream([b"x"] * len(images), tuple(images.shape[2:]))
    def decode(self, tokens, seeds):
        import torch
        return torch.zeros(len(seeds), 3, *tokens.size)
FAMILY = Family("t", "t", (Card(name="t", family="t", kind="codec", title="t", sizes=Multiple(1)),), T)
"""


def test_standard_output_is_the_answer_alone(tmp_path: Path) -> None:
    """Also of what is printed through C, by another program, and after the command has ended."""
    (tmp_path / "loud.py").write_text(AT_THE_END)
    words = ["--images", str(cuts(tmp_path / "images", 2)), "--view", "native", "--task", "compression"]
    command = [sys.executable, "-m", "vtbench", "evaluate", f"{tmp_path / 'loud.py'}@t", *words, "--json", "--out"]
    ran = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [run["run"]["model"]["name"] for run in json.loads(ran.stdout)["runs"]] == ["t"]
    for said in ("at exit", "by number", "at exit, by a shell", "C, at import", "C, at work", "by a shell", "original"):
        assert said in ran.stderr


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", ">/dev/full", "| true"])
def test_an_answer_that_nobody_takes_is_no_traceback(closed: str) -> None:
    line = f"{shlex.quote(sys.executable)} -m vtbench --version {closed}"
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


class Ends:
    """An object of a training loop that raises what it is told to, where it is told to."""

    def __init__(self, where: str, raised: BaseException) -> None:
        self.where, self.raised = where, raised

    def _at(self, where: str) -> None:
        if where == self.where:
            raise self.raised

    def encode(self, x: Any) -> Any:
        print("in encode")
        self._at("encode")
        return Bitstream([b"x"] * len(x), (int(x.shape[2]), int(x.shape[3])))

    def decode(self, tokens: Any) -> Any:
        self._at("decode")
        return torch.zeros(len(tokens), 3, *tokens.size)

    @property
    def card(self) -> Any:
        self._at("card")
        return None


class Own(BaseException):
    """Of somebody's own."""


@pytest.mark.parametrize(
    "raised", [SystemExit(0), Own("no more"), asyncio.CancelledError("no more"), RuntimeError("x")]
)
@pytest.mark.parametrize("where", ["encode", "decode", "card"])
def test_an_object_that_ends_is_named(where: str, raised: BaseException, tmp_path: Path, capfd: Any) -> None:
    more: dict[str, Any] = {"images": cuts(tmp_path / "images", 2), "view": "native", "tasks": ["compression"]}
    made = vtbench.evaluate([Ends(where, raised), "png"], out=tmp_path / "out", **more)
    assert [run.name for run in made.runs] == ["png"]
    ((name, why),) = made.failures.items()
    assert name == "Ends"
    assert type(raised).__name__ in why
    states = [json.loads(path.read_text())["status"] for path in (tmp_path / "out").glob("*/run.json")]
    assert sorted(states) == (["complete"] if where == "card" else ["complete", "failed"])
    assert "in encode" not in capfd.readouterr().out
