"""Where a number came from: everything about one run, with the command that repeats it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.aggregate import finite, identity, is_ranked, kind, made_by, options, part, why_not_ranked
from vtbench.leaderboard.tables import Label
from vtbench.leaderboard.words import ARROWS, DIRECTIONS, anchor, decimals, link, number, short
from vtbench.results import Run

ROWS_SHOWN = 100
"""Images in the table of a run's page; all of them are in rows.jsonl of its folder."""


def command(run: Run) -> str:
    """The command line that asks this run's question again, made from the record."""
    model, suite, view = part(run, "model"), part(run, "suite"), part(run, "view")
    words = ["vtbench", "evaluate", str(model.get("name", ""))]
    for name, value in options(run).items():
        words += ["--option", f"{name}={value if isinstance(value, str) else json.dumps(value, default=str)}"]
    weights = model.get("weights")
    # Official files are found by the card: in a package, or on the hub.
    if isinstance(weights, Mapping) and weights.get("status") in ("own", "unverified"):
        words += ["--checkpoint", "FILE_OR_DIR"]
    words += ["--task", str(part(run, "task").get("name", ""))]
    words += ["--images", str(suite.get("name", "")), "--view", str(view.get("name", ""))]
    if run.info.get("dtype") not in (None, "float32"):
        words += ["--dtype", str(run.info["dtype"])]
    if part(run, "device").get("kind") not in (None, "cpu"):
        words += ["--device", str(part(run, "device")["kind"])]
    if run.info.get("batch_size"):
        words += ["--batch-size", str(run.info["batch_size"])]
    if run.info.get("limit"):
        words += ["--limit", str(run.info["limit"])]
    return shlex.join(words)


