"""`vtbench.Monitor` in plain loops: the numbers are those of evaluate, and the training is the one without it."""

from __future__ import annotations

import copy
import logging
import pickle
import random
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monitored import PSNR, QUICK, Quantizer, numbers_of, trained
from object_models import Steps
from support import noise

import vtbench
from vtbench.running.monitor import Measured
from vtbench.types.errors import VtbenchError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise(tmp_path_factory.mktemp("pictures") / "noise")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders go; nothing of a monitor's is left there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.glob("vtbench-monitor-*")) == []


# -- numbers, and what training finds afterwards -----------------------------------------------------------------------


def test_its_numbers_are_those_of_evaluate(pictures: Path) -> None:
    model, logged = Quantizer(), []
    weights: dict[int, Any] = {}

    def log(numbers: dict[str, Any]) -> None:
        logged.append(numbers)
        weights[numbers["vtbench/step"]] = copy.deepcopy(model.state_dict())

    trained(model, 6, vtbench.Monitor(model, suite=pictures, every=2, tasks=[QUICK], log=log))
    assert [numbers["vtbench/step"] for numbers in logged] == [2, 4, 6]
    assert all(numbers.keys() == {"vtbench/step", "vtbench/seconds", PSNR} for numbers in logged)
    assert len({numbers[PSNR] for numbers in logged}) == 3
    for numbers in logged:
        other = Quantizer()
        other.load_state_dict(weights[numbers["vtbench/step"]])
        assert numbers[PSNR] == numbers_of(other, pictures)["psnr"]


@pytest.mark.parametrize("context", ["plain", "autocast", "no_grad"])
def test_training_goes_on_as_if_it_had_not_been(context: str, pictures: Path) -> None:
    surrounding: dict[str, Callable[[], Any]] = {
        "plain": lambda: torch.set_grad_enabled(True),
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        "no_grad": torch.no_grad,
    }

    def all_of(monitored: bool) -> tuple[Any, ...]:
        model = Quantizer()
        # Modes that no `train()` of the whole would give back.
        model.norm.eval()
        monitor = vtbench.Monitor(model, suite=pictures, every=1, tasks=[QUICK]) if monitored else None
        modes = []

        def call(step: int) -> None:
            with surrounding[context]():
                if monitor is not None:
                    measured = monitor(step)
                    assert measured is not None
                    assert measured.failure is None
                modes.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), torch.get_default_dtype()))
                modes.append([part.training for part in model.modules()])

        trained(model, 3, call)
        drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
        return drawn, modes, {name: t.tolist() for name, t in model.state_dict().items()}

    assert all_of(monitored=True) == all_of(monitored=False)


def test_every_evaluation_is_fresh(pictures: Path, tmp_path: Path) -> None:
    """Also where no tensor says that the object is another one by now, and the step is the same."""

    class Coarse(Steps):
        levels = 7.0

        def steps(self) -> float:
            return self.levels

    model = Coarse()
    monitor = vtbench.Monitor(model, suite=pictures, every=1, tasks=[QUICK], out=tmp_path / "out")
    first, again = monitor.evaluate(5), monitor.evaluate(5)
    model.levels = 3.0
    third = monitor.evaluate(5)
    assert first.numbers == again.numbers
    assert first.numbers[PSNR] > third.numbers[PSNR] + 3
    runs = [vtbench.read_runs(*one.runs)[0] for one in (first, again, third)]
    assert len({run.path for run in runs}) == 3
    assert all(str(run.info.model.identity).startswith("step 5, ") for run in runs)
    assert [run.score("psnr")["value"] for run in runs] == [one.numbers[PSNR] for one in monitor.history]


def test_several_tasks_and_suites_have_names_of_their_own(pictures: Path) -> None:
    one = vtbench.Monitor(Quantizer(), suite=pictures, every=1, tasks=[QUICK, "compression"], view="native").evaluate(0)
    assert one.numbers[PSNR] == one.numbers["vtbench/compression/psnr"]
    assert {"vtbench/compression/ms-ssim"} <= one.missing.keys()
    assert not any("seconds" in name or "memory" in name for name in one.numbers)


