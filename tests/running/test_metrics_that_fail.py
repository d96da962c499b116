"""What a metric of somebody's does wrong beside `measure`, on every path: it cannot be made or loaded, its network
gives another shape or no numbers, it answers with what is no number. One sentence, or null with a reason; never a wrong
number.

The metrics are a user's file. Truth is what each of them does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import BAD_ADAPTERS, cuts

import vtbench
from vtbench.explaining.explain import explain
from vtbench.results.record import Score, read_run
from vtbench.running import sets
from vtbench.running.rescore import add_metrics
from vtbench.types.errors import VtbenchError

METRICS = """
import numpy as np
from vtbench import ImageMetric, MetricCard, RowMetric, SetMetric, SetValue, TokenMetric, Value
from vtbench.types.metric import Extractor


def card(name, kind):
    return MetricCard(name, name, 1, "", "lower", "a test", kind=kind, paired=False)


def of_images(name, value=lambda: Value(1.0), load=lambda: None, make=lambda: None):
    class Metric(ImageMetric):
        def __init__(self):
            make()

        def load(self, device="cpu"):
            load()

        def measure(self, batch):
            return [value() for _ in range(len(batch))]

    Metric.card = card(name, "image")
    return Metric


class Levels(Extractor):
    def __init__(self, name, give, load):
        self.id, self.dim, self.give, self.by_loading = name, 3, give, load

    def load(self, device="cpu"):
        self.by_loading()

    def extract(self, images):
        return self.give(images.float().mean(dim=(2, 3)).numpy())


def of_sets(name, give=lambda x: x, load=lambda: None, answer=lambda c: SetValue(float((c > 1e9).mean())), net=None):
    class Metric(SetMetric):
        def extractor(self):
            return net() if net is not None else Levels(name, give, load)

        def finish(self, reference, candidate):
            return answer(np.asarray(candidate))

    Metric.card = card(name, "set")
    return Metric


def fails(kind):
    def fail():
        raise kind("it is a test")

    return fail


def imports():
    import no_such_package


