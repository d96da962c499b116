"""The table of scores."""

from __future__ import annotations

import math
from pathlib import Path

import made_runs
import pytest
from made_runs import score

from vtbench.reporting.reading import read_runs
from vtbench.reporting.table import COLUMNS, records, scores_table
from vtbench.types.errors import VtbenchError


def test_table_has_a_line_a_score_and_says_what_is_missing(tmp_path: Path) -> None:
    made_runs.write(
        tmp_path / "a",
        scores=[score("psnr", 30.0, half=1.0), score("lpips-alex", None, n=0, missing=6, why="no weights")],
    )
    table = scores_table(read_runs([tmp_path]))
    assert list(table.columns) == list(COLUMNS)
    assert table.loc[0, ["metric", "value", "low", "high"]].tolist() == ["psnr", 30.0, 29.0, 31.0]
    assert math.isnan(table.loc[1, "value"])
    assert table.loc[1, "why"] == "no weights"
    assert records(read_runs([tmp_path]))[1]["value"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_of_json_is_refused(tmp_path: Path, value: float) -> None:
    """vtbench writes null and a reason; whoever wrote NaN, it is never shown as a value."""
    made_runs.write(tmp_path / "a", scores=[score("psnr", value)])
    with pytest.raises(VtbenchError, match=r"scores\.jsonl line 1 is not JSON \((NaN|Infinity) is no number"):
        read_runs([tmp_path])
