"""correlation.html: does reconstruction predict generation? From published numbers, and from the runs of the site."""

from __future__ import annotations

from typing import Any

from vtbench.leaderboard.page import Page, Site
from vtbench.leaderboard.scatter import Axis, scatter
from vtbench.reporting.correlation import Correlation, Relation, correlate, measured_systems, published_systems


def pages(site: Site) -> list[Page]:
    def facts() -> dict[str, object]:
        printed, no_print = published_systems()
        systems, left_out = measured_systems(site.runs)
        answers = [
            ("As printed by authors", correlate(printed, "published", left_out=no_print)),
            (
                "As printed, the best generator of each tokenizer alone",
                correlate(printed, "published", best_only=True, left_out=no_print),
            ),
        ]
        if systems:
            answers.insert(
                0, ("As measured in the runs of this site", correlate(systems, "measured", left_out=left_out))
            )
        return {"answers": [_answer(title, answer, place) for place, (title, answer) in enumerate(answers)]}

    return [Page("correlation.html", "correlation.html.j2", facts)]


def _answer(title: str, answer: Correlation, place: int) -> dict[str, Any]:
    """What the template shows: relations with a coefficient as lines, the first as a plot, the others counted."""
    shown = [r for r in answer.relations if r.result.spearman is not None]
    return {
        "title": title,
        "lines": shown,
        "conditions": _conditions(shown),
        "plot": _plot(shown[0], f"correlation{place}") if shown else None,
        "of": shown[0] if shown else None,
        "without": len(answer.relations) - len(shown),
        "systems": len(answer.systems),
    }


def _conditions(relations: list[Relation]) -> list[str]:
    """What holds of the numbers of each line, once; and why a line has no interval."""
    out: dict[str, list[str]] = {}
    for r in relations:
        words = f"{r.tokenizer_conditions}; of generators {r.generator_conditions}"
        out.setdefault(words, []).append(f"{r.tokenizer_score} and {r.generator_score}")
        if r.result.why_no_interval:
            out.setdefault(f"no interval, {r.result.why_no_interval}", []).append(
                f"{r.tokenizer_score} and {r.generator_score}"
            )
    return [f"{', '.join(lines)}: {words}" for words, lines in out.items()]


def _plot(relation: Relation, ident: str) -> str:
    first = relation.pairs[0]
    x, y = Axis(relation.tokenizer_score, first.x.better), Axis(relation.generator_score, first.y.better)
    return scatter(relation.points(), x, y, ident)
