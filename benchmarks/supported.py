"""The numbers of README's table "What is supported", counted anew.

python -m benchmarks.supported
"""

from __future__ import annotations

import re
from pathlib import Path

from vtbench.cli.catalogue import LISTS

README = Path(__file__).resolve().parents[1] / "README.md"
ROW = re.compile(r"^(\|[^|]*\| )([^|]*)( \| `vtbench list (\w+)(?: --kind (\w+))?` \|)$", re.MULTILINE)
"""A line of the table: its count, and the command that lists what is counted."""


def count(what: str, kind: str | None) -> str:
    """How many there are, as the table says it."""
    entries = [entry for entry in LISTS[what]() if kind is None or entry["kind"] == kind]
    if what != "models":
        return str(len(entries))
    families = len({entry["family"] for entry in entries})
    return f"{len(entries)} models of {families} famil{'y' if families == 1 else 'ies'}"


def counted(text: str) -> str:
    """The README with today's numbers."""
    return ROW.sub(lambda row: f"{row[1]}{count(row[4], row[5])}{row[3]}", text)


if __name__ == "__main__":
    README.write_text(counted(README.read_text(encoding="utf-8")), encoding="utf-8")
