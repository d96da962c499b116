"""What every table and plot of a site asks of all its runs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from vtbench.leaderboard.labels import Label
from vtbench.reporting.curves import rates
from vtbench.reporting.image_values import RowValues
from vtbench.reporting.runs import identity, system
from vtbench.results.record import Run


@dataclass(frozen=True)
class Context:
    """All runs of the site, by run id their labels, and their rows, each read once."""

    runs: Sequence[Run]
    labels: Mapping[str, Label]
    banner: str | None = None
    """The reason that keeps every single run from being ranked: said once on top instead of on every line."""
    rows: RowValues = field(default_factory=RowValues)

    @cached_property
    def rates(self) -> Mapping[str, float | None]:
        """Bits per pixel by run id; a run without its own has that of its system on the same images elsewhere."""
        return rates(self.runs)

    @cached_property
    def by_system(self) -> Mapping[str, Sequence[Run]]:
        """Runs by what they measure (reporting.runs.system)."""
        out: dict[str, list[Run]] = {}
        for run in self.runs:
            out.setdefault(system(run), []).append(run)
        return out

    @cached_property
    def by_id(self) -> Mapping[str, Run]:
        return {identity(run): run for run in self.runs}
