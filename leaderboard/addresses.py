"""Where things stand in the site: THE place that names its pages, so that links and pages agree."""

from __future__ import annotations

import hashlib
import re

from vtbench.leaderboard.words import anchor, slug
from vtbench.reporting.runs import identity, model_name, system
from vtbench.results.record import Run

PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,78}[a-z0-9])?")
"""Names that are a file's on every system, less those below."""
TAKEN = re.compile(r".*-[0-9a-f]{12}|(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")
"""What other names are turned into, and what Windows keeps for devices."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def model_key(name: str) -> str:
    """A model's name as that of its files: itself where that may be a file's name, else with a mark of its own."""
    return name if PLAIN.fullmatch(name) and not TAKEN.fullmatch(name) else slug(name, _digest(name))


def model_address(name: str) -> str:
    """The page of all that is known of a model."""
    return f"model/{model_key(name)}.html"


def run_key(run: Run) -> str:
    """The fragment of a run's block on its model's page, and the folder of its files."""
    return f"r-{slug('', identity(run))}"


def run_address(run: Run) -> str:
    """The page (and the place on it) that shows where a run's numbers came from."""
    return f"{model_address(model_name(run))}#{run_key(run)}"


def record_address(run: Run, name: str) -> str:
    """A record of a run, as run.json, among the site's files."""
    return f"data/runs/{run_key(run)}/{name}"


def system_key(run: Run) -> str:
    """The name of what is measured, whatever it is measured on, in the address of a comparison."""
    return slug(model_name(run), _digest(system(run)))


def values_name(name: str) -> str:
    """The data of a model's single images: `data/` and this and `.js` is their file."""
    return f"values/{model_key(name)}"


def gallery_key(images: tuple[str, str, str], suite: str) -> str:
    """The name of one suite in one view; `images`: which, by content (Question.images)."""
    return f"{anchor(f'{suite[:48]} {images[1][:12]}')}-{_digest(' '.join(images))[:6]}"


def gallery_address(key: str) -> str:
    """The page of a suite's pictures, by its `gallery_key`."""
    return f"gallery/{key}.html"


def comparison_address(one: Run, other: Run) -> str:
    """The comparison of two systems."""
    return f"compare.html#a={system_key(one)}&b={system_key(other)}"


def task_address(task: str) -> str:
    """The page of a task, by its name; a name that makes no file name gets twelve digits of its own."""
    return f"task/{model_key(task)}.html"
