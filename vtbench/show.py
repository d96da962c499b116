"""Results as text for a terminal: tables and progress bars. No logic, no numbers of its own."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]], title: str | None = None) -> str:
    """A plain aligned table; wide ones are cut by nobody, so that they can be piped."""
    widths = [max(len(c), *(len(line[i]) for line in lines)) if lines else len(c) for i, c in enumerate(columns)]
    rows = [columns, ["-" * w for w in widths], *lines]
    text = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
    return f"{title}\n{text}" if title else text


def number(value: float | None) -> str:
    """Five significant digits; a dash for missing."""
    if value is None:
        return "—"
    return f"{value:.0f}" if abs(value) >= 1e5 else f"{value:.5g}"


def interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def listing(what: str, found: Sequence[Mapping[str, Any]]) -> str:
    """The table of `vtbench list`."""
    shown: dict[str, tuple[str, ...]] = {
        "models": ("name", "family", "kind", "state", "needs"),
        "families": ("name", "title", "state"),
        "suites": ("name", "n", "state", "needs"),
        "tasks": ("name", "version", "title", "suites", "view", "state"),
        "metrics": ("name", "version", "unit", "better", "kind", "state", "needs"),
    }
    columns = shown[what]
    lines = [[_cell(f.get(c)) for c in columns] for f in found]
    return _table(columns, lines) + f"\n{len(found)} {what}; --json gives all facts"


def _cell(value: Any) -> str:
    text = "" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 90 else text[:87] + "…"


def evaluation(result: Any, out: Path) -> str:
    """Scores of every run, what is missing and why, where the folders are."""
    parts = [run_scores(run) for run in result.runs]
    if result.runs:
        parts.append(f"results: {out}    page: vtbench leaderboard build {out} --out {out}/site")
    return "\n\n".join(parts)


def run_scores(run: Any) -> str:
    """One run: what was asked, the scores, the reasons of the missing ones, why it is not ranked."""
    info = run.info
    options = ", ".join(f"{k}={v}" for k, v in info["model"]["options"].items())
    head = (
        f"{run.name}{f' ({options})' if options else ''} · {info['task']['name']} on {info['suite']['name']} at "
        f"{info['view']['name']} · {info['n']} images · weights {info['model']['weights'].get('status')} · "
        f"{info['status']}"
    )
    text = scores_table(run.scores, head)
    if info.get("enlarged"):
        text += f"\n{info['enlarged']} of {info['n']} images are smaller than the view and were enlarged"
    text += "".join(f"\n{n} of {info['n']} images: {how}" for how, n in (info.get("served") or {}).items())
    note = info["model"]["weights"].get("note")
    if note:
        text += f"\nweights: {note}"
    if not info["ranked"]:
        text += f"\nnot ranked: {info['why_not_ranked']}"
    return text


def folders(made: Any) -> str:
    """The tables of `vtbench score`."""
    return "\n\n".join(scores_table([s.as_dict() for s in c.scores], c.path) for c in made.candidates)


def scores_table(scores: Sequence[Mapping[str, Any]], title: str) -> str:
    """Scores, then every reason and every warning once, with the metrics that it is about."""
    lines = []
    why: dict[str, list[str]] = {}
    warnings: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {}
    for s in scores:
        if s["value"] is None:
            why.setdefault(str(s["why"]), []).append(s["metric"])
            continue
        for warning in filter(None, (s.get("warning") or "").split("; ")):
            warnings.setdefault(warning, []).append(s["metric"])
        arrow = {"higher": "↑", "lower": "↓"}.get(s.get("better") or "", "")
        for reason, n in s["details"].get("missing", {}).items():
            absent.setdefault(f"{n} image{'s' if n != 1 else ''}: {reason}", []).append(s["metric"])
        beside = [f"{s['missing']} missing"] if s["missing"] else []
        if s["details"].get("resize_only") is not None:
            beside.append(f"resize only: {number(s['details']['resize_only'])}")
        missing = ", ".join(beside)
        lines.append([s["metric"], f"{number(s['value'])} {s['unit']}{arrow}".strip(), interval(s["low"], s["high"]),
                      f"n={s['n']}", missing])  # fmt: skip
    text = _table(("metric", "value", "95 % interval", "n", ""), lines, title)
    text += "".join(f"\n{', '.join(names)}: null, because {reason}" for reason, names in why.items())
    text += "".join(f"\nmissing ({', '.join(names)}): {reason}" for reason, names in absent.items())
    return text + "".join(f"\nwarning ({', '.join(names)}): {warning}" for warning, names in warnings.items())


def check(one: Any) -> str:
    mark = {"passed": "passed     ", "failed": "FAILED     ", "not checked": "not checked"}[one.status]
    return f"{mark}  {one.name}: {one.said}"


def doctor(found: Mapping[str, Any]) -> str:
    """The report of `vtbench doctor`."""
    parts = [
        f"vtbench {found['vtbench']}"
        + ("" if found["release"] else " (not the release as published: nothing is ranked)"),
        f"offline: {'yes, VTBENCH_OFFLINE is set' if found['offline'] else 'no'}    cache: {found['cache']}",
        _table(("package", "version"), [[k, v] for k, v in found["packages"].items()]),
        _table(
            ("extra", "state", "enables", "how"),
            [[e["name"], e["state"], e["enables"], e["how"]] for e in found["extras"]],
        ),
        _table(
            ("metric weights", "state", "needed by", "how"),
            [
                [w["name"], str(w["state"]), _cell(w.get("needed_by")), str(w.get("how") or "")]
                for w in found["metric_weights"]
            ],
        ),
    ]
    parts += [f"broken plug-in {name}: {why}" for name, why in found["plugins"].items()]
    return "\n\n".join(parts)


def identified(file: Path, found: Sequence[Any]) -> str:
    if not found:
        return f"{file}: no model of vtbench has these names and shapes"
    return "\n".join(f"{file}: {m.text()}" for m in found)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, str, int, int], None]]:
    """A bar with model, task, images done, rate and time left; silent where nobody watches (not a terminal)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.fields[model]} · {task.fields[job]}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        jobs: dict[tuple[str, str], tuple[Any, float, int]] = {}

        def update(model: str, job: str, done: int, total: int) -> None:
            key = (model, job)
            if key not in jobs or done < bar.tasks[0].completed:
                for known in list(bar.task_ids):
                    bar.remove_task(known)
                jobs.clear()
                jobs[key] = (bar.add_task("", total=total, model=model, job=job, rate=""), time.monotonic(), done)
            task, start, first = jobs[key]
            took = time.monotonic() - start
            rate = f"{(done - first) / took:.1f} images/s" if took > 0 and done > first else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield update


class _Lines:
    """One line for every finished job, for logs."""

    def __call__(self, model: str, job: str, done: int, total: int) -> None:
        if done == total:
            print(f"{model} · {job}: {done} images", file=sys.stderr)


@contextlib.contextmanager
def counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for a plain count."""
    with progress() as update:
        yield lambda done, total: update(what, "images", done, total)
