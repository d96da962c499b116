"""How far a command is: a bar on a terminal, a line for every finished job in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vtbench.models.terminal import console
from vtbench.types.readable import readable

if TYPE_CHECKING:
    from rich.progress import Progress

SCORING = "scoring"
BUILDING = "building the page"
JOINING = "joining shards"
Update = Callable[[str, str, int, int], None]
"""(model, job, images done, images in all)"""


@contextlib.contextmanager
def progress() -> Iterator[Update]:
    """A bar with model, task, images done, rate and time left; lines where nobody watches (not a terminal)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not console().is_terminal:
        yield _line
        return
    columns = (
        TextColumn("{task.fields[model]} · {task.fields[job]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(), transient=True) as display:
        display.add_task("", total=None, model="vtbench", job=Loading(), rate="")
        yield _Bar(display)


class Loading:
    """What a command does before its first image, as it is when it is shown."""

    def __str__(self) -> str:
        return "loading the model" if "torch.nn" in sys.modules else "loading torch"


@contextlib.contextmanager
def stage(what: object) -> Iterator[None]:
    """Says what a person at a terminal is waiting for; nothing in a log."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    if not console().is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.fields[what]}"), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True) as display:
        display.add_task("", total=None, what=what)
        yield


@contextlib.contextmanager
def counter(what: str) -> Iterator[Callable[..., None]]:
    """A bar for a plain count: takes what is done and how many there are in all, and the job, by default "images"."""
    with progress() as update:
        yield lambda done, total, job="images": update(what, job, done, total)


def _line(model: str, job: str, done: int, total: int) -> None:
    if done == total:
        print(readable(f"{model} · {job}: {done} images"), file=sys.stderr)


class _Bar:
    """One bar: another job, or one that begins again, takes the place of the last."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._job: tuple[str, str] | None = None
        self._first = self._done = 0
        self._start = 0.0

    def __call__(self, model: str, job: str, done: int, total: int) -> None:
        if self._job != (model, job) or done < self._done:
            for task in list(self._display.task_ids):
                self._display.remove_task(task)
            self._display.add_task("", total=total, model=model, job=job, rate="")
            self._job, self._first, self._start = (model, job), done, time.monotonic()
        self._done = done
        seconds = time.monotonic() - self._start
        rate = f"{(done - self._first) / seconds:.1f} images/s" if seconds > 0 and done > self._first else ""
        (task,) = self._display.task_ids
        # What takes time after the last image: networks of sets, intervals, the next model.
        self._display.update(task, completed=done, total=total, rate=SCORING if done == total else rate)
