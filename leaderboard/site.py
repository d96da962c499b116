"""The site: what is on which page, written beside its place and swapped in as a whole."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

from vtbench.leaderboard import content, gallery, runpage, words
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.groups import Group, group_runs
from vtbench.leaderboard.headlines import headlines
from vtbench.leaderboard.labels import labels
from vtbench.leaderboard.plot import styles, swatch
from vtbench.leaderboard.sections import Section, section_of
from vtbench.reporting import table
from vtbench.reporting.reading import DAMAGED, read_runs
from vtbench.reporting.runs import curve_key, identity, record, system, vtbench_version
from vtbench.reporting.versions import of_newest
from vtbench.results.files import disk_error
from vtbench.results.holding import Held, sweep
from vtbench.results.record import Run
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading

HERE = Path(__file__).resolve().parent
MARKER = "vtbench-site.json"
"""Its presence says that a folder is a site of ours and may be replaced."""
SITE_SCHEMA = 1
PATIENCE = 30.0
"""Seconds that a build waits for another that is writing the same site."""


def write_site(runs: Sequence[Path], out: Path, left_out: dict[Path, str]) -> Path:
    """Builds in a new folder beside `out`, then swaps; a failure leaves the old site as it was. `left_out` is told of
    runs that no page can be made of, and why."""
    out = out.resolve()
    check_replaceable(out)
    files = _files_of_good(runs, left_out)
    with Held(out.with_name(f".{out.name}.lock"), out, PATIENCE):
        _clear_up(out)
        _swap_in(files, out)
    return out / "index.html"


def _files_of_good(paths: Sequence[Path], left_out: dict[Path, str]) -> dict[str, bytes]:
    """The site of every run that a page can be made of; refused if there is none."""
    while runs := read_runs(paths, left_out):
        try:
            return site_files(runs)
        except Exception:
            # A copy of a good run may have stood in its place: all are read again without those at fault.
            bad = _at_fault(runs)
            if not bad:
                raise
            left_out.update(bad)
    raise VtbenchError(f"no run is left to build a page of: {next(iter(left_out.values()))}")


def _at_fault(runs: Sequence[Run]) -> dict[Path, str]:
    """Which runs no page can be made of, and why: alone, or else beside those before them."""
    alone = {run.path: why for run in runs if (why := _why_no_page([run])) is not None}
    if alone:
        return alone
    good: list[Run] = []
    together = {}
    for run in runs:
        why = _why_no_page([*good, run])
        if why is None:
            good.append(run)
        else:
            together[run.path] = why
    return together


def _why_no_page(runs: Sequence[Run]) -> str | None:
    try:
        with reading(runs[-1].path, "a run", DAMAGED):
            for _ in runs[-1].rows():
                pass
            site_files(runs)
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
        for name, data in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
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


def environment() -> jinja2.Environment:
    """Everything is escaped but our own Markup; an unknown name is an error, never an empty string."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(KIND_TITLES=words.KIND_TITLES, KIND_WORDS=words.KIND_WORDS, identity=identity)
    env.filters.update(
        number=words.number, short=words.short, seconds=words.seconds, anchor=words.anchor, sort_key=words.sort_key
    )
    return env


def site_files(runs: Sequence[Run]) -> dict[str, bytes]:
    """Every file of the site by its path: a function of the runs' contents alone, without a clock."""
    hrefs = {identity(run): f"runs/{words.slug(run.name, identity(run))}.html" for run in runs}
    banner = content.shared_reason(runs)
    shown = of_newest(runs)
    context = Context(shown, labels(runs, hrefs), styles(content.all_curves(runs)), banner)
    pictures = gallery.Pictures()
    files = _pages(context, hrefs, gallery.sample_sets(runs, pictures), runs)
    files.update(pictures.files)
    files.update(_data(runs))
    for asset in sorted((HERE / "assets").iterdir()):
        if asset.suffix in (".css", ".js"):
            files[f"assets/{asset.name}"] = asset.read_bytes()
    files[MARKER] = _json({"vtbench": "site", "schema": SITE_SCHEMA, "runs": [identity(run) for run in runs]})
    return files


def _pages(
    context: Context, hrefs: Mapping[str, str], samples: Sequence[gallery.SampleSet], runs: Sequence[Run]
) -> dict[str, bytes]:
    """The HTML pages by path; `hrefs`: those of the runs by id; `runs`: as they were read, for the pages of each, where
    the context has one version of every metric."""
    env = environment()
    common: dict[str, Any] = {
        "labels": context.labels,
        "swatches": {identity(run): swatch(context.styles[curve_key(run)]) for run in runs},
        "banner": context.banner,
        "sample_sets": samples,
        "versions": sorted({version for run in runs if (version := vtbench_version(run))}),
    }
    files: dict[str, bytes] = {}

    def page(name: str, template: str, **more: Any) -> None:
        root = "../" * name.count("/")
        files[name] = env.get_template(template).render(root=root, here=name, **common, **more).encode()

    page("index.html", "index.html.j2", **_results(context, samples))
    page("gallery.html", "gallery.html.j2")
    page("methods.html", "methods.html.j2", cards=content.all_metric_cards(runs), images=content.all_images(runs))
    by_system: dict[str, list[Run]] = {}
    for run in runs:
        by_system.setdefault(system(run), []).append(run)
    for run in runs:
        elsewhere = [other for other in by_system[system(run)] if other is not run]
        facts = runpage.facts(run, elsewhere, context.labels)
        page(hrefs[identity(run)], "run.html.j2", **facts, samples=gallery.samples_of(run, samples))
    return files


def _results(context: Context, samples: Sequence[gallery.SampleSet]) -> dict[str, Any]:
    """What templates/index.html.j2 shows."""
    groups = group_runs(context.runs)
    sections = _sections(groups, context)
    return {
        "stats": content.counts(context.runs, groups),
        "sections": sections,
        "headlines": headlines(sections),
        # Rate and distortion head the page; a plot against a cost stands with its task.
        "hero": next((s for s in sections if s.plots and not s.plots[0].against), None),
        "bd": content.savings(sections, context.styles),
        "teasers": [(of_suite, of_suite.originals[0]) for of_suite in samples],
    }


def _sections(groups: Sequence[Group], context: Context) -> list[Section]:
    """A plot of one metric on the same pictures is drawn for the first task that has it."""
    sections: list[Section] = []
    drawn: set[tuple[Any, ...]] = set()
    for group in groups:
        section = section_of(group, context)
        images = group.question.images
        plots = [plot for plot in section.plots if (images, plot.name) not in drawn]
        drawn |= {(images, plot.name) for plot in plots}
        sections.append(replace(section, plots=plots))
    return sections


def _clean(value: Any) -> Any:
    """JSON-ready: a NaN or an infinity that somebody's file holds becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(value: Any) -> bytes:
    return (json.dumps(_clean(value), ensure_ascii=False, indent=1, allow_nan=False, default=str) + "\n").encode()


def _csv_cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a quote in front (OWASP, CSV injection)."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _data(runs: Sequence[Run]) -> dict[str, bytes]:
    """Everything on the page as files: scores.csv, scores.json, runs.json."""
    records = table.records(runs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.COLUMNS)
    writer.writerows([_csv_cell(line[name]) for name in table.COLUMNS] for line in records)
    return {
        "data/scores.csv": text.getvalue().encode(),
        "data/scores.json": _json(records),
        "data/runs.json": _json([record(run) for run in runs]),
    }
