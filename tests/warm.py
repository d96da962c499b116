"""Commands in processes that start warm: one process imports torch and what else is slow and not ours, and each
command is a fork of it, in which vtbench is imported from where the command says.

Such a process differs from one of its own in what is imported before it begins: tests of start-up use subprocess.
`python tests/warm.py` is the process that waits; each line of its input is a command, each line of its output its exit
code.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SLOW = ("torch", "numpy", "scipy.special", "cv2", "PIL.Image", "pydantic", "typer", "rich.console", "jinja2")
"""What is imported once."""


def ran(command: Sequence[object], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As subprocess.run(command, capture_output=True, text=True): `python -m vtbench …` and `python -c …` start warm,
    all else as ever."""
    words = [str(word) for word in command]
    if words[0] != sys.executable or (words[1] != "-c" and words[1:3] != ["-m", "vtbench"]):
        return subprocess.run(
            words, cwd=cwd, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    return _waiting().answer(words, cwd, environment)


@functools.cache
def _waiting() -> _Waiting:
    """One for all tests of a process; it ends when its input does, with this process."""
    return _Waiting()


class _Waiting:
    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, env=environment
        )

    def answer(self, words: list[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = (Path(folder) / name for name in ("out", "err"))
            question = {"words": words, "cwd": str(cwd), "environment": dict(environment)}
            self._process.stdin.write(json.dumps(question | {"out": str(out), "err": str(err)}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            assert line, "the process that forks has ended"
            return subprocess.CompletedProcess(words, int(line), out.read_text(), err.read_text())


def _begin(question: dict[str, Any], path: list[str]) -> None:
    """Makes this process what a new one would be: its folder, environment, streams and places of modules."""
    import importlib
    import io

    os.chdir(question["cwd"])
    os.environ.clear()
    os.environ.update(question["environment"])
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(question[name], os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(number, mode, closefd=False), encoding="utf-8", line_buffering=number == 2)  # noqa: SIM115
        for number, mode in ((0, "rb"), (1, "wb"), (2, "wb"))
    )
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    named = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    first = "" if question["words"][1] == "-c" else question["cwd"]
    sys.path[:] = [first, *named, *path]
    importlib.invalidate_caches()


def _run(words: list[str]) -> int:
    """The command's exit code."""
    import runpy
    import traceback
    import types

    try:
        if words[1] == "-c":
            main = types.ModuleType("__main__")
            sys.modules["__main__"], sys.argv = main, ["-c", *words[3:]]
            exec(compile(words[2], "<string>", "exec"), main.__dict__)
        else:
            sys.argv = ["vtbench", *words[3:]]
            runpy.run_module("vtbench", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _child(question: dict[str, Any], path: list[str]) -> int:
    import atexit
    import threading

    _begin(question, path)
    code = _run(question["words"])
    # What an interpreter does when it ends.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _serve() -> None:
    import importlib

    # The folder of this script is no place of a command's modules.
    path = sys.path[1:]
    for name in SLOW:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] == "vtbench" for name in sys.modules)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = _child(json.loads(line), path)
            finally:
                os._exit(code & 0xFF)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
