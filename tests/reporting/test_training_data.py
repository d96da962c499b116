"""Whether a model has seen what it is measured on: by its card's words and the suite's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_runs
import pytest

from vtbench.reporting.training_data import data_set, run_has_seen, seen
from vtbench.results.record import read_run

EVIL = '"><script>alert(1)</script>'
VALIDATION = {"dataset": "ImageNet", "split": "validation"}


@pytest.mark.parametrize(
    ("trained_on", "suite", "answer"),
    [
        (("ImageNet-1k",), VALIDATION, "same data set"),
        (("ImageNet-1k",), {"dataset": "ImageNet", "split": "training"}, "trained on these"),
        (("ImageNet-100",), VALIDATION, "same data set"),
        (("LAION-COCO", "CC12M"), {"dataset": "COCO 2017", "split": "validation"}, "other data"),
        (("COCO", "OpenImages"), {"dataset": "COCO 2017", "split": "validation"}, "same data set"),
        (("Open Images",), {"dataset": "OpenImages", "split": "test"}, "same data set"),
        (("FFHQ",), VALIDATION, "other data"),
        ((), VALIDATION, "not stated"),
        (("ImageNet-1k",), {}, "suite of no known data set"),
        (("ImageNet-1k",), {"dataset": 7}, "suite of no known data set"),
        ((), {}, "suite of no known data set"),
    ],
)
def test_seen(trained_on: tuple[str, ...], suite: dict[str, Any], answer: str) -> None:
    assert seen(trained_on, suite) == answer


def test_names_of_one_data_set() -> None:
    assert data_set("ImageNet-1k") == data_set("imagenet") != data_set("Conceptual Captions")
    assert data_set("400") == "400"


@pytest.mark.parametrize(
    "trained_on",
    [[], [7], "ImageNet-1k", None, [EVIL, "\x00ImageNet"], ["ImageNet-1k"]],
    ids=["none", "a number", "a text", "null", "hostile", "one"],
)
def test_a_records_own_words_are_read_as_far_as_they_go(tmp_path: Path, trained_on: object) -> None:
    made_runs.write(tmp_path / "a", name="dct", kind="codec", n=2)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    record["model"]["card"]["trained_on"] = trained_on
    record["suite"] |= VALIDATION
    (tmp_path / "a" / "run.json").write_text(json.dumps(record))
    known = isinstance(trained_on, list) and any("ImageNet" in str(name) for name in trained_on)
    answer = run_has_seen(read_run(tmp_path / "a"))
    assert answer == ("same data set" if known else "not stated")
