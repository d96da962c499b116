"""Results as text for a terminal. No logic, no numbers of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.cli.reducers_text import reducers
from vtbench.cli.tables import cell, table
from vtbench.types.readable import bytes_in_words

if TYPE_CHECKING:
    from vtbench.models.identify import Match
    from vtbench.proving.sheet import Check
    from vtbench.reporting.inventory import Listed
    from vtbench.results.cache_files import Part
    from vtbench.results.record import Run, Score
    from vtbench.running.evaluation import Evaluation
    from vtbench.running.folders import Scored

ARROWS = {"higher": "↑", "lower": "↓"}
MARKS = {"passed": "passed     ", "failed": "FAILED     ", "not checked": "not checked"}


def number(value: float | None) -> str:
    """Five significant digits; a dash for missing."""
    if value is None:
        return "—"
    return f"{value:.0f}" if abs(value) >= 1e5 else f"{value:.5g}"


def interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def evaluation(result: Evaluation, out: Path) -> str:
    """Scores of every run, what is missing and why, where the folders are."""
    summary = reducers(result.runs)
    parts = (
        [summary]
        if summary is not None
        else [run_scores(group[0]) if len(group) == 1 else sweep(group) for group in _sweeps(result.runs)]
    )
    if result.runs:
        parts.append(f"results: {out}    page: vtbench leaderboard build {out} --out {out}/site")
    return "\n\n".join(parts)


def run_scores(run: Run) -> str:
    """One run: what was asked, the scores, the reasons of the missing ones, why it is not ranked."""
    info = run.info
    options = ", ".join(f"{k}={v}" for k, v in info.model.options.items())
    head = (
        f"{run.name}{f' ({options})' if options else ''} · {info.task.name} on {info.suite.name} at "
        f"{info.view.name} · {info.n} images · weights {info.model.weights.status} · {info.status}"
    )
    return "\n".join([scores_table(run.scores, head), *_remarks(run)])


def _remarks(run: Run) -> list[str]:
    """What a reader must know of a run, below its scores."""
    info = run.info
    out = [*info.suite.notes, *info.notes]
    if info.enlarged:
        out.append(f"{info.enlarged} of {info.n} images are smaller than the view and were enlarged")
    out += [f"{n} of {info.n} images: {how}" for how, n in info.served.items()]
    if info.model.weights.note:
        out.append(f"weights: {info.model.weights.note}")
    return out if info.ranked else [*out, f"not ranked: {info.why_not_ranked}"]


def _sweeps(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in the model's options alone, together; in the order in which they were asked for."""
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        info = run.info
        groups.setdefault((run.name, info.task.name, info.suite.name, info.view.name), []).append(run)
    return list(groups.values())


def sweep(runs: Sequence[Run]) -> str:
    """Several runs of one model: a column a run, headed by the options that differ; intervals stand in --json."""
    first = runs[0].info
    options = [run.info.model.options for run in runs]
    differing = [k for k in options[0] if any(o.get(k) != options[0][k] for o in options)]
    heads = [", ".join(f"{k}={o.get(k)}" for k in differing) or f"run {i}" for i, o in enumerate(options, 1)]
    head = f"{runs[0].name} · {first.task.name} on {first.suite.name} at {first.view.name} · {first.n} images"
    by_metric: dict[str, list[Score | None]] = {}
    for i, run in enumerate(runs):
        for score in run.scores:
            by_metric.setdefault(score.metric, [None] * len(runs))[i] = score
    lines: list[list[str]] = []
    reasons: dict[str, dict[str, None]] = {}
    for metric, scores in by_metric.items():
        present = [s for s in scores if s is not None]
        unit = f"{present[0].unit}{ARROWS.get(present[0].better or '', '')}".strip()
        if any(s.value is not None for s in present):
            lines.append([metric, unit, *(number(s.value if s is not None else None) for s in scores)])
        for s in present:
            if s.value is None:
                reasons.setdefault(str(s.why), {})[metric] = None
    said = [f"{', '.join(names)}: null, because {reason}" for reason, names in reasons.items()]
    remarks = [f"warning ({s.metric}): {s.warning}" for run in runs for s in run.scores if s.warning]
    remarks += [line for run in runs for line in _remarks(run)]
    states = [(at, run.info.status) for at, run in zip(heads, runs, strict=True)]
    remarks += [f"{at}: {status}" for at, status in states if status != "complete"]
    return "\n".join([table(("metric", "", *heads), lines, head), *said, *dict.fromkeys(remarks)])


def folders(scored: Scored) -> str:
    """The tables of `vtbench score`."""
    return "\n\n".join(scores_table(c.scores, c.path) for c in scored.candidates)


