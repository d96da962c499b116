"""The page of docs/mutation.md from the outcomes of mutants."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from benchmarks.metrics.comparison import table
from benchmarks.mutate.plan import GROUPS, equivalents, reason


def page(results: Mapping[str, Mapping[str, Any]], sample: int, seed: int) -> str:
    """The page; survivors that nobody has called equivalent stand in a table of their own."""
    known = equivalents()
    rows, alive, harmless = [], [], []
    for name in (n for n in GROUPS if n in results):
        outcomes = list(results[name]["outcomes"].values())
        survivors = [o for o in outcomes if o["outcome"] != "killed"]
        for one in survivors:
            why = reason(known, one)
            line = [f"`{one['file']}`", f"`{one['from']}`", f"`{one['to']}`"]
            (alive if why is None else harmless).append(line if why is None else [*line, why])
        equivalent = sum(reason(known, one) is not None for one in survivors)
        counts = [len(outcomes), len(outcomes) - len(survivors), len(survivors) - equivalent, equivalent]
        rows.append(
            [
                name,
                results[name]["possible"],
                results[name]["places"],
                *counts,
                f"`pytest {' '.join(GROUPS[name].arguments)}`",
            ]
        )
    how = f"{sample} places a group or more, drawn with seed {seed}, one mutant a place" if sample else "every mutant"
    head = ["group", "possible", "places", "tried", "killed", "survived", "equivalent", "tests"]
    return "\n".join(
        [
            "# Mutation table",
            "",
            f"Written by `python -m benchmarks.mutate --sample {sample} --seed {seed}` on "
            f"{datetime.date.today().isoformat()}, by hand and never in CI (`pip install -e '.[mutate]'`).",
            "",
            "cosmic-ray changes one place of the code that decides numbers, and the tests of its package must fail. "
            f"Tried were {how}; annotations are left out, since nothing evaluates them. A mutant that survives is "
            "either equivalent, with a reason below, or a test is missing; one that survived an earlier call and is "
            "killed by a test that was written for it counts as killed. Metrics that need a network (LPIPS, DISTS, "
            "CLIP, DINO, Inception's features, OCR) are not in the sample.",
            "",
            *table(head, rows),
            "## Survivors",
            "",
            *(table(["file", "code", "mutant"], alive) if alive else ["None that is not equivalent.", ""]),
            "## Equivalent",
            "",
            *(table(["file", "code", "mutant", "why"], harmless) if harmless else ["None.", ""]),
        ]
    )