METRICS = (
    of_images("make", make=fails(RuntimeError)),
    of_images("load", load=fails(AssertionError)),
    of_images("load-import", load=imports),
    of_images("weight-none", value=lambda: Value(1.0, weight=None)),
    of_images("weight-numpy", value=lambda: Value(np.float32(0.5), weight=np.float64(2))),
    of_images("why-number", value=lambda: Value(None, why=5)),
    of_sets("net", net=fails(ZeroDivisionError)),
    of_sets("net-load", load=imports),
    of_sets("wide", give=lambda x: np.zeros((len(x), 4), np.float32)),
    of_sets("few", give=lambda x: x[1:]),
    of_sets("one-for-all", give=lambda x: np.ones((1, 3), np.float32)),
    of_sets("flat", give=lambda x: x.ravel()),
    of_sets("nothing", give=lambda x: None),
    of_sets("not-finite", give=lambda x: np.where(np.arange(len(x))[:, None] == 1, np.nan, x)),
    of_sets("text", answer=lambda c: SetValue("1.5")),
    of_sets("numpy", answer=lambda c: SetValue(np.float32(1.5), np.float32(1), np.float32(2), np.int64(len(c)))),
    of_sets("beside", answer=lambda c: SetValue(1.5, warning=5, details={1: {3}, "x": np.float32("nan")})),
)
"""
NULL = {
    "make": r"the metric make could not be loaded \(RuntimeError: it is a test\)",
    "load": r"the metric load could not be loaded \(AssertionError: it is a test\)",
    "load-import": r"the metric load-import could not be loaded \(ModuleNotFoundError: No module named 'no_such_",
    "net": r"the metric net could not be loaded \(ZeroDivisionError: it is a test\)",
    "net-load": r"the metric net-load could not be loaded \(ModuleNotFoundError",
    "not-finite": r"not-finite has no value: features of the (originals|candidates) are NaN or infinite",
    "why-number": "5",
}
REFUSED = {
    "weight-none": "the metric weight-none raised TypeError on ",
    "wide": r"the feature network wide raised ValueError on .*features of shape \(4, 4\); wanted \(4, 3\)",
    "few": r"the feature network few raised ValueError on .*features of shape \(3, 3\); wanted \(4, 3\)",
    "one-for-all": r"the feature network one-for-all raised ValueError on .*shape \(1, 3\); wanted \(4, 3\)",
    "flat": r"the feature network flat raised ValueError on .*shape \(12,\); wanted \(4, 3\)",
    "nothing": r"the feature network nothing raised TypeError on .*it gave nothing",
    "text": r"the metric text raised TypeError on the whole set: its value is '1\.5'; wanted a number",
}
GOOD = {"weight-numpy": 0.5, "numpy": 1.5, "beside": 1.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "faulty.py").write_text(METRICS)
    cuts(folder / "images", 4, ((48, 48),))
    return folder


def specs(place: Path, names: Iterable[str]) -> list[str]:
    return [f"{place / 'faulty.py'}@{name}" for name in names]


def task(place: Path, names: Sequence[str], prompts: str = "") -> str:
    file = place / f"{names[0].replace('-', '_')}{'_drawn' if prompts else ''}_task.py"
    more = f", prompts=({prompts!r},)" if prompts else ""
    file.write_text(
        "from vtbench import Task\n"
        f"TASK = Task(name='{file.stem}', title='', version=1, suites=(), view='native', "
        f"metrics={tuple(specs(place, names))}{more})\n"
    )
    return f"{file}@{file.stem}"


Scores = dict[str, Score]


def of_runs(evaluation: Any) -> Scores:
    for why in evaluation.failures.values():
        raise VtbenchError(why)
    return {s.metric: s for s in read_run(evaluation.runs[0].path).scores}


def by_evaluate(place: Path, out: Path, names: Sequence[str]) -> Scores:
    asked = {"images": place / "images", "view": "native", "tasks": [task(place, names)], "out": out}
    return of_runs(vtbench.evaluate(f"{BAD_ADAPTERS}@right", **asked))


def by_score(place: Path, out: Path, names: Sequence[str]) -> Scores:
    scored = vtbench.score(place / "images", place / "images", specs(place, names))
    return {s.metric: s for s in scored.candidates[0].scores}


def by_set(place: Path, out: Path, names: Sequence[str]) -> Scores:
    scored = sets.score(place / "images", [place / "images"], specs(place, names))
    return {s.metric: s for s in scored.candidates[0].scores}


def by_rescoring(place: Path, out: Path, names: Sequence[str]) -> Scores:
    asked = {"images": place / "images", "view": "native", "tasks": ["compression"], "out": out, "save": ["images"]}
    (run,) = vtbench.evaluate(f"{BAD_ADAPTERS}@right", **asked).runs
    return {s.metric: s for s in add_metrics(run.path, specs(place, names)).scores}


def by_generation(place: Path, out: Path, names: Sequence[str]) -> Scores:
    asked = {"images": place / "images", "tasks": [task(place, names, "classes:2")], "options": {"size": "64"}}
    return of_runs(vtbench.evaluate("ngram-kmeans", view="native", per_prompt=2, out=out, **asked))


PATHS: dict[str, Callable[[Path, Path, Sequence[str]], Scores]] = {
    "evaluate": by_evaluate,
    "score": by_score,
    "set": by_set,
    "rescoring": by_rescoring,
    "generation": by_generation,
}


@pytest.mark.parametrize("path", PATHS)
def test_null_with_its_reason_or_a_number(path: str, place: Path, tmp_path: Path) -> None:
    scores = PATHS[path](place, tmp_path, [*NULL, *GOOD])
    for name, why in NULL.items():
        assert scores[name].value is None
        assert re.search(why, str(scores[name].why)), name
    for name, value in GOOD.items():
        score = scores[name]
        assert (score.value, type(score.value), score.n) == (value, float, 4)


@pytest.mark.parametrize(
    ("name", "path"), [*((name, "score") for name in REFUSED), *(("one-for-all", p) for p in PATHS if p != "score")]
)
def test_what_it_was_going_to_say_is_not_guessed(name: str, path: str, place: Path, tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match=REFUSED[name]):
        PATHS[path](place, tmp_path, [name])


def test_explain_says_the_same(place: Path) -> None:
    model, images = f"folder:{place / 'images'}", str(place / "images")
    null = ["make", "load", "load-import", "why-number"]
    claims = explain(model, dict.fromkeys(specs(place, null), "1.0"), images=images).claims
    for name, claim in zip(null, claims, strict=True):
        assert claim.value is None
        assert re.search(NULL[name], str(claim.why))
    with pytest.raises(VtbenchError, match=REFUSED["weight-none"]):
        explain(model, dict.fromkeys(specs(place, ["weight-none"]), "1.0"), images=images)


def test_values_of_single_images_are_as_many_as_there_are(tmp_path: Path) -> None:
    (tmp_path / "tokens.py").write_text(
        "from vtbench import MetricCard, SetValue, TokenMetric\n"
        "class Short(TokenMetric):\n"
        "    card = MetricCard('short', 'short', 1, '', 'lower', 'a test', kind='tokens')\n"
        "    def finish(self, tokens, sizes):\n"
        "        return SetValue(1.0, per_image=[1.0])\n"
        "METRICS = (Short,)\n"
    )
    (tmp_path / "own.py").write_text(
        "from vtbench import Task\n"
        "TASK = Task(name='own', title='', version=1, suites=(), view='native', metrics=('tokens.py@short',))\n"
    )
    images = cuts(tmp_path / "images", 3, ((48, 48),))
    asked = {"images": images, "view": "native", "tasks": [f"{tmp_path / 'own.py'}@own"], "out": tmp_path / "out"}
    (why,) = vtbench.evaluate("kmeans-vq", **asked).failures.values()
    assert "the metric short raised ValueError on the whole set: it gave 1 values of single images for 3 images" in why
