"""Writes the tables of docs/correlation.md anew, from the numbers that the cards print.

    python benchmarks/correlation.py [--check]

--check writes nothing and fails where the page says something else.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from vtbench.reporting.correlation import correlate, published_systems

PAGE = Path(__file__).resolve().parents[1] / "docs" / "correlation.md"


def tables(text: str) -> str:
    """The page with its tables, which stand between marks, as they are today."""
    for best_only in (False, True):
        mark = "best" if best_only else "all"
        pattern = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda marks, best=best_only: marks[1] + _table(best) + marks[2], text, flags=re.DOTALL)
    return text


def _table(best_only: bool) -> str:
    lines = [
        "| tokenizers' | generators' | systems | families | Spearman [95 %] | Kendall [95 %] | without one family |",
        "|---|---|---|---|---|---|---|",
    ]
    systems, _ = published_systems()
    for r in correlate(systems, "published", best_only=best_only).relations:
        if r.result.spearman is None or r.result.kendall is None or r.result.without_one is None:
            continue
        cells = [
            f"{c.value:+.2f}" + ("" if c.low is None else f" [{c.low:+.2f}, {c.high:+.2f}]")
            for c in (r.result.spearman, r.result.kendall)
        ]
        low, high = r.result.without_one
        names = f"| {r.tokenizer_score} | {r.generator_score} | {r.result.n} | {r.result.families} "
        lines.append(f"{names}| {cells[0]} | {cells[1]} | {low:+.2f} to {high:+.2f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    before = PAGE.read_text()
    after = tables(before)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(after)
    elif before != after:
        print("docs/correlation.md is not what the cards say today: run python benchmarks/correlation.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
