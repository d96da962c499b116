"""The best of every kind in every band of rate, with all that are not told apart from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vtbench.leaderboard.context import Context
from vtbench.leaderboard.labels import Label
from vtbench.reporting.ranking import Ranking, band_order
from vtbench.reporting.runs import kind_order

NAMED = 2
"""So many that are not told apart from the best are named before the rest is folded."""


@dataclass(frozen=True)
class Leader:
    """`best`: by value; `tied`: not told apart from it, best first; `of`: how many stand in this kind and band."""

    kind: str
    band: str
    """Empty where the systems have no rate."""
    best: Label
    tied: Sequence[Label]
    of: int
    tested: bool
    """Whether ties were looked for on the same images; else equal values alone tie."""


def leaders(
    rankings: Mapping[str, Mapping[str, Ranking]], metrics: Sequence[str], context: Context
) -> dict[str, list[Leader]]:
    """By metric, the bands by rate and in each the kinds in order; `rankings`: by kind and metric."""
    out: dict[str, list[Leader]] = {}
    for metric in metrics:
        lines: list[tuple[int, Leader]] = []
        for kind in sorted(rankings, key=lambda name: (kind_order(name), name)):
            ranking = rankings[kind].get(metric)
            lines += _of_kind(kind, ranking, context) if ranking else []
        out[metric] = [leader for _, leader in sorted(lines, key=lambda line: line[0])]
    return out


def _of_kind(kind: str, ranking: Ranking, context: Context) -> list[tuple[int, Leader]]:
    """(place of the band by rate, its leader) of each band."""
    bands: dict[str, list[str]] = {}
    for run, place in ranking.places.items():
        bands.setdefault(place.band, []).append(run)
    out: list[tuple[int, Leader]] = []
    for band in bands:
        ordered = sorted(bands[band], key=lambda run: ranking.places[run].rank)
        best = [run for run in ordered if ranking.places[run].best]
        if best:
            tied = [context.labels[run] for run in best[1:]]
            tested = ranking.places[best[0]].low is not None
            by_rate = band_order(_lowest(ordered, context)) if band else -1
            out.append((by_rate, Leader(kind, band, context.labels[best[0]], tied, len(ordered), tested)))
    return out


def _lowest(runs: Sequence[str], context: Context) -> float:
    return min((bits for run in runs if (bits := context.rates[run]) is not None), default=0.0)
