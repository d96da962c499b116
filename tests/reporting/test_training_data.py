"""Whether a model has seen what it is measured on: by its card's words and the suite's."""

from __future__ import annotations

from typing import Any

import pytest

from vtbench.reporting.training_data import data_set, seen

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
