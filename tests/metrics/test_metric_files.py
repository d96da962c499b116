"""What every file of metrics and tasks owes to the others: a light import, and cards that say what is true."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import vtbench.metrics
import vtbench.tasks
from vtbench import registry
from vtbench.types.metric import ImageMetric, RowMetric, SetMetric, TokenMetric

KINDS = {"image": ImageMetric, "set": SetMetric, "tokens": TokenMetric, "run": RowMetric}
WITHOUT_METRICS = {
    "answers",
    "inception",
    "languages",
    "moments",
    "ocr",
    "openai_clip",
    "quotations",
    "released_weights",
    "weights",
}
"""Files that metrics share and that bring none of their own."""
MODULES = [
    m.name for p in (vtbench.metrics, vtbench.tasks) for m in pkgutil.walk_packages(p.__path__, p.__name__ + ".")
]


def test_no_file_of_metrics_or_tasks_imports_torch() -> None:
    """All of them in one process, so that a list of metrics stays quick; scripts that make suites are no exception."""
    code = f"""
import importlib, sys
for name in {MODULES!r}:
    importlib.import_module(name)
    assert "torch" not in sys.modules, name
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_every_file_of_metrics_brings_some() -> None:
    files = {m.name for m in pkgutil.iter_modules(vtbench.metrics.__path__) if not m.name.startswith("_")}
    bringing = {registry.metrics().source(name).file.stem for name in registry.metrics()}
    assert files - bringing == WITHOUT_METRICS


@pytest.mark.parametrize(("name", "factory"), registry.metrics().items())
def test_a_card_says_what_its_metric_is(name: str, factory: Callable[[], Any]) -> None:
    metric = factory()
    assert metric.card.name == name
    assert isinstance(metric, KINDS[metric.card.kind])
    assert metric.card.title
    assert metric.card.source
    assert metric.card.convention_of is None or metric.card.convention_of in registry.metrics()
    inputs = metric.inputs if isinstance(metric, RowMetric) else ()
    assert all(issubclass(type(registry.metric(other)), ImageMetric) for other in inputs)


@pytest.mark.parametrize(("name", "task"), registry.tasks().items())
def test_a_task_asks_for_metrics_that_exist(name: str, task: Any) -> None:
    assert task.metrics
    assert [m for m in task.metrics if m not in registry.metrics()] == []
    assert len(set(task.metrics)) == len(task.metrics)
