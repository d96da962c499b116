"""The report of `vtbench doctor` as text: 80 columns, the user's folder as ~, one command for what is missing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.cli.tables import fitted

WIDTH = 80
FEW = 3
"""So many files to be brought by hand are named with their addresses."""
HERE = ("verified", "here", "given")


def diagnosis(report: Mapping[str, Any]) -> str:
    """The report, part by part."""
    return "\n\n".join(part for part in _parts(report) if part)


def _parts(report: Mapping[str, Any]) -> Iterator[str]:
    machine = report["machine"]
    release = "" if report["release"] else " (not the release as published: nothing is ranked)"
    cores = f"{machine['threads']} threads of {machine['cores']} cores"
    yield "\n".join(
        _wrapped(line)
        for line in (
            f"vtbench {report['vtbench']}{release}",
            f"Python {report['python']} · {', '.join(machine['devices'])} · {cores}",
            f"{report['network']} · cache {home(report['cache'])}",
        )
    )
    yield _wrapped(", ".join(f"{name} {version}" for name, version in report["packages"].items()))
    extras = [[e["name"], e["state"], e["enables"]] for e in report["extras"]]
    yield fitted(("extra", "state", "enables"), extras, WIDTH, cut=("state", "enables"))
    yield "\n".join(e["how"] for e in report["extras"] if e["state"] != "installed")
    weights = [[w["name"], w["state"], ", ".join(w.get("needed_by") or ())] for w in report["metric_weights"]]
    yield fitted(("metric weights", "state", "needed by"), weights, WIDTH, cut=("needed by",))
    yield "\n".join(_advice(report["metric_weights"]))
    yield "\n".join(_wrapped(f"broken plug-in {name}: {why}") for name, why in report["plugins"].items())


def _advice(weights: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How what is missing is had: one command for all that comes by itself, a line for each that does not."""
    missing = [w for w in weights if w["state"] not in HERE]
    coming = [w for w in missing if w["comes_by_itself"] and w["state"] != "refused"]
    if coming:
        size = sum(w["megabytes"] for w in coming) / 1000
        yield f"{len(coming)} files ({size:.1f} GB) come at their first use, or ahead of time by"
        yield "  vtbench fetch --metrics"
    yield from (
        _wrapped(f"{home(w['path'])} is not the released {w['name']}: delete it")
        for w in missing
        if w["state"] == "refused"
    )
    alone = [w for w in missing if w["state"] != "refused" and not w["comes_by_itself"]]
    if len(alone) > FEW:
        yield f"{len(alone)} files are put there by hand; their addresses:\n  vtbench doctor --json"
    else:
        yield from (_wrapped(f"{w['name']}: {w['how']}") for w in alone)


def home(path: str) -> str:
    """A path with the user's folder as ~."""
    try:
        return str(Path("~") / Path(path).relative_to(Path.home()))
    except ValueError:
        return path


def _wrapped(text: str) -> str:
    # A word that is longer than a line (an address) stays whole, so that it can be copied.
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
