"""Commands that are killed or stopped at a chosen call of a metric, each in a process of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import Forks
from PIL import Image

from vtbench.results import cache_files

METRICS = """
import os
import signal
import zlib

from vtbench.metrics.frechet import frechet
from vtbench.types.metric import Extractor, ImageMetric, MetricCard, SetMetric, SetValue, Value


def note(*images):
    path = os.environ["VTBENCH_TEST_CALLS"]
    with open(path, "a") as calls:
        calls.write(" ".join(str(zlib.crc32(i.contiguous().numpy().tobytes())) for i in images) + "\\n")
    if len(open(path).read().splitlines()) > int(os.environ["VTBENCH_TEST_LAST"]):
        if os.environ.get("VTBENCH_TEST_STOPS"):
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGKILL)


class Counted(ImageMetric):
    card = MetricCard("counted", "Counted", 1, "", "lower", "test")
    factor = 1.0

    def measure(self, batch):
        note(batch.reference.images, batch.candidate)
        away = (batch.reference.images.float() - batch.candidate.float()).abs().flatten(1).mean(dim=1).tolist()
        # Weights, and one that has no value.
        return [
            Value(self.factor * a / 3, weight=1 + a % 1) if i.id != "006.png" else Value(None, why="not this one")
            for a, i in zip(away, batch.reference.items)
        ]


class Means(Extractor):
    id, dim = "means", 3
    # Features of originals are made for every command.
    cached = False

    def load(self, device="cpu"):
        pass

    def extract(self, images):
        note(images)
        return images.float().mean(dim=(2, 3)).numpy()


MEANS = Means()


class Distance(SetMetric):
    card = MetricCard("counted-fid", "Distance", 1, "", "lower", "test", kind="set", paired=False)

    def extractor(self):
        return MEANS

    def finish(self, reference, candidate):
        return SetValue(float(frechet(reference, candidate)), n=len(candidate))


METRICS = (Counted, Distance)
"""
ADAPTER = """
from pathlib import Path

from vtbench import Card, Family, Latents, Multiple, Tokenizer, Weights
from vtbench.models import checkpoint

HERE = Path(__file__).parent


class Scaled(Tokenizer):
    def load(self, files, device, dtype):
        self.scale = checkpoint.read(files["model"])["scale"]

    def encode(self, images, seeds, budget=None):
        return Latents(images, tuple(images.shape[2:]))

    def decode(self, tokens, seeds):
        # Read for small pictures alone, by a name that stands nowhere.
        late = HERE / ("la" + "te.txt")
        late = float(late.read_text()) if late.is_file() and tokens.values.shape[-1] < 100 else 1.0
        declared = float((HERE / "declared.txt").read_text())
        return tokens.values * self.scale * float(self.options["gain"]) * late * declared * 1.0


CARD = Card(
    name="scaled", family="scaled", kind="continuous", title="Scaled", latent_channels=3, sizes=Multiple(1),
    options={"gain": 1.0}, weights=(Weights(file="scale.pth"),),
)
FAMILY = Family("scaled", "Scaled", (CARD,), Scaled, files=("declared.txt",))
"""
UNREAD = """
import os

os.environ.update(environment)
from vtbench.errors import VtbenchError
from vtbench.images.suite import Suite

picture = Suite.picture


def unread(self, item, icc=""):
    if f"{self.name}/{item.id}" in os.environ.get("VTBENCH_TEST_UNREAD", ""):
        raise VtbenchError("the disk did not answer")
    return picture(self, item, icc)


Suite.picture = unread
"""
ASKED = """
from pathlib import Path

from vtbench.explaining import choices, measure, systems
from vtbench.explaining.explain import explain
from vtbench.explaining.runs import explain_runs

measure.FID_IMAGES = 4
few = {name: systems.PROTOCOLS[name] for name in ("vtbench", "native")}
systems.PROTOCOLS = choices.PROTOCOLS = few
if os.environ.get("VTBENCH_TEST_FAILS"):
    from vtbench.models.system import ModelSystem

    def fails(self, images, seeds, items, *, count_macs=False):
        if any(item.id == "005.png" for item in items):
            raise RuntimeError("no memory left")
        return produce(self, images, seeds, items, count_macs=count_macs)

    produce, ModelSystem.produce = ModelSystem.produce, fails
if second is not None:
    # Metrics of a file are not explained between runs: PSNR takes note in their place.
    from vtbench.metrics.psnr import PSNR

    noting, measured = {}, PSNR.measure
    exec(Path("counted_metrics.py").read_text(), noting)
    PSNR.measure = lambda self, batch: noting["note"](batch.candidate) or measured(self, batch)
    explanation = explain_runs(Path(model), Path(second), claims, **more)
