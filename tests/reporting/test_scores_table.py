"""The table of scores."""

from __future__ import annotations

import math
from pathlib import Path

import made_runs
from made_runs import score

from vtbench.reporting.runs import read_runs
from vtbench.reporting.table import COLUMNS, records, scores_table


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


def test_not_a_number_is_missing_not_a_value(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "a", scores=[score("psnr", float("nan")), score("ssim", float("inf"))])
    lines = records(read_runs([tmp_path]))
    assert [line["value"] for line in lines] == [None, None]
    assert all(line["why"] for line in lines)
