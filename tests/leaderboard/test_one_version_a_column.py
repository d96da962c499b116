"""Two versions of a metric never stand in one column of the page, and none of its plots has a point of the older."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import made_runs
from made_runs import score
from site_pages import NATURAL, row_of, task_page

from vtbench import leaderboard


def runs_of_two_versions(root: Path) -> Path:
    """Runs a, b and c, the first by an older version of PSNR, and by far the best by it."""
    for name, value, bpp, version in zip("abc", (50.0, 30.0, 31.0), (0.5, 1.0, 2.0), (1, 2, 2), strict=True):
        scores = [score("psnr", value, version=version, half=1.0), score("ssim", value / 60), score("bpp", bpp)]
        folder = made_runs.write(root / name, name=f"model-{name}", title=f"Model {name}", scores=scores)
        info = json.loads((folder / "run.json").read_text())
        info["metrics"]["psnr"]["version"] = version
        (folder / "run.json").write_text(json.dumps(info))
    return root


def test_the_page_has_one_version_a_column(tmp_path: Path) -> None:
    runs_of_two_versions(tmp_path / "runs")
    index = leaderboard.build([tmp_path / "runs"], tmp_path / "site").read_text()
    page = task_page(tmp_path / "site")
    for shown, table in ((page, NATURAL), (index, "All systems")):
        old, new = (row_of(shown, f"Model {name}", table) for name in "ab")
        assert "50.00" not in old
        assert "—" in old
        assert "30.00" in new
        assert "50 by version 1 of this metric, so not compared with version 2" in shown
    # Its other numbers stand, and its own page has all of them.
    assert "0.833" in old
    assert "50.0" in (tmp_path / "site" / "model" / "model-a.html").read_text()
    # No plot has a point of it: 50 dB would be the best by far, and on the front.
    titles = re.findall(r"<title>([^<]*Model a[^<]*)</title>", page + index)
    assert not [t for t in titles if "dB" in t]
    lines = list(csv.DictReader((tmp_path / "site" / "data" / "scores.csv").open()))
    assert {(line["title"], line["metric_version"]) for line in lines if line["metric"] == "psnr"} == {
        ("Model a", "1"),
        ("Model b", "2"),
        ("Model c", "2"),
    }
