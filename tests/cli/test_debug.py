"""A traceback is for --debug alone, wherever that is typed, and holds no secret either."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import support

from vtbench.cli import look
from vtbench.models import identify
from vtbench.types.secrets import secret

KEY = "sk-of-somebody-0123456789"


def answer(*words: object) -> tuple[int, str]:
    """(exit code, standard error), tracebacks allowed."""
    import contextlib
    import io
    from unittest import mock

    from vtbench.cli import main

    err = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["vtbench", *map(str, words)]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        main()
    return int(end.value.code or 0), err.getvalue()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_file(place: int, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    words = ["identify", str(tmp_path / "x.pt")]
    code, said = answer(*words)
    assert code == 2
    assert said.count("\n") == 1
    words.insert(place, "--debug")
    code, more = answer(*words)
    assert code == 2
    assert more.startswith(said)
    assert "Traceback" in more
    assert "BadZipFile" in more


@pytest.mark.parametrize(
    "fault", [ZeroDivisionError("x\n\x1b[2J"), RecursionError("deep"), AssertionError(), MemoryError()]
)
def test_a_fault_of_ours_is_a_sentence_too(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise fault

    monkeypatch.setattr(identify, "identify_file", broken)
    assert look.identify
    code, said = answer("identify", "x")
    assert code == 2
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    assert "--debug" in said
    assert "Traceback" in answer("--debug", "identify", "x")[1]


def test_a_traceback_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_KEY", KEY)
    secret("SOMEBODYS_KEY")

    def broken(_: Path) -> None:
        raise ValueError(f"{KEY} is not taken")

    monkeypatch.setattr(identify, "identify_file", broken)
    said = answer("--debug", "identify", "x")[1]
    assert "[SOMEBODYS_KEY] is not taken" in said
    assert KEY not in said


def test_what_made_a_model_fail_is_said(tmp_path: Path) -> None:
    support.cuts(tmp_path / "in", 1)
    words = ["evaluate", f"{support.BAD_ADAPTERS}@wrong-type", "--images", tmp_path / "in", "--view", "native"]
    words += ["--task", "compression", "--out", tmp_path / "out"]
    code, said = answer(*words)
    assert code == 1
    assert "Traceback" not in said
    assert "Traceback" in answer(*words, "--debug")[1]
