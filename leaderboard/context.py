"""What every table and plot of a site asks of all its runs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vtbench.leaderboard.labels import Label
from vtbench.leaderboard.plot import Style
from vtbench.reporting.image_values import RowValues
from vtbench.results.record import Run


@dataclass(frozen=True)
class Context:
    """All runs of the site, by run id their labels, by curve key their styles, and their rows, each read once."""

    runs: Sequence[Run]
    labels: Mapping[str, Label]
    styles: Mapping[str, Style]
    banner: str | None = None
    """The reason that keeps every single run from being ranked: said once on top instead of on every line."""
    rows: RowValues = field(default_factory=RowValues)
