"""Files that hold something else than a metric, a task, a reducer or a family: one sentence that says what."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import vtbench
from vtbench import registry
from vtbench.proving.pictures import photograph
from vtbench.results.record import read_run
from vtbench.scoring.loading import load_metrics
from vtbench.types.errors import VtbenchError

CARD = "from vtbench import ImageMetric, MetricCard\nclass M(ImageMetric):\n    card = "
TASK = "from vtbench import Task\nTASK = Task(name='own', title='', version=1, suites=(), view='native', "
FAMILY = "from vtbench import Card, Family\nFAMILY = Family('own', 'own', "
WRONG: dict[str, tuple[str, str, str]] = {
    "a number": ("metrics", "METRICS = 5", "the METRICS of .* cannot be read .TypeError"),
    "one class": ("metrics", "class M: pass\nMETRICS = M", "cannot be read .TypeError"),
    "a name": ("metrics", "METRICS = ('psnr',)", "cannot be read .TypeError: 'str' object is not callable"),
    "a factory that raises": ("metrics", "METRICS = (lambda: 1 / 0,)", "cannot be read .ZeroDivisionError"),
    "no card": ("metrics", "class M: pass\nMETRICS = (M,)", "cannot be read .AttributeError"),
    "a card of another kind": ("metrics", CARD + "{'name': 'own'}\nMETRICS = (M,)", "cannot be read .AttributeError"),
    "a version in words": ("metrics", CARD + "MetricCard('own', '', '1', '', None, '')", "version is '1'; wanted int"),
    "no unit": ("metrics", CARD + "MetricCard('own', '', 1, None, None, '')", "unit is None; wanted str"),
    "bounds in words": ("metrics", CARD + "MetricCard('own', '', 1, '', None, '', (0, '1'))", "bounds are .0, '1'."),
    "metrics as one text": ("tasks", TASK + "metrics='psnr')", "metrics is 'psnr'; wanted tuple or list"),
    "a fit that there is not": ("tasks", TASK + "metrics=('psnr',), fit='stretch')", "fit is 'stretch'; wanted resize"),
    "defaults as one text": ("tasks", TASK + "metrics=(), default_for='images')", "default_for is 'images'"),
    "no reducers": ("reducers", "", "defines no REDUCERS"),
    "reducers by name": ("reducers", "REDUCERS = ('own',)", "the REDUCERS of .* cannot be read .AttributeError"),
    "a card that is none": ("families", FAMILY + "(5,), None)", "lists 5 as a card: give a vtbench.Card"),
}


@pytest.mark.parametrize("how", WRONG)
def test_it_is_said_what_stands_there(how: str, tmp_path: Path) -> None:
    kind, text, words = WRONG[how]
    file = tmp_path / "own.py"
    file.write_text(text)
    with pytest.raises(VtbenchError, match=words):
        registry.model(f"{file}@own") if kind == "families" else getattr(registry, kind)().get(f"{file}@own")


def test_a_metric_is_what_its_card_says(tmp_path: Path) -> None:
    """By the card it would go to one place, by its class to another, and be measured in none."""
    (tmp_path / "kinds.py").write_text(
        "from vtbench import ImageMetric, MetricCard, Value\n"
        "class OfNoKind:\n"
        "    card = MetricCard('of-no-kind', '', 1, '', None, '')\n"
        "class OfAnother(ImageMetric):\n"
        "    card = MetricCard('of-another', '', 1, '', None, '', kind='set')\n"
        "    def measure(self, batch):\n"
        "        return [Value(1.0)] * len(batch)\n"
        "METRICS = (OfNoKind, OfAnother)\n"
    )
    names = registry.metric_names([f"{tmp_path / 'kinds.py'}@{name}" for name in ("of-no-kind", "of-another")])
    loaded = load_metrics(names, "cpu")
    assert not loaded.ready
    assert "its card says image, and it is no ImageMetric of vtbench" in loaded.unavailable["of-no-kind"]
    assert "its card says set, and it is no SetMetric of vtbench" in loaded.unavailable["of-another"]


def test_a_tasks_name_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(photograph()[:32, :32]).save(tmp_path / "images" / "a.png")
    name = "own/../../elsewhere"
    (tmp_path / "own.py").write_text(TASK.replace("'own'", repr(name)) + "metrics=('psnr',))")
    out = tmp_path / "deep" / "out"
    asked = {"images": tmp_path / "images", "tasks": [f"{tmp_path / 'own.py'}@{name}"], "out": out}
    (run,) = vtbench.evaluate("png", **asked).runs
    assert run.path.parent == out
    assert read_run(run.path).info.task.name == name