def scores_table(scores: Sequence[Score], title: str) -> str:
    """Scores, then every reason and every warning once, with the metrics that it is about."""
    lines = []
    why: dict[str, list[str]] = {}
    warnings: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {}
    for score in scores:
        if score.value is None:
            why.setdefault(str(score.why), []).append(score.metric)
            continue
        lines.append(_score_cells(score))
        for warning in filter(None, (score.warning or "").split("; ")):
            warnings.setdefault(warning, []).append(score.metric)
        for reason, n in score.details.get("missing", {}).items():
            absent.setdefault(f"{n} image{'s' if n != 1 else ''}: {reason}", []).append(score.metric)
    text = table(("metric", "value", "95 % interval", "n", ""), lines, title)
    text += "".join(f"\n{', '.join(names)}: null, because {reason}" for reason, names in why.items())
    text += "".join(f"\nmissing ({', '.join(names)}): {reason}" for reason, names in absent.items())
    return text + "".join(f"\nwarning ({', '.join(names)}): {warning}" for warning, names in warnings.items())


def _score_cells(score: Score) -> list[str]:
    """One line of the table of scores."""
    beside = [f"{score.missing} missing"] if score.missing else []
    resize_only = score.details.get("resize_only")
    if resize_only is not None:
        beside.append(f"resize only: {number(resize_only)}")
    value = f"{number(score.value)} {score.unit}{ARROWS.get(score.better or '', '')}".strip()
    return [score.metric, value, interval(score.low, score.high), f"n={score.n}", ", ".join(beside)]


def runs(listed: Sequence[Listed]) -> str:
    """The table of `vtbench runs`, what is out of date, and how it is renewed. Runs of one name, as before and after an
    edit of a model's code, are told apart by their times."""
    alike: dict[tuple[Any, ...], list[Listed]] = {}
    for run in listed:
        if not run.why:
            alike.setdefault((_called(run), run.task, run.suite, run.images), []).append(run)
    several = [same for same in alike.values() if len(same) > 1]
    timed = {run.path for same in several for run in same}
    lines = [
        [
            cell(_called(run)),
            run.task,
            run.suite,
            str(run.images if run.images is not None else ""),
            run.status or "",
            (run.date or "")[: 19 if run.path in timed else 10].replace("T", " "),
            run.vtbench or "",
            ", ".join(run.kept),
            bytes_in_words(run.bytes),
            str(run.path),
        ]
        for run in listed
        if not run.why
    ]
    columns = ("model", "task", "suite", "n", "status", "date", "vtbench", "kept", "size", "path")
    out = [table(columns, lines), f"{len(listed)} runs, {bytes_in_words(sum(run.bytes for run in listed))}"]
    for same in several:
        newest = max(same, key=lambda run: run.date or "")
        name = f"{_called(newest)}, {newest.task}, {newest.suite}"
        # Times are whole seconds.
        which = f", the newest being {newest.path}" if [run.date for run in same].count(newest.date) == 1 else ""
        out.append(f"{len(same)} runs are of {name}{which}; in what two differ: vtbench explain RUN RUN")
    for run in listed:
        if run.stale:
            versions = ", ".join(
                f"{name} {stale.measured} (here {stale.installed})" for name, stale in run.stale.items()
            )
            out.append(f"{run.path}: of another version than here: {versions}; {_renewal(run)}")
    return "\n".join(out)


def _called(run: Listed) -> str:
    """A model's name and options."""
    return " ".join([run.model, *(f"{k}={v}" for k, v in run.setting.items())])


def _renewal(run: Listed) -> str:
    if any(stale.measured > stale.installed for stale in run.stale.values()):
        return "upgrade vtbench to compare it"
    if {"images", "tokens", "generated"} & {*run.kept}:
        return f"renew with: vtbench score {run.path}"
    return "it kept neither images nor tokens: evaluate again"


def cache(folder: Path, parts: Sequence[Part]) -> str:
    """The table of `vtbench cache`."""
    lines = [
        [
            part.name,
            str(part.files),
            bytes_in_words(part.size),
            "" if part.oldest is None else time.strftime("%Y-%m-%d", time.gmtime(part.oldest)),
            "yes" if part.pruned else "no",
            part.what,
        ]
        for part in parts
    ]
    return table(("folder", "files", "size", "least recently used", "pruned", "what"), lines, str(folder))


def check(one: Check) -> str:
    return f"{MARKS[one.status]}  {one.name}: {one.said}"


def identified(file: Path, matches: Sequence[Match]) -> str:
    if not matches:
        return f"{file}: no model of vtbench has these names and shapes"
    return "\n".join(line for match in matches for line in _match(file, match))


def _match(file: Path, match: Match) -> list[str]:
    """What a checkpoint is, the command that evaluates it, and which copies of the weights it holds."""
    lines = [f"{file}: {match.text()}"]
    command = match.command(file)
    if command is not None:
        lines.append(f"    {command}")
    elif match.parts:
        lines.append(f"    it is loaded from a folder with {', '.join(match.parts)}")
    if match.beside:
        read = match.file if file.is_dir() else match.path or "the file itself"
        how = "as above" if match.undecided else f"{read} is read"
        lines.append(
            f"    it also holds {', '.join(match.beside)}: {how}; another is chosen by --prefix, or by its file"
        )
    return lines