def facts(run: Run, label: Label, kin: Sequence[Run], labels: Mapping[str, Label]) -> dict[str, Any]:
    """What templates/run.html.j2 shows."""
    scores = [_score(run, s) for s in run.scores]
    model = part(run, "model")
    stated = model.get("card")
    card: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
    service = part(run, "service")
    return {
        "run": run,
        "told": label,
        "kind": kind(run),
        "ranked": is_ranked(run),
        "why": why_not_ranked(run),
        "scores": [s for s in scores if s["card"]],
        "speed": [s for s in scores if not s["card"]],
        "command": command(run),
        "given": run.info.get("command"),
        "origin": _origin(run),
        "packages": sorted((str(k), str(v)) for k, v in _mapping(part(run, "provenance").get("packages")).items()),
        "files": _files(model.get("weights")),
        "card_facts": _card_facts(card),
        "links": [(name, url) for name in ("paper", "code") if (url := link(card.get(name)))],
        "claims": _claims(run, card),
        "service": [(str(k).replace("_", " "), _text(v)) for k, v in service.items()],
        "rows": _rows(run),
        "kin": [(labels[identity(r)], part(r, "task"), part(r, "suite"), part(r, "view")) for r in kin],
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return number(value) if finite(value) is not None else "not finite"
    if isinstance(value, (Mapping, list, tuple)):
        return short(json.dumps(value, ensure_ascii=False, default=str), 300)
    return short(value, 300)


def _score(run: Run, score: Mapping[str, Any]) -> dict[str, Any]:
    name = str(score.get("metric", ""))
    card = _mapping(part(run, "metrics").get(name))
    value = finite(score.get("value"))
    low, high = finite(score.get("low")), finite(score.get("high"))
    digits = decimals([value], str(score.get("unit") or ""))
    details = {k: v for k, v in _mapping(score.get("details")).items() if k != "reduction"}
    return {
        "metric": name,
        "title": short(card.get("title") or name.replace("-", " "), 80),
        "href": f"methods.html#m-{anchor(name)}" if card else None,
        "card": bool(card),
        "value": number(value, digits),
        "missing_value": value is None,
        "interval": f"[{number(low, digits)}, {number(high, digits)}]" if low is not None and high is not None else "",
        "unit": short(score.get("unit") or "", 20),
        "arrow": ARROWS.get(str(score.get("better")), ""),
        "direction": DIRECTIONS.get(str(score.get("better")), ""),
        "n": score.get("n"),
        "missing": score.get("missing") or 0,
        "version": score.get("version"),
        "why": short(score.get("why") or "the run states no reason", 600) if value is None else None,
        "warning": short(score["warning"], 600) if score.get("warning") else None,
        "details": [(str(k).replace("_", " "), _text(v)) for k, v in details.items()],
    }


def _origin(run: Run) -> list[tuple[str, str, str | None]]:
    """(what, as shown, in full) of everything that decides or may move a number; hashes short, whole in the title."""
    info, told = run.info, part(run, "provenance")
    suite, view, device = part(run, "suite"), part(run, "view"), part(run, "device")
    model, task = part(run, "model"), part(run, "task")
    out: list[tuple[str, str, str | None]] = []

    def add(what: str, value: Any, full: Any = None) -> None:
        if value not in (None, "", [], {}):
            out.append((what, short(value, 200), None if full is None else str(full)))

    def digest(what: str, value: Any) -> None:
        if value:
            add(what, short(str(value), 12).rstrip("…") + "…" if len(str(value)) > 12 else value, value)

    digest("question (run id)", info.get("id"))
    add("task", f"{task.get('name')} version {task.get('version')}")
    add("images", f"{suite.get('name')}, {suite.get('n')} images")
    digest("images' hash", suite.get("hash"))
    add("view", f"{view.get('name')}, protocol {view.get('protocol') or info.get('protocol')}")
    digest("view's fingerprint", view.get("fingerprint"))
    add("sizes that do not fit", task.get("fit"))
    served = _mapping(info.get("served"))
    add("images served", "; ".join(f"{n} {how}" for how, n in served.items()) or None)
    add("images enlarged to the view", info.get("enlarged"))
    add("dtype of the model", info.get("dtype"))
    add("seed", info.get("seed"))
    add("batch size", info.get("batch_size"))
    add("limit", info.get("limit"))
    add("shard", info.get("shard"))
    add("device", ", ".join(f"{device[k]}" for k in ("kind", "name", "cpu") if device.get(k)))
    add("threads", device.get("threads"))
    digest("adapter's sha256", model.get("adapter_sha256"))
    parameters = finite(model.get("parameters"))
    add("parameters", number(parameters, 0) if parameters is not None else None)
    add("vtbench", made_by(run))
    digest("commit", told.get("git"))
    digest("code's sha256", told.get("code_sha256"))
    if "release" in told:
        add("code is the release", "yes" if told.get("release") else "no")
    add("Python", told.get("python"))
    add("platform", told.get("platform"))
    add("started", told.get("started"))
    add("finished", told.get("finished"))
    return out


def _files(weights: Any) -> dict[str, Any]:
    found = _mapping(weights)
    listed = found.get("files")
    files = [f for f in listed if isinstance(f, Mapping)] if isinstance(listed, (list, tuple)) else []
    words = {
        "official": "official: the sha256 is the one that the model's card states",
        "own": "the user's own file: its hash is recorded",
        "unverified": "unverified: not the file that the card states, or made for a test; never ranked",
        "built-in": "shipped with vtbench",
        "none": "this system has no weights",
    }
    status = str(found.get("status") or "not stated")
    return {
        "status": words.get(status, status),
        "why": found.get("why"),
        "files": [(short(f.get("file", ""), 120), str(f.get("sha256") or "")) for f in files],
    }


def _card_facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = (
        ("licence", "licence"), ("tokens_at_256", "tokens at 256 × 256"), ("latent_channels", "latent channels"),
        ("downsample", "downsampling"), ("trained_on", "trained on"), ("stochastic", "stochastic"),
        ("tokenizer", "tokenizer"), ("conditioning", "conditioning"), ("note", "note"),
    )  # fmt: skip
    out = [(title, _text(card[key])) for key, title in named if card.get(key) not in (None, "", [], (), False)]
    alphabets = card.get("alphabets")
    if isinstance(alphabets, (list, tuple)) and alphabets:
        same = len(set(map(str, alphabets))) == 1
        out.append(("alphabets", f"{alphabets[0]} × {len(alphabets)} books" if same else _text(alphabets)))
    return out


def _claims(run: Run, card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Published numbers; the measured one stands beside them only where both protocols are the same."""
    protocol = part(run, "view").get("protocol") or run.info.get("protocol")
    out = []
    published = card.get("published")
    for claim in published if isinstance(published, (list, tuple)) else []:
        if not isinstance(claim, Mapping):
            continue
        metric = str(claim.get("metric", ""))
        score = run.score(metric)
        agrees = claim.get("protocol") is not None and claim.get("protocol") == protocol
        measured = finite(score.get("value")) if score and agrees else None
        out.append(
            {
                "metric": metric,
                "claimed": number(finite(claim.get("value"))),
                "measured": number(measured),
                "protocol": short(claim.get("protocol") or "not stated", 80),
                "source": short(claim.get("source") or "", 200),
                "url": link(claim.get("source")),
                "note": "" if agrees else "not the protocol of this run, so not comparable",
            }
        )
    return out


def _rows(run: Run) -> dict[str, Any]:
    """The first images in the order of the suite, a column a metric that has per-image values."""
    shown: list[Mapping[str, Any]] = []
    count = 0
    for found in run.rows():
        if count < ROWS_SHOWN:
            shown.append(found)
        count += 1
    names = list(dict.fromkeys(str(k) for row in shown for k in _mapping(row.get("values"))))
    names = [n for n in names if any(finite(_mapping(row.get("values")).get(n)) is not None for row in shown)]
    digits = {n: decimals([finite(_mapping(r.get("values")).get(n)) for r in shown]) for n in names}
    lines = []
    for row in shown:
        values, why = _mapping(row.get("values")), _mapping(row.get("why"))
        cells = [
            {
                "text": number(finite(values.get(n)), digits[n]),
                "sort": finite(values.get(n)),
                "why": ""
                if finite(values.get(n)) is not None
                else short(why.get(n) or why.get("*") or "no value", 200),
            }
            for n in names
        ]
        lines.append({"item": short(row.get("item", ""), 80), "cells": cells, "why": short(why.get("*") or "", 300)})
    return {"names": names, "lines": lines, "count": count, "shown": len(shown)}
