"""Numbers of a user's generator, metric and feature network are their files' too, edited between two calls."""

from __future__ import annotations

from pathlib import Path

from forks import Forks
from level_adapters import write

GENERATOR = """
import dataclasses
from pathlib import Path
import torch
from vtbench import Card, Family, Generator
HERE = Path(__file__).resolve().parent
class G(Generator):
    def load(self, files, device="cpu", dtype="float32"):
        pass
    def generate(self, prompts, seeds):
        grey = int((HERE / ("gr" + "ey.txt")).read_text()) / 255
        return torch.full((len(prompts), 3, 16, 16), grey)
CARD = Card(name="grey", family="grey", kind="generator", title="grey", conditioning="class")
FAMILY = Family("grey", "grey", (CARD,), G)
"""
DRAW = """
import numpy as np
from pathlib import Path
from PIL import Image
from vtbench.images.prompts import open_prompts
from vtbench.models.load import load
from vtbench.running.draw import Order, draw
drawing = draw(load("gen.py@grey"), Order(open_prompts("two.jsonl")), Path(out))
pixels = [int(np.asarray(Image.open(drawing.path / row.file))[0, 0, 0]) for row in drawing.rows]
answer = [pixels, [r.file for r in drawing.info.model.reads]]
"""


def test_a_generator_that_reads_at_work_draws_again(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "gen.py").write_text(GENERATOR)
    (tmp_path / "two.jsonl").write_text(
        '{"prompts": "two", "version": "1", "title": "two", "licence": "CC0-1.0"}\n'
        '{"id": "a", "label": 0}\n{"id": "b", "label": 1}\n'
    )
    (tmp_path / "grey.txt").write_text("40")
    assert forks.answer(DRAW, tmp_path, out=str(tmp_path / "drawn")) == [[40, 40], ["grey.txt"]]
    (tmp_path / "grey.txt").write_text("90")
    assert forks.answer(DRAW, tmp_path, out=str(tmp_path / "drawn")) == [[90, 90], ["grey.txt"]]


METRIC = """
from pathlib import Path
from vtbench import ImageMetric, MetricCard, Value
GAIN = float((Path(__file__).resolve().parent / "gain.txt").read_text())
class Gain(ImageMetric):
    card = MetricCard(name="gain", title="gain", version=1, unit="", better="lower", source="a test")
    def measure(self, batch):
        return [Value(GAIN)] * len(batch)
METRICS = (Gain,)
"""
OF_METRIC = """
import vtbench
from pathlib import Path
text = 'from vtbench import Task\\nTASK = Task(name="t", title="t", version=1, suites=(), view="native", ' \\
       'metrics=("gain.py@gain",))\\n'
Path("t.py").write_text(text)
made = vtbench.evaluate("jpeg", images=images, view="native", tasks=["t.py@t"], out=out)
answer = made.runs[0].score("gain").value
"""


NETWORK = """
from pathlib import Path
import numpy as np
from vtbench import MetricCard, SetMetric, SetValue
from vtbench.types.metric import Extractor
class Net(Extractor):
    id, dim = "net", 3
    def load(self, device="cpu"):
        self.gain = np.load(Path(__file__).resolve().parent / "n.npy")
    def extract(self, images):
        return images.float().mean(dim=(2, 3)).numpy() * self.gain
NET = Net()
class Gap(SetMetric):
    card = MetricCard(name="gap", title="gap", version=1, unit="", better="lower", source="a test", kind="set")
    def extractor(self):
        return NET
    def finish(self, reference, candidate):
        return SetValue(float(np.abs(np.asarray(reference) - np.asarray(candidate)).mean()))
METRICS = (Gap,)
"""


def test_a_network_of_the_user_is_its_files_too(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    """PNG loses nothing: a gap would be of the originals' features by other weights, out of the cache."""
    (tmp_path / "gain.py").write_text(NETWORK)
    asked = OF_METRIC.replace("gain.py@gain", "gain.py@gap").replace('"jpeg"', '"png"')
    asked = asked.replace('score("gain")', 'score("gap")')
    for levels in (2, 3):
        write(tmp_path, "n.npy", "", levels)
        assert forks.answer(asked, tmp_path, images=str(pictures), out=str(tmp_path / "out")) == 0.0


def test_a_metric_of_the_user_is_its_files_too(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "gain.py").write_text(METRIC)
    for gain in (2.0, 3.0):
        (tmp_path / "gain.txt").write_text(str(gain))
        assert forks.answer(OF_METRIC, tmp_path, images=str(pictures), out=str(tmp_path / "out")) == gain
