"""Part of the quickstart gives the numbers that commit 8f55388 gave; benchmarks/same_numbers.py compares all of it.

The subset was chosen by trying: no number in it moves in its first 12 digits with other vector instructions
(ATEN_CPU_CAPABILITY=default, NPY_DISABLE_CPU_FEATURES, ONEDNN_MAX_CPU_ISA) or with two threads. The text task and
what uses networks of single precision are left to the script.
"""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import vtbench

ROOT = Path(__file__).resolve().parents[2]
MODELS: dict[str, dict[str, Any]] = {"jpeg": {"quality": 30}, "pca": {"dims": 4}, "kmeans-vq": {"codebook": 1024}}
TASKS = ("reconstruction", "compression", "detail")


def script() -> Any:
    spec = importlib.util.spec_from_file_location("same_numbers", ROOT / "benchmarks" / "same_numbers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


same_numbers = script()


def subset() -> dict[Any, Any]:
    keys = {(model, json.dumps(options, sort_keys=True)) for model, options in MODELS.items()}
    return {k: v for k, v in same_numbers.recorded().items() if k[:2] in keys and k[2] in TASKS}


def test_a_part_of_the_quickstart_gives_the_recorded_numbers(tmp_path: Path) -> None:
    before = subset()
    assert len(before) == len(MODELS) * len(TASKS)
    for model, options in MODELS.items():
        vtbench.evaluate([model], tasks=TASKS, options={k: [v] for k, v in options.items()}, out=tmp_path / model)
    now = same_numbers.numbers(tmp_path)
    assert same_numbers.differences(before, now) == [], (
        f"recorded on {json.loads(same_numbers.RECORD.read_text())['recorded']}, "
        f"now on {same_numbers.circumstances(tmp_path)}"
    )
    counted = sum(values[0] is not None for scores in before.values() for values in scores.values())
    assert counted > 80, "numbers, not reasons why there are none"


def test_the_comparison_sees_a_digit_a_missing_metric_and_a_missing_run() -> None:
    before = subset()
    now = copy.deepcopy(before)
    first, second, *_ = now
    now[first]["psnr"][0] *= 1 + 1e-11
    now[first]["psnr"][3] *= 1 + 1e-10
    del now[first]["bpp"]
    del now[second]
    told = same_numbers.differences(before, now)
    assert len(told) == 3
    assert "value of psnr was" in told[0]
    assert "bpp is gone" in told[1]
    assert "no such run" in told[2]
    assert same_numbers.differences(before, before) == []


def test_every_point_of_the_quickstart_is_recorded() -> None:
    """2 + 3 + 1 operating points of codecs, 2 + 1 + 2 + 1 of tokenizers, on four tasks; a generator on one."""
    before = same_numbers.recorded()
    assert len(before) == 12 * 4 + 1
    assert {key[3] for key in before} == {"starter-natural", "starter-detail", "starter-text"}
    assert not [m for scores in before.values() for m in scores if same_numbers.measured_anew(m)]
