"""Where a number came from: everything about one run, with the command that repeats it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.leaderboard.labels import Label
from vtbench.leaderboard.words import ARROWS, DIRECTIONS, anchor, decimals, link, number, short
from vtbench.reporting import runs as records
from vtbench.reporting.claims import Beside, claims_beside
from vtbench.reporting.image_values import LOSSLESS
from vtbench.reporting.measured import ImageRow, is_cost, metric_card, rows, scores
from vtbench.reporting.runs import WeightFacts, identity
from vtbench.reporting.values import finite
from vtbench.results.record import Run, Score

ROWS_SHOWN = 100
"""Images in the table of a run's page; all of them are in rows.jsonl of its folder."""


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


def facts(run: Run, elsewhere: Sequence[Run], labels: Mapping[str, Label]) -> dict[str, Any]:
    """What templates/run.html.j2 shows. `elsewhere`: the runs of the same system on other images or tasks."""
    lines = [_score(run, stated) for stated in scores(run)]
    card = records.model_card(run)
    return {
        "run": run,
        "label": labels[identity(run)],
        "model_name": records.model_name(run),
        "task_title": records.task_title(run),
        "suite": records.suite_name(run),
        "view": records.view_name(run),
        "kind": records.kind(run),
        "ranked": records.is_ranked(run),
        "why": records.why_not_ranked(run),
        "scores": [line for line in lines if not line["cost"]],
        "speed": [line for line in lines if line["cost"]],
        "command": command(run),
        "typed_command": records.command(run),
        "origin": _origin(run),
        "packages": sorted((str(k), str(v)) for k, v in records.provenance(run).packages.items()),
        "files": _files(records.weights(run)),
        "card_facts": _card_facts(card),
        "links": [(name, url) for name in ("paper", "code") if (url := link(card.get(name)))],
        "claims": _claims(run),
        "service": [(str(k).replace("_", " "), _text(v)) for k, v in records.service(run).items()],
        "rows": _rows(run),
        "elsewhere": [
            (labels[identity(r)], records.task_title(r), records.suite_name(r), records.view_name(r)) for r in elsewhere
        ],
    }


def _text(fact: Any) -> str:
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
        "details": [(str(k).replace("_", " "), _text(v)) for k, v in details.items()],
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


def _files(weights: WeightFacts) -> dict[str, Any]:
    status = str(weights.status or "not stated")
    return {
        "status": WEIGHTS_IN_WORDS.get(status, status),
        "why": weights.why,
        "files": [(short(file.file, 120), file.sha256) for file in weights.files],
    }


CARD_FACTS = (
    ("licence", "licence"),
    ("tokens_at_256", "tokens at 256 × 256"),
    ("latent_channels", "latent channels"),
    ("downsample", "downsampling"),
    ("trained_on", "trained on"),
    ("stochastic", "stochastic"),
    ("tokenizer", "tokenizer"),
    ("conditioning", "conditioning"),
    ("note", "note"),
)
"""(field of the model's card, as the page names it)."""


def _card_facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    stated = [(title, card.get(field)) for field, title in CARD_FACTS]
    out = [(title, _text(fact)) for title, fact in stated if fact not in (None, "", [], (), False)]
    alphabets = card.get("alphabets")
    if isinstance(alphabets, (list, tuple)) and alphabets:
        same = len(set(map(str, alphabets))) == 1
        out.append(("alphabets", f"{alphabets[0]} × {len(alphabets)} books" if same else _text(alphabets)))
    return out


def _claims(run: Run) -> list[dict[str, Any]]:
    """Published numbers; the measured one stands beside them only where the run meets all that the source states."""
    return [
        {
            "metric": claim.metric,
            "claimed": number(claim.claimed),
            "measured": number(claim.measured),
            "protocol": short((claim.conditions.text if claim.conditions else None) or "not stated", 120),
            "source": short(claim.source, 200),
            "url": link(claim.source),
            "note": short(_remark(claim), 300),
        }
        for claim in claims_beside(run)
    ]


def _remark(claim: Beside) -> str:
    """Why nothing stands beside a claim, or what its source leaves open; and what the card says of it."""
    open_ = f"not stated by the source: {', '.join(claim.left_open)}" if claim.left_open else None
    return "; ".join(filter(None, [claim.note, claim.why or open_]))


def _rows(run: Run) -> dict[str, Any]:
    """The first images in the order of the suite, a column a metric that has per-image values."""
    shown: list[ImageRow] = []
    count = 0
    for row in rows(run):
        if count < ROWS_SHOWN:
            shown.append(row)
        count += 1
    names = list(dict.fromkeys(name for row in shown for name in row.values))
    names = [name for name in names if any(row.values.get(name) is not None for row in shown)]
    digits = {name: decimals([row.values.get(name) for row in shown]) for name in names}
    lines = [
        {
            "item": short(row.item, 80),
            "cells": [_image_cell(row, name, digits[name]) for name in names],
            "why": short(row.why.get("*") or "", 300),
        }
        for row in shown
    ]
    return {"names": names, "lines": lines, "count": count, "shown": len(shown)}


def _image_cell(row: ImageRow, metric: str, digits: int) -> dict[str, Any]:
    measured = row.values.get(metric)
    why = "" if measured is not None else short(row.why.get(metric) or row.why.get("*") or "no value", 200)
    if why.startswith(LOSSLESS):
        return {"text": "lossless", "sort": math.inf, "why": why}
    return {"text": number(measured, digits), "sort": measured, "why": why}
