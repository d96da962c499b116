"""Rows read as columns, lossless images included."""

from __future__ import annotations

import json
import math
from pathlib import Path

import made_runs
import numpy as np
import pytest

from vtbench.reporting.image_values import ImageValues, RowValues
from vtbench.reporting.reading import read_runs


def test_pooled_errors_come_from_psnr_and_count_lossless_images_as_zero(tmp_path: Path) -> None:
    """A constant offset of d grey levels has mean squared error d^2, hence PSNR 20 log10(255 / d)."""
    folder = made_runs.write(
        tmp_path / "a", values={"psnr": [20 * math.log10(255 / d) for d in (1, 2, 3, 4, 5)] + [None]}
    )
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["size"] = [2, 8]
    rows[5]["why"] = {"psnr": "lossless (identical pixels)"}
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    errors = RowValues().read(read_runs([folder])[0]).errors()
    assert errors.values.tolist() == pytest.approx([1, 4, 9, 16, 25, 0])
    assert errors.weights.tolist() == [16.0] * 6


def test_a_run_of_lossless_images_only_has_no_error(tmp_path: Path) -> None:
    """No row holds a PSNR then: the reasons alone say that every image came back as it was."""
    folder = made_runs.write(tmp_path / "a", values={"psnr": [None] * 6, "ssim": [1.0] * 6})
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["values"], row["why"] = {"ssim": 1.0}, {"psnr": "lossless: identical to the original"}
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = read_runs([folder])
    errors, psnr = RowValues().read(run).errors(), RowValues().read(run).column("psnr")
    assert (errors.values.tolist(), errors.weights.tolist()) == ([0.0] * 6, [1.0] * 6)
    assert psnr.lossless.tolist() == psnr.known.tolist() == [True] * 6
    assert not psnr.valued.any()


def test_a_metric_that_begins_or_ends_in_the_middle_keeps_its_images(tmp_path: Path) -> None:
    folder = made_runs.write(tmp_path / "a", items=["1", "2", "3", "4"])
    values = [{"psnr": 1.0}, {"psnr": 2.0, "ssim": 0.2}, {"ssim": 0.3}, {}]
    rows = [{"item": str(i), "values": v, "weights": {"ssim": 2.0}} for i, v in enumerate(values, 1)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = ImageValues.read(read_runs([folder])[0])

    def of(metric: str) -> dict[str, tuple[float, float]]:
        column = read.column(metric)
        places = np.flatnonzero(column.valued)
        pairs = zip(*(part.tolist() for part in column.at(places)), strict=True)
        return dict(zip(read.items.of(places), pairs, strict=True))

    assert of("psnr") == {"1": (1.0, 1.0), "2": (2.0, 1.0)}
    assert of("ssim") == {"2": (0.2, 2.0), "3": (0.3, 2.0)}
    assert of("lpips-alex") == {}
