"""Where a number came from: everything about one run, with the command that repeats it."""

from __future__ import annotations

import heapq
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vtbench.leaderboard.addresses import run_key
from vtbench.leaderboard.labels import Label
from vtbench.leaderboard.words import ARROWS, DIRECTIONS, anchor, decimals, number, short
from vtbench.reporting import runs as records
from vtbench.reporting.image_values import RowValues
from vtbench.reporting.measured import is_cost, metric_card, scores
from vtbench.reporting.runs import WeightFacts, identity
from vtbench.reporting.values import finite
from vtbench.results.files import open_regular, own_files
from vtbench.results.record import PARTS, Run, Score

WORST = 5
"""Images of a run that its page names as the worst."""
LARGEST_ROWS = 5_000_000
"""Bytes of a file of rows that is copied into the site; a larger one stays in the run's folder."""


def command(run: Run) -> str:
    """The command line that asks this run's question again, from its record."""
    words = ["vtbench", "evaluate", records.model_name(run)]
    for name, setting in records.options(run).items():
        words += ["--option", f"{name}={setting if isinstance(setting, str) else json.dumps(setting, default=str)}"]
    # Official files are found by the card: in a package, or on the hub.
    if records.weights(run).status in ("own", "unverified"):
        words += ["--checkpoint", "FILE_OR_DIR"]
    words += ["--task", records.task_name(run), "--images", records.suite_name(run), "--view", records.view_name(run)]
    options = (
        ("--dtype", records.dtype(run), "float32"),
        ("--device", records.device(run).kind, "cpu"),
        ("--batch-size", records.batch_size(run), None),
        ("--limit", records.limit(run), None),
    )
    for option, setting, default in options:
        if setting and setting != default:
            words += [option, str(setting)]
    return shlex.join(words)


def facts(run: Run, labels: Mapping[str, Label]) -> dict[str, Any]:
    """What the macro `run_block` of templates/runblock.html.j2 shows."""
    lines = [_score(run, stated) for stated in scores(run)]
    return {
        "run": run,
        "key": run_key(run),
        "label": labels[identity(run)],
        "task_title": records.task_title(run),
        "suite": records.suite_name(run),
        "view": records.view_name(run),
        "ranked": records.is_ranked(run),
        "why": records.why_not_ranked(run),
        "scores": [line for line in lines if not line["cost"]],
        "speed": [line for line in lines if line["cost"]],
        "command": command(run),
        "typed_command": records.command(run),
        "origin": _origin(run),
        "packages": sorted((str(k), str(v)) for k, v in records.provenance(run).packages.items()),
        "weights": _weights(records.weights(run)),
        "service": [(str(k).replace("_", " "), in_words(v)) for k, v in records.service(run).items()],
    }


def worst(run: Run, metric: str, rows: RowValues) -> list[tuple[str, float]]:
    """(image, value) of the WORST images of a metric with a better end, the worst first."""
    card = metric_card(run, metric)
    better = card.better if card else None
    if not better:
        return []
    read = rows.read(run)
    column = read.column(metric)
    goodness = column.values if better == "higher" else -column.values
    valued = np.flatnonzero(column.valued)
    worst = goodness[valued]
    # Of equals the first by name: no more names than those that are shown are in memory.
    able = valued[worst <= np.partition(worst, WORST - 1)[WORST - 1]] if len(worst) > WORST else valued
    named = zip(read.items.of(able), able, strict=True)
    most = heapq.nsmallest(WORST, named, key=lambda one: (goodness[one[1]], one[0]))
    return [(item, float(column.values[place])) for item, place in most]


@records.once
def own_records(run: Run) -> dict[str, int]:
    """The records of the run's folder that the site holds too, in bytes; rows that are large stay where they are."""
    own_files(run.path, PARTS)
    sizes = {name: (run.path / name).stat().st_size for name in PARTS if (run.path / name).is_file()}
    return {name: size for name, size in sizes.items() if name != "rows.jsonl" or size <= LARGEST_ROWS}


def contents(path: Path) -> bytes:
    """A record as its run wrote it."""
    own_files(path.parent, [path.name])
    with open_regular(path) as source:
        return source.read()


def in_words(fact: Any) -> str:
    if isinstance(fact, float):
        return number(fact) if finite(fact) is not None else "not finite"
    if isinstance(fact, (Mapping, list, tuple)):
        return short(json.dumps(fact, ensure_ascii=False, default=str), 300)
    return short(fact, 300)


