"""Fresh processes that are quick: one process imports vtbench and computes nothing, and each question is a fork of it.

Python keeps every module that it has imported, so that an adapter which was edited is another one only in a new
process. `python tests/forks.py` is the process that waits; each line of its input is a question, and its answer is a
line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Forks:
    """Starts the process when it is made; `close` ends it."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPATH": str(ROOT),
            "VTBENCH_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def answer(self, code: str, folder: Path, **names: Any) -> Any:
        """What `code` left in `answer`, run in a new process in `folder` with these names; JSON both ways."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"code": code, "folder": str(folder), "names": names}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        result = json.loads(line)
        assert "raised" not in result, result["raised"]
        return result["answer"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def _child(question: dict[str, Any], out: int) -> None:
    import contextlib
    import io
    import traceback

    os.chdir(question["folder"])
    names = dict(question["names"])
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(question["code"], names)
        text = json.dumps({"answer": names.get("answer")})
    except BaseException:
        text = json.dumps({"raised": traceback.format_exc()})
    os.write(out, (text + "\n").encode())


def _warm() -> None:
    """One evaluation, so that a fork has all modules; with one thread (OMP_NUM_THREADS) nothing is left that a fork
    could not take along."""
    import tempfile

    from PIL import Image

    import vtbench

    with tempfile.TemporaryDirectory() as folder:
        for name, colour in (("a", (9, 70, 160)), ("b", (200, 30, 90))):
            Image.linear_gradient("L").resize((24, 24)).convert("RGB").save(f"{folder}/{name}.png")
            Image.new("RGB", (24, 24), colour).save(f"{folder}/{name}2.png")
        vtbench.evaluate("jpeg", images=folder, view="native", tasks=["compression"], out=f"{folder}/out")


def _serve() -> None:
    _warm()
    out = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _child(json.loads(line), out)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status:
            os.write(out, (json.dumps({"raised": f"the fork ended with {status}"}) + "\n").encode())


if __name__ == "__main__":
    _serve()
