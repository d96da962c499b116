"""Shim: until the sweep."""

from vtbench.reporting.curves import Curve, Point, Saving, Savings, bd_table, curves, pareto, rate
from vtbench.reporting.image_values import PEAK, RowValues
from vtbench.reporting.measured import RATE, all_lossless, newest_version, value
from vtbench.reporting.measured import lossless_images as lossless
from vtbench.reporting.measured import metric_version as version
from vtbench.reporting.ranking import TIED, Place, Ranking, deciding, ranking
from vtbench.reporting.runs import (
    KINDS,
    Question,
    curve_key,
    identity,
    is_ranked,
    kind,
    knob,
    options,
    question,
    system,
    why_not_ranked,
)
from vtbench.reporting.runs import read_runs as read
from vtbench.reporting.runs import section as part
from vtbench.reporting.runs import vtbench_version as made_by
from vtbench.reporting.table import COLUMNS, records, scores_table
from vtbench.reporting.values import finite

__all__ = [
    "COLUMNS",
    "KINDS",
    "PEAK",
    "RATE",
    "TIED",
    "Curve",
    "Place",
    "Point",
    "Question",
    "Ranking",
    "RowValues",
    "Saving",
    "Savings",
    "all_lossless",
    "bd_table",
    "curve_key",
    "curves",
    "deciding",
    "finite",
    "identity",
    "is_ranked",
    "kind",
    "knob",
    "lossless",
    "made_by",
    "newest_version",
    "options",
    "pareto",
    "part",
    "question",
    "ranking",
    "rate",
    "read",
    "records",
    "scores_table",
    "system",
    "value",
    "version",
    "why_not_ranked",
]
