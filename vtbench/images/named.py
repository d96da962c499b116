"""Suites that have a name: those that ship with vtbench and those of the hub. Light, for `vtbench list suites`."""

from __future__ import annotations

import importlib.util
from typing import Any

from vtbench.images.hub import REMOTE
from vtbench.images.manifests import builtin_lines, builtin_suites
from vtbench.types.errors import how_to_install


def list_suites() -> list[dict[str, Any]]:
    """Every suite by name, with what it needs; reads manifests' headers only."""
    rows = []
    for name in builtin_suites():
        head, *images = builtin_lines(name)
        rows.append(
            {
                "name": name,
                "title": head.get("title", ""),
                "n": len(images),
                "version": head.get("version", "1"),
                "licence": head.get("licence"),
                "state": "ready",
                "needs": "",
            }
        )
    have = importlib.util.find_spec("datasets") is not None
    for name, facts in REMOTE.items():
        rows.append(
            {
                "name": name,
                "title": facts["title"],
                "n": facts["n"],
                "version": "main",
                "licence": None,
                "state": "needs download" if have else "needs extra",
                "needs": f"network, {facts['address']}" if have else f"{how_to_install('hub')}, network",
            }
        )
    return rows