else:
    explanation = explain(model, claims, **more)
answer = explanation.as_dict()
"""
RESCORED = """
import signal
from pathlib import Path

from vtbench.results.folder import RunFolder
from vtbench.running.rescore import add_metrics

if os.environ.get("VTBENCH_TEST_KILLED_AT_THE_END"):
    RunFolder.replace_rows = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
add_metrics(Path(run), metrics)
answer = {str(p.relative_to(run)): p.read_bytes().hex() for p in sorted(Path(run).rglob("*")) if p.is_file()}
"""
EVALUATED = """
import os

os.environ.update(environment)
import vtbench

answer = str(vtbench.evaluate(model, **more).runs[0].path)
"""
TASK = """
from vtbench import Task

TASK = Task("counted", "Counted", 1, (), "native", ({metric!r}, "psnr"))
"""
KILLED, STOPPED = "the fork ended with 9", "KeyboardInterrupt"
IMAGES, BATCH = 10, 4
"""The last batch is not a whole one."""


def pictures(folder: Path, seed: int, count: int = IMAGES, side: int = 32) -> Path:
    folder.mkdir()
    for k, rgb in enumerate(np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)):
        Image.fromarray(rgb).save(folder / f"{k:03d}.png")
    return folder


class Commands:
    """Commands in `folder`, which holds what they work on, with a cache there. `counted` and `distance`: names of a
    metric of images and one of sets."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.folder, self.forks = folder, forks
        self.metrics = folder / "counted_metrics.py"
        self.metrics.write_text(METRICS)
        self.counted, self.distance = f"{self.metrics}@counted", f"{self.metrics}@counted-fid"
        self.real, self.made = pictures(folder / "real", 0), pictures(folder / "made", 1)
        self.environment = {"VTBENCH_CACHE": str(folder / "cache"), "VTBENCH_TEST_CALLS": str(folder / "calls")}

    def explain(self, question: dict[str, Any], last: int = 100_000, **environment: str) -> Any:
        """The explanation as plain values."""
        names = {"claims": {self.counted: 20}, "second": None, "more": {"batch_size": BATCH}, **question}
        return self._answer(UNREAD + ASKED, names, last, **environment)

    def evaluate(self, model: str, out: str, **more: Any) -> str:
        """The folder of a run of the metric of images."""
        task = self.folder / "task.py"
        task.write_text(TASK.format(metric=self.counted))
        more = {"images": str(self.real), "tasks": [f"{task}@counted"], "out": str(self.folder / out), **more}
        path = self._answer(EVALUATED, {"model": model, "more": more}, 100_000)
        self.calls()
        return str(path)

    def rescore(self, question: dict[str, Any], last: int = 100_000, **environment: str) -> Any:
        """What the files of the run hold behind `score RUN`; the run is laid out anew from the copy beside it."""
        run = Path(question["run"])
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(run.with_name("copy"), run)
        return self._answer(UNREAD + RESCORED, question, last, **environment)

    def _answer(self, code: str, names: dict[str, Any], last: int, **environment: str) -> Any:
        environment = {**self.environment, "VTBENCH_TEST_LAST": str(last), **environment}
        return self.forks.answer(code, self.folder, environment=environment, **json.loads(json.dumps(names)))

    def ends_early(self, question: dict[str, Any], after: int, how: str = KILLED, **environment: str) -> None:
        """The command ended when a metric or network is asked once more than `after` times."""
        command = self.rescore if "run" in question else self.explain
        with pytest.raises(AssertionError, match=how):
            command(question, after, VTBENCH_TEST_STOPS="1" if how == STOPPED else "", **environment)
        assert len(self.calls()) == after + 1

    def calls(self) -> list[str]:
        """What was asked of metrics and networks since this was last looked at: digests of pixels."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def kept(self) -> list[Path]:
        return [*(self.folder / "cache" / cache_files.IN_WORK).glob("*")]


def left(whole: list[str], per_batch: list[int], after: int) -> list[str]:
    """Of all calls those that a command makes which goes on behind `after` of them: whole batches are not made again.
    per_batch: calls a batch of every stage, each of which goes through all images."""
    calls, batches = list[str](), [BATCH] * (IMAGES // BATCH) + [IMAGES % BATCH]
    place = 0
    for count in per_batch:
        for size in batches:
            if size < BATCH or place + count > after:
                calls += whole[place : place + count]
            place += count
    assert place == len(whole)
    return calls
