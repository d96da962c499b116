"""The site: what is on which page, written beside its place and swapped in as a whole."""

from __future__ import annotations

import contextlib
import gc
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vtbench.leaderboard import content, runpage
from vtbench.leaderboard.addresses import run_address
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.labels import labels
from vtbench.leaderboard.page import Site, as_json
from vtbench.leaderboard.pages import BUILDERS
from vtbench.leaderboard.rendering import assets, written
from vtbench.reporting.image_values import RowValues
from vtbench.reporting.reading import DAMAGED, read_runs
from vtbench.reporting.runs import identity
from vtbench.reporting.versions import of_newest
from vtbench.results.files import NotWritten, disk_error
from vtbench.results.holding import Held, sweep
from vtbench.results.record import Run
from vtbench.results.sites import MARKER
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading
from vtbench.types.shortage import Short

SITE_SCHEMA = 1
WRITERS, WRITTEN_AT_ONCE = 2, 50
PATIENCE = 30.0
"""Seconds that a build waits for another that is writing the same site."""


def write_site(runs: Sequence[Path], out: Path, left_out: dict[Path, str]) -> Path:
    """Builds in a new folder beside `out`, then swaps; a failure leaves the old site as it was. `left_out` is told of
    runs that no page can be made of, and why."""
    out = out.resolve()
    check_replaceable(out)
    with _uncollected():
        files = _files_of_good(runs, left_out)
    with Held(out.with_name(f".{out.name}.lock"), out, PATIENCE):
        _clear_up(out)
        _swap_in(files, out)
    return out / "index.html"


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for circles: what a build makes it keeps, and every search walks through all of it."""
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()


def _files_of_good(paths: Sequence[Path], left_out: dict[Path, str]) -> dict[str, bytes]:
    """The site of every run whose data can be shown; that of no run where none was given."""
    while runs := read_runs(paths, left_out):
        rows = RowValues()
        bad = {run.path: why for run in runs if (why := _why_unreadable(run, rows)) is not None}
        try:
            if not bad:
                return site_files(runs, rows)
        except Exception:
            bad = {run.path: why for run in runs if (why := _why_not_shown(run)) is not None}
            # What no run's own facts explain is a fault of ours.
            if not bad:
                raise
        # A copy of a good run may have stood in its place: all are read again without those at fault.
        left_out.update(bad)
    if paths:
        raise VtbenchError(f"no run is left to build a page of: {next(iter(left_out.values()))}")
    return site_files([])


def _why_unreadable(run: Run, rows: RowValues) -> str | None:
    """Why the values of a run's images, which `rows` keeps, cannot be read; None where they can."""
    try:
        with reading(run.path, "a run", DAMAGED):
            rows.read(run)
    except (NotWritten, Short):
        # The machine lacks something: no run is at fault.
        raise
    except VtbenchError as bad:
        return str(bad)
    return None


def _why_not_shown(run: Run) -> str | None:
    """Why what a run's record says of itself cannot be shown, though each field is of its type; None where it can."""
    try:
        with reading(run.path, "a run", DAMAGED):
            runpage.facts(run, labels([run], {}))
    except VtbenchError as bad:
        return str(bad)
    return None


def _clear_up(out: Path) -> None:
    """What a build that was killed left beside the site; the site itself, if that had only been moved away."""
    if not os.path.lexists(out):
        moved = sorted(p for p in out.parent.glob(f".{glob.escape(out.name)}.old-*/site") if (p / MARKER).is_file())
        for site in moved[-1:]:
            with contextlib.suppress(OSError):
                site.rename(out)
    sweep(out.parent, (f".{out.name}.new-", f".{out.name}.old-"))


def _swap_in(files: Mapping[str, bytes], out: Path) -> None:
    try:
        fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new-"))
    except OSError as bad:
        raise disk_error(bad, out) from bad
    old: Path | None = None
    try:
        _write_all(files, fresh)
        mask = os.umask(0)
        os.umask(mask)
        fresh.chmod(0o777 & ~mask)
        check_replaceable(out)
        if out.exists():
            old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old-"))
            out.rename(old / "site")
        try:
            fresh.rename(out)
        except OSError:
            if old is not None:
                (old / "site").rename(out)
            raise
    except OSError as bad:
        raise disk_error(bad, out) from bad
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def _write_all(files: Mapping[str, bytes], folder: Path) -> None:
    """By two threads: a new file is the work of the system, which does it for both at once."""
    names = list(files)
    pool = ThreadPoolExecutor(WRITERS, "site")
    try:
        parts = [names[k : k + WRITTEN_AT_ONCE] for k in range(0, len(names), WRITTEN_AT_ONCE)]
        for part in [pool.submit(_write_some, files, some, folder) for some in parts]:
            part.result()
    finally:
        # After a failure, or Ctrl-C, nothing more is begun.
        pool.shutdown(cancel_futures=True)


def _write_some(files: Mapping[str, bytes], names: Sequence[str], folder: Path) -> None:
    for place in dict.fromkeys(os.path.dirname(name) for name in names):
        os.makedirs(folder / place, exist_ok=True)
    for name in names:
        _write(f"{folder}/{name}", files[name])


def _write(path: str, data: bytes) -> None:
    """As Path.write_bytes, which takes twice as long for thousands of small files."""
    with open(path, "wb", buffering=0) as out:
        view = memoryview(data)
        while view:
            view = view[out.write(view) :]


def check_replaceable(out: Path) -> None:
    """Refuses to touch anything that is neither absent, nor empty, nor a site of vtbench."""
    if not out.exists():
        return
    if not out.is_dir():
        raise VtbenchError(f"{out} is a file, not a folder: choose another --out for the page")
    if not any(out.iterdir()):
        return
    try:
        mark = json.loads((out / MARKER).read_text())
    except (OSError, ValueError):
        mark = None
    if not isinstance(mark, dict) or mark.get("vtbench") != "site":
        raise VtbenchError(
            f"{out} holds files but is not a page of vtbench (no {MARKER}), so it is left alone: choose another --out"
        )


def site_files(runs: Sequence[Run], rows: RowValues | None = None) -> dict[str, bytes]:
    """Every file of the site by its path: a function of the runs' contents alone, without a clock."""
    hrefs = {identity(run): run_address(run) for run in runs}
    shown = of_newest(runs)
    context = Context(shown, labels(runs, hrefs), content.shared_reason(runs), rows or RowValues())
    site = Site(runs, context)
    files = dict(written([part for build in BUILDERS for part in build(site)], site))
    files.update(site.pictures.written())
    files.update(assets())
    files[MARKER] = as_json({"vtbench": "site", "schema": SITE_SCHEMA, "runs": [identity(run) for run in runs]})
    return files
