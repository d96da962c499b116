"""What an evaluation gives back: its runs, and why models failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtbench.results.html import paragraphs
from vtbench.results.record import Run
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import pandas as pd

SCORE_COLUMNS = ("task", "metric", "value", "low", "high", "n", "missing", "unit", "better", "why", "warning")
RUN_COLUMNS = ("model", "options", "weights", "suite", "view", "ranked")


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Finished runs, and for every model that failed the sentence why."""

    runs: tuple[Run, ...]
    failures: Mapping[str, str]

    def to_pandas(self) -> pd.DataFrame:
        """One line a score: model, options, weights, task, suite, view, metric, value, low, high, n, missing, why."""
        import pandas as pd

        lines = []
        for run in self.runs:
            info = run.info
            base = {
                "model": info.model.name,
                "options": info.model.options,
                "weights": info.model.weights.status,
                "suite": info.suite.name,
                "view": info.view.name,
                "ranked": info.ranked,
            }
            lines += [{**base, **{k: s[k] for k in SCORE_COLUMNS}} for s in run.scores]
        return pd.DataFrame(lines, columns=[*RUN_COLUMNS, *SCORE_COLUMNS])

    def as_dict(self) -> dict[str, Any]:
        """Every run with its record and scores, and why models failed."""
        return {"schema": 1, "runs": [run.as_dict() for run in self.runs], "failures": dict(self.failures)}

    def rows(self) -> Iterator[dict[str, Any]]:
        """All per-image rows, each with its run's model and task."""
        for run in self.runs:
            for row in run.rows():
                yield {"model": run.name, "task": run.info.task.name, **row.as_dict()}

    def value(self, metric: str, task: str | None = None) -> float | None:
        """The metric's value where there is exactly one run that has it."""
        values = [s.value for r in self.runs for s in r.scores if s.metric == metric and task in (None, s.task)]
        if len(values) != 1:
            raise VtbenchError(f"{len(values)} runs have the metric {metric!r}: use to_pandas() and choose")
        return values[0]

    def __repr__(self) -> str:
        lines = [repr(r) for r in self.runs] + [f"failed: {name}: {why}" for name, why in self.failures.items()]
        return "\n".join(["<Evaluation>", *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        failed = paragraphs(f"failed: {name}: {why}" for name, why in self.failures.items())
        return "".join([*(run._repr_html_() for run in self.runs), failed])