def _score(run: Run, stated: Score) -> dict[str, Any]:
    card = metric_card(run, stated.metric)
    low, high = stated.low, stated.high
    digits = decimals([stated.value], stated.unit)
    details = {k: v for k, v in stated.details.items() if k != "reduction"}
    return {
        "metric": stated.metric,
        "title": short((card.title if card else "") or stated.metric.replace("-", " "), 80),
        "href": f"methods.html#m-{anchor(stated.metric)}" if card else None,
        "cost": is_cost(run, stated.metric),
        "value": number(stated.value, digits),
        "interval": f"[{number(low, digits)}, {number(high, digits)}]" if low is not None and high is not None else "",
        "unit": short(stated.unit or "", 20),
        "arrow": ARROWS.get(str(stated.better), ""),
        "direction": DIRECTIONS.get(str(stated.better), ""),
        "n": stated.n,
        "missing": stated.missing,
        "version": stated.version,
        "why": short(stated.why, 600) if stated.value is None else None,
        "warning": short(stated.warning, 600) if stated.warning else None,
        "details": [(str(k).replace("_", " "), in_words(v)) for k, v in details.items()],
    }


Fact = tuple[str, str, str | None]
"""What it is, as shown, and in full where what is shown is cut."""


def _origin(run: Run) -> list[Fact]:
    """Everything that decides or may move a number; hashes short, whole in the title."""
    return [fact for fact in (*_question_facts(run), *_machine_facts(run), *_code_facts(run)) if fact]


def _fact(what: str, fact: Any) -> Fact | None:
    return (what, short(fact, 200), None) if fact not in (None, "", [], {}) else None


def _digest(what: str, fact: Any) -> Fact | None:
    """A hash by its first characters."""
    whole = str(fact or "")
    if len(whole) <= 12:
        return (what, short(whole, 200), whole) if whole else None
    return what, short(short(whole, 12).rstrip("…") + "…", 200), whole


def _question_facts(run: Run) -> list[Fact | None]:
    served = "; ".join(f"{n} {how}" for how, n in records.served(run).items())
    images = records.suite_images(run)
    return [
        _digest("question (run id)", identity(run)),
        _fact("task", f"{records.task_name(run)} version {records.task_version(run)}"),
        _fact("images", records.suite_name(run) + (f", {images} images" if images is not None else "")),
        _digest("images' hash", records.suite_hash(run)),
        _fact("view", f"{records.view_name(run)}, protocol {records.protocol(run)}"),
        _digest("view's fingerprint", records.view_fingerprint(run)),
        _fact("sizes that do not fit", records.task_fit(run)),
        _fact("images served", served),
        _fact("images enlarged to the view", records.enlarged(run)),
        _fact("dtype of the model", records.dtype(run)),
        _fact("seed", records.seed(run)),
        _fact("batch size", records.batch_size(run)),
        _fact("limit", records.limit(run)),
        _fact("shard", records.shard(run)),
    ]


def _machine_facts(run: Run) -> list[Fact | None]:
    device, parameters = records.device(run), records.parameters(run)
    return [
        _fact("device", ", ".join(str(part) for part in (device.kind, device.name, device.cpu) if part)),
        _fact("threads", device.threads),
        _digest("adapter's sha256", records.adapter_sha256(run)),
        _fact("parameters", number(parameters, 0) if parameters is not None else None),
    ]


def _code_facts(run: Run) -> list[Fact | None]:
    provenance = records.provenance(run)
    release = None if provenance.release is None else "yes" if provenance.release else "no"
    return [
        _fact("vtbench", records.vtbench_version(run)),
        _digest("commit", provenance.git),
        _digest("code's sha256", provenance.code_sha256),
        _fact("code is the release", release),
        _fact("Python", provenance.python),
        _fact("platform", provenance.platform),
        _fact("started", provenance.started),
        _fact("finished", provenance.finished),
    ]


WEIGHTS_IN_WORDS = {
    "official": "official: the sha256 is the one that the model's card states",
    "own": "the user's own file: its hash is recorded",
    "unverified": "unverified: not the file that the card states, or made for a test; never ranked",
    "built-in": "shipped with vtbench",
    "none": "this system has no weights",
}


def _weights(weights: WeightFacts) -> dict[str, Any]:
    status = str(weights.status or "not stated")
    return {
        "status": WEIGHTS_IN_WORDS.get(status, status),
        "why": weights.why,
        "files": [(short(file.file, 120), file.sha256) for file in weights.files],
    }
