"""`vtbench.Monitor` in Lightning's own Trainer."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from monitored import QUICK, Quantizer, numbers_of
from pytorch_lightning.loggers.logger import Logger
from support import noise

import vtbench


class Remembering(Logger):
    """A logger that keeps what it is given, and takes numbers alone, as most do."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    name, version = "remembering", 0  # type: ignore[assignment]

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append((step, {name: float(value) for name, value in metrics.items()}))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


class Training(pl.LightningModule):
    """Trains a tokenizer that it holds, and is one itself; its weights before each batch are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = Quantizer()
        self.frozen = torch.nn.Dropout().eval()
        self.weights: dict[int, Any] = {}

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        assert self.tokenizer.training
        assert not self.frozen.training
        self.weights[self.global_step] = {name: t.clone() for name, t in self.tokenizer.state_dict().items()}
        return (self.tokenizer(batch) - batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def encode(self, x: torch.Tensor) -> Any:
        return self.tokenizer.encode(x)

    def decode(self, tokens: Any) -> torch.Tensor:
        return self.tokenizer.decode(tokens)


def fitted(module: Training, **more: Any) -> Training:
    """Six batches of noise from a seed."""
    pl.seed_everything(0, verbose=False)
    batches = [torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(6)]
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", devices=1, **{"logger": False, **quiet, **more})
        trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return module


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise(tmp_path_factory.mktemp("lightning") / "noise")


@pytest.mark.parametrize(
    ("what", "precision"), [("a part of the module", "32-true"), ("the module itself", "bf16-mixed")]
)
def test_the_trainers_loggers_get_evaluates_numbers(what: str, precision: Any, images: Path) -> None:
    module, logger = Training(), Remembering()
    tokenizer = module if what == "the module itself" else module.tokenizer
    monitor = vtbench.Monitor(tokenizer, suite=images, every=2, tasks=[QUICK])
    fitted(module, callbacks=[monitor], logger=logger, precision=precision)
    assert [one.failure for one in monitor.history] == [None] * 3
    logged = {step: numbers["vtbench/psnr-alone/psnr"] for step, numbers in logger.lines if "vtbench/step" in numbers}
    assert list(logged) == [2, 4, 6]
    for step in (2, 4):
        same = Quantizer()
        same.load_state_dict(module.weights[step])
        assert numbers_of(same, images)["psnr"] == logged[step]
    alone = fitted(Training(), precision=precision).tokenizer.state_dict()
    assert all(torch.equal(t, alone[name]) for name, t in module.tokenizer.state_dict().items())


def test_accumulated_gradients_and_a_log_of_ones_own(images: Path) -> None:
    module, mine, logger = Training(), [], Remembering()
    monitor = vtbench.Monitor(module, suite=images, every=1, tasks=[QUICK], log=mine.append)
    fitted(module, callbacks=[monitor], logger=logger, accumulate_grad_batches=2)
    assert [numbers["vtbench/step"] for numbers in mine] == [1, 2, 3]
    assert not any("vtbench/step" in numbers for _, numbers in logger.lines)


def test_a_failure_costs_no_training(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Training):
        def decode(self, tokens: Any) -> torch.Tensor:
            raise RuntimeError("no decoder yet")

    module, logger = Broken(), Remembering()
    monitor = vtbench.Monitor(module, suite=images, every=3, tasks=[QUICK])
    with caplog.at_level(logging.WARNING, "vtbench"):
        fitted(module, callbacks=[monitor], logger=logger)
    assert sorted(module.weights) == [0, 1, 2, 3, 4, 5]
    assert ["no decoder yet" in str(one.failure) for one in monitor.history] == [True, True]
    assert "no decoder yet" in caplog.text
    # The step and the seconds: that it was tried.
    assert [numbers.keys() for _, numbers in logger.lines] == [{"vtbench/step", "vtbench/seconds"}] * 2