def test_a_task_of_two_suites_names_them(pictures: Path, tmp_path: Path) -> None:
    other = noise(tmp_path / "other", n=1)
    spec = {"name": "twice", "title": "", "version": 1, "suites": (str(pictures), str(other)), "view": "native"}
    (tmp_path / "twice.py").write_text(f"from vtbench import Task\nTASK = Task(**{spec!r}, metrics=('psnr',))\n")
    one = vtbench.Monitor(Quantizer(), every=1, tasks=f"{tmp_path / 'twice.py'}@twice").evaluate(0)
    assert set(one.numbers) == {"vtbench/twice/noise/psnr", "vtbench/twice/other/psnr"}


# -- when --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "steps", "due"),
    [
        pytest.param(3, range(8), [0, 3, 6], id="from 0"),
        pytest.param(3, range(1, 8), [3, 6], id="from 1"),
        pytest.param(1, [1, 2, 3], [1, 2, 3], id="each"),
        pytest.param(1000, range(5501, 5510), [], id="goes on in the middle"),
        pytest.param(1000, [5999, 6000, 6001], [6000], id="goes on before one"),
        pytest.param(2, [1, 1, 2, 2, 2, 3, 4, 4], [2, 4], id="gradients are accumulated"),
        pytest.param(5, range(2, 17, 2), [6, 10, 16], id="two optimizers"),
        pytest.param(2, [1, 2, 3, 1, 2], [2, 2], id="from the start again"),
        pytest.param(np.int64(2), [torch.tensor(1), np.int64(2)], [2], id="numbers of libraries"),
    ],
)
def test_when_it_evaluates(every: int, steps: Any, due: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vtbench.Monitor, "_measure", lambda self, step: Measured(step))
    monitor = vtbench.Monitor(Quantizer(), suite="starter-natural", every=every)
    answers = [monitor(step) for step in steps]
    assert [one.step for one in answers if one is not None] == due
    assert [one.step for one in monitor.history] == due


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def _raise(bad: BaseException) -> Callable[..., Any]:
    def raising(*_: Any) -> Any:
        raise bad

    return raising


