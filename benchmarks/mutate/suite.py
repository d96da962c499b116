"""The tests of a copy of the checkout, each time in a process of its own that has the large libraries already."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mutate.plan import ROOT, Group

LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy.stats",
    "scipy.ndimage",
    "skimage.metrics",
    "skimage.data",
    "cv2",
    "PIL.Image",
    "piq",
    "lpips",
    "torch_fidelity",
    "constriction",
    "rapidfuzz",
    "pandas",
    "pytest",
    "hypothesis",
)
"""Imported once: a process that is forked from this one has them for nothing. None imports vtbench."""
OURS = ("vtbench", "adapters", "tasks", "leaderboard", "benchmarks", "tests")


@dataclass(frozen=True)
class Suite:
    """Tests run in `folder`, a copy of the checkout."""

    folder: Path

    @classmethod
    def copied(cls, scratch: Path) -> Suite:
        """Of the files that git knows or does not ignore, as they stand; links stay links."""
        folder = scratch / "checkout"
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.split(b"\0")
        for name in filter(None, map(os.fsdecode, names)):
            if (ROOT / name).is_symlink() or (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
        if (ROOT.parent / "shared").is_dir():
            (scratch / "shared").symlink_to(ROOT.parent / "shared")
        os.environ.update(OMP_NUM_THREADS="1", VTBENCH_OFFLINE="1")
        for library in LIBRARIES:
            importlib.import_module(library)
        return cls(folder)

    def passes(self, group: Group, timeout: float, output: Path | None = None) -> bool:
        """Whether the group's tests pass; tests that do not end in `timeout` seconds have seen something."""
        child = os.fork()
        if not child:
            self._run(group, output)
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status == 0
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _run(self, group: Group, output: Path | None) -> None:
        """Runs pytest in the copy and ends the process; the checkout's own modules are forgotten."""
        code = 3
        try:
            os.setsid()
            os.chdir(self.folder)
            for stream in (1, 2):
                os.dup2(os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            # An older bytecode could stand for a mutant of the same length.
            sys.dont_write_bytecode = True
            os.environ.update(PYTHONPATH=str(self.folder), PYTHONDONTWRITEBYTECODE="1")
            for name in [n for n in sys.modules if n.partition(".")[0] in OURS]:
                del sys.modules[name]
            sys.path[:] = [str(self.folder), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
            import pytest

            code = int(pytest.main(group.arguments))
        finally:
            os._exit(code)

    def baseline(self, group: Group) -> float:
        """Seconds of the unchanged tests, which must pass."""
        began, output = time.monotonic(), self.folder.parent / "output"
        output.unlink(missing_ok=True)
        if not self.passes(group, 3600, output):
            raise SystemExit(f"{group.name}: the tests fail without any mutation:\n{output.read_text()[-3000:]}")
        return time.monotonic() - began
