"""Files of one JSON object a line that somebody wrote by hand: manifests, questions, prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vtbench.results.files import loads
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import cause


def numbered_objects(
    text: str, where: str, wanted: str, *, names: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the line, from 1, and its object); empty lines are passed over. VtbenchError names the line that is
    none.

    where: the file in a complaint. wanted: what a line should be, its end. names: as `loads` takes them.
    """
    # Not splitlines: JSON's strings may hold U+2028 and its like as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = loads(line, names=names)
        except (ValueError, RecursionError) as bad:
            raise VtbenchError(f"{where} line {number} is not JSON ({cause(bad)}): {wanted}") from bad
        if not isinstance(entry, dict):
            raise VtbenchError(f"{where} line {number} is a {type(entry).__name__}: {wanted}")
        yield number, entry