@pytest.mark.parametrize(
    ("decode", "words"),
    [
        pytest.param(_raise(RuntimeError("no decoder yet")), "no decoder yet", id="raises"),
        pytest.param(_raise(SystemExit(3)), "SystemExit", id="exits"),
        pytest.param(_raise(torch.OutOfMemoryError("CUDA out of memory")), "memory", id="memory"),
        pytest.param(lambda tokens: None, "returned", id="nothing"),
        pytest.param(lambda tokens: torch.zeros(1, 3, 2, 2), "32", id="another size"),
    ],
)
def test_a_model_that_fails_costs_a_reason(
    decode: Callable[..., Any], words: str, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, logged = Quantizer(), []
    monitor = vtbench.Monitor(model, suite=pictures, every=1, tasks=[QUICK], log=logged.append)
    right = model.decode
    model.decode = decode  # type: ignore[method-assign]
    random.seed(3)
    with caplog.at_level(logging.WARNING, "vtbench"):
        bad = monitor(1)
    assert random.random() == random.Random(3).random()
    assert bad is not None
    assert bad.numbers == {} or set(bad.missing) == {PSNR}
    said = bad.failure or bad.missing[PSNR]
    assert words in said
    assert said in caplog.text
    assert bad.failure is None or logged[0]["vtbench/failure"] == bad.failure
    assert model.training
    model.decode = right  # type: ignore[method-assign]
    good = monitor(2)
    assert good is not None
    assert good.failure is None
    assert PSNR in logged[1]


def test_what_else_fails_costs_a_reason(pictures: Path, tmp_path: Path) -> None:
    gone = noise(tmp_path / "gone")
    full = tmp_path / "full"
    monitors = {
        "no suite, folder or glob": vtbench.Monitor(Quantizer(), suite=gone, every=1, tasks=[QUICK]),
        "is a file": vtbench.Monitor(Quantizer(), suite=pictures, every=1, tasks=[QUICK], out=full),
    }
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    full.write_text("")
    for words, monitor in monitors.items():
        assert words in str(monitor.evaluate(1).failure)


def test_a_log_that_fails_costs_a_warning(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def log(self, numbers: dict[str, float]) -> None:
            raise ConnectionError("the server is away")

    monitor = vtbench.Monitor(Quantizer(), suite=pictures, every=1, tasks=[QUICK], log=Broken())
    with caplog.at_level(logging.WARNING, "vtbench"):
        monitor(1)
    assert "step 1 was not logged: ConnectionError: the server is away" in caplog.text
    assert PSNR in monitor.history[0].numbers


def test_ctrl_c_ends_the_training(pictures: Path) -> None:
    model = Quantizer()
    monitor = vtbench.Monitor(model, suite=pictures, every=1, tasks=[QUICK])
    model.decode = _raise(KeyboardInterrupt())  # type: ignore[method-assign]
    random.seed(3)
    with pytest.raises(KeyboardInterrupt):
        monitor(1)
    assert random.random() == random.Random(3).random()
    assert model.training


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"every": 0}, "every=0: give the number of steps"),
        ({"every": 2.5}, "every=2.5"),
        ({"every": True}, "every=True"),
        ({"every": "10"}, "every='10'"),
        ({"tokenizer": "jpeg"}, "'jpeg' is a name"),
        ({"tokenizer": Quantizer}, "Quantizer is a class"),
        ({"tokenizer": torch.nn.Linear(1, 1)}, "Linear is no tokenizer"),
        ({"suite": "no-such-suite"}, "there is no suite, folder or glob 'no-such-suite'"),
        ({"tasks": "reconstuction"}, "did you mean reconstruction"),
        ({"tasks": "generation"}, "is for generators"),
        ({"limit": 0}, "--limit 0"),
        ({"view": "12x"}, "12x"),
        ({"protocol": "no"}, "there is no protocol 'no'"),
        ({"log": 3}, "log=int has no log(dict)"),
        ({"log": types.SimpleNamespace(add_scalar=print)}, "add_scalar"),
    ],
)
def test_a_question_without_meaning_is_refused_before_training(more: dict[str, Any], words: str) -> None:
    with pytest.raises(VtbenchError) as refused:
        vtbench.Monitor(**{"tokenizer": Quantizer(), "suite": "starter-natural", "every": 10, **more})
    assert words in str(refused.value)


# -- as a Callback of Lightning's --------------------------------------------------------------------------------------


class Callback:
    """Stands for Lightning's: a Trainer takes nothing else."""


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Both packages that Lightning comes as, imported."""
    classes = [type("Callback", (Callback,), {}), type("Callback", (Callback,), {})]
    for name, cls in zip(("lightning.pytorch", "pytorch_lightning"), classes, strict=True):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(Callback=cls))
    return classes


def test_it_is_a_callback_of_what_is_imported(packages: list[type]) -> None:
    monitor = vtbench.Monitor(Quantizer(), suite="starter-natural", every=3)
    assert all(isinstance(monitor, cls) for cls in (vtbench.Monitor, *packages))
    assert type(monitor) is type(vtbench.Monitor(Quantizer(), suite="starter-natural", every=4))
    assert type(monitor).__name__ == "Monitor"
    for other in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
        assert all(isinstance(other, cls) for cls in (vtbench.Monitor, *packages))
        assert other._every == 3


def test_without_lightning_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monitor = vtbench.Monitor(Quantizer(), suite="starter-natural", every=3)
    assert type(monitor) is vtbench.Monitor
    assert pickle.loads(pickle.dumps(monitor))._every == 3


def test_other_ranks_of_a_trainer_measure_nothing(pictures: Path) -> None:
    monitor = vtbench.Monitor(Quantizer(), suite=pictures, every=1, tasks=[QUICK])

    def hook(step: int, first: bool) -> list[int]:
        trainer = types.SimpleNamespace(global_step=step, is_global_zero=first, loggers=[])
        monitor.on_train_batch_end(trainer, None, None, None, 0)
        return [one.step for one in monitor.history]

    assert hook(1, first=False) == []
    assert hook(2, first=True) == [2]
    assert hook(2, first=True) == [2]
