"""A file adapter's numbers are its own files': what it imports, reads and declares, in every form that Python has.

Truth is arithmetic: PSNR of pictures whose samples were rounded to so many steps.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import Forks
from PIL import Image
from support import cuts

HEAD = """
import os, sys
from pathlib import Path
import torch
from vtbench import Card, Codes, Family, Multiple, Tokenizer
HERE = Path(__file__).resolve().parent
"""
TAIL = """
CARD = Card(name="lev", family="lev", kind="discrete", title="lev", sizes=Multiple(of=1), alphabets=(256,) * 3)
class T(Tokenizer):
    LOAD
    def encode(self, images, seeds, budget=None):
        n = self.steps()
        i = (images * n).round().long().permute(0, 2, 3, 1).flatten(1, 2)
        return Codes(i, (256,) * 3, tuple(images.shape[2:]))
    def decode(self, tokens, seeds):
        n = self.steps()
        return tokens.indices.reshape(len(tokens), *tokens.size, 3).permute(0, 3, 1, 2).float() / n
    def steps(self):
        return STEPS
FAMILY = Family("lev", "lev", (CARD,), T, files=FILES)
"""
ON_PATH = "sys.path.insert(0, str(HERE))\n"


def adapter(head: str = "", steps: str = "LEVELS", load: str = "pass", files: str = "()") -> str:
    body = f"def load(self, files, device='cpu', dtype='float32'):\n        {load}"
    return HEAD + head + TAIL.replace("STEPS", steps).replace("LOAD", body).replace("FILES", files)


def _json(levels: int) -> str:
    return json.dumps({"levels": levels})


CODE: dict[str, tuple[str, str, str]] = {
    "a module beside": (adapter(ON_PATH + "from my_levels import LEVELS\n"), "my_levels.py", "LEVELS = {}\n"),
    "in a package": (adapter(ON_PATH + "from parts.deep import LEVELS\n"), "parts/deep.py", "LEVELS = {}\n"),
    "of a module that it imports": (adapter(ON_PATH + "from between import LEVELS\n"), "last.py", "LEVELS = {}\n"),
    "in a function": (
        adapter(ON_PATH, "__import__('my_levels').LEVELS"),
        "my_levels.py",
        "LEVELS = {}\n",
    ),
    "an import in encode": (
        adapter(ON_PATH, "self.late()").replace(
            "    def steps",
            "    def late(self):\n        import my_levels\n        return my_levels.LEVELS\n    def steps",
        ),
        "my_levels.py",
        "LEVELS = {}\n",
    ),
    "importlib": (
        adapter(ON_PATH + "import importlib\nLEVELS = importlib.import_module('my_levels').LEVELS\n"),
        "my_levels.py",
        "LEVELS = {}\n",
    ),
    "importlib by a name that is put together": (
        adapter(ON_PATH + "import importlib\nLEVELS = importlib.import_module('my_' + 'lev' + 'els').LEVELS\n"),
        "my_levels.py",
        "LEVELS = {}\n",
    ),
    "importlib in encode": (
        adapter(ON_PATH + "import importlib\n", "importlib.import_module('parts.deep').LEVELS"),
        "parts/deep.py",
        "LEVELS = {}\n",
    ),
    "from a file's path": (
        adapter(
            "import importlib.util as u\ns = u.spec_from_file_location('x', HERE / 'parts' / 'deep.py')\n"
            "m = u.module_from_spec(s)\ns.loader.exec_module(m)\nLEVELS = m.LEVELS\n"
        ),
        "parts/deep.py",
        "LEVELS = {}\n",
    ),
    "from a folder that leaves Python's path again": (
        adapter("sys.path.insert(0, str(HERE / 'parts'))\nfrom deep import LEVELS\nsys.path.pop(0)\n"),
        "parts/deep.py",
        "LEVELS = {}\n",
    ),
    "executed": (adapter("exec((HERE / 'my_levels.py').read_text())\n"), "my_levels.py", "LEVELS = {}\n"),
    "declared": (
        adapter("import json\n", "json.loads((HERE / 'conf.json').read_text())['levels']", files="('conf.json',)"),
        "conf.json",
        '{{"levels": {}}}',
    ),
    "in a folder that is declared": (
        adapter(load="self.n = int((HERE / 'conf' / 'n.txt').read_text())", steps="self.n", files="('conf',)"),
        "conf/n.txt",
        "{}",
    ),
}
"""{how: (the adapter, the file that is edited, its text with a hole for the levels)}; all of it is known."""
READ: dict[str, tuple[str, str, str]] = {
    "JSON at import": (
        adapter("import json\nLEVELS = json.loads((HERE / 'conf.json').read_text())['levels']\n"),
        "conf.json",
        '{{"levels": {}}}',
    ),
    "YAML in load": (
        adapter("import yaml\n", "self.n", "self.n = yaml.safe_load(open(HERE / 'conf.yaml'))['levels']"),
        "conf.yaml",
        "levels: {}\n",
    ),
    "a name that is put together": (
        adapter(load="self.n = int((HERE / ('levels' + '.' + 'txt')).read_text())", steps="self.n"),
        "levels.txt",
        "{}",
    ),
    "in encode": (adapter(steps="int(open(HERE / ('lev' + 'els.txt')).read())"), "levels.txt", "{}"),
    "by os.open in encode": (
        adapter(steps="int(os.read(os.open(str(HERE / ('lev' + 'els.txt')), os.O_RDONLY), 9))"),
        "levels.txt",
        "{}",
    ),
    "numpy at import": (adapter("import numpy as np\nLEVELS = float(np.load(HERE / 'n.npy'))\n"), "n.npy", ""),
    "torch in load": (adapter(steps="self.n", load="self.n = float(torch.load(HERE / 'n.pt'))"), "n.pt", ""),
    "safetensors in load": (
        adapter(
            "from safetensors.torch import load_file\n",
            "self.n",
            "self.n = float(load_file(HERE / 'own' / 'n.safetensors')['n'])",
        ),
        "own/n.safetensors",
        "",
    ),
    "safetensors by a name that is put together": (
        adapter(
            "from safetensors.torch import load_file\n",
            "self.n",
            "self.n = float(load_file(HERE / ('n' + '.safetensors'))['n'])",
        ),
        "n.safetensors",
        "",
    ),
    "safetensors at import, by its own reader": (
        adapter(
            "from safetensors import safe_open\n"
            "with safe_open(filename=str(HERE / ('n' + '.safetensors')), framework='pt') as f:\n"
            "    LEVELS = float(f.get_tensor('n'))\n"
        ),
        "n.safetensors",
        "",
    ),
    "TorchScript": (
        adapter(load="self.n = float(torch.jit.load(str(HERE / ('n' + '.ts'))).n)", steps="self.n"),
        "n.ts",
        "",
    ),
    "onnxruntime in encode": (
        adapter(
            "import numpy as np\n",
            "float(__import__('onnxruntime').InferenceSession(str(HERE / ('n' + '.onnx'))).run(None, {})[0])",
        ),
        "n.onnx",
        "",
    ),
}
"""The same of what it reads and does not declare."""
ASK = """
import vtbench
from vtbench.results.record import read_run
made = vtbench.evaluate("my.py@lev", images=images, view="native", tasks=["compression"], out=out)
run = made.runs[0]
answer = [run.score("psnr").value, run.info.why_not_ranked or "", [r.as_dict() for r in run.info.model.reads],
          (run.path / "rows.jsonl").stat().st_mtime_ns]
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    one = Forks()
    yield one
    one.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuts(tmp_path_factory.mktemp("pictures"), 2, ((24, 24),))


def _onnx(value: float) -> bytes:
    """A model without inputs whose output is this number (onnx.proto3: the fields by their numbers)."""

    def part(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    kind = b"\xa0\x01\x01"  # AttributeProto.type (20): FLOAT
    attribute = part(1, b"value_float") + b"\x15" + struct.pack("<f", value) + kind
    node = part(2, b"y") + part(4, b"Constant") + part(5, attribute)
    tensor = b"\x08\x01" + part(2, b"")  # float32, no dimension
    graph = part(1, node) + part(2, b"g") + part(12, part(1, b"y") + part(2, part(1, tensor)))
    return b"\x08\x08" + part(7, graph) + part(8, b"\x10\x0d")  # version 8 of the format, 13 of the operators


def _write(folder: Path, name: str, text: str, levels: int) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, np.float64(levels))
    elif path.suffix == ".pt":
        import torch

        torch.save(torch.tensor(float(levels)), path)
    elif path.suffix == ".safetensors":
        import torch
        from safetensors.torch import save_file

        save_file({"n": torch.tensor([float(levels)])}, path)
    elif path.suffix == ".ts":
        import torch

        module = torch.nn.Module()
        module.register_buffer("n", torch.tensor(float(levels)))
        torch.jit.script(module).save(str(path))
    elif path.suffix == ".onnx":
        path.write_bytes(_onnx(levels))
    else:
        path.write_text(text.format(levels))
    # As after rsync or an edit within a second: Python would take the bytecode that it kept for this file's.
    os.utime(path, (10**9, 10**9))


def psnr(pictures: Path, levels: int) -> Any:
    """The mean over the pictures in dB; of those that come out as they were there is none."""
    values = []
    for path in sorted(pictures.iterdir()):
        x = np.asarray(Image.open(path)).astype(np.float32) / 255
        y = np.rint(np.rint(x * np.float32(levels)) / np.float32(levels) * 255)
        error = np.mean((x.astype(np.float64) * 255 - y) ** 2)
        values += [10 * np.log10(255**2 / error)] if error > 0 else []
    return pytest.approx(np.mean(values), rel=1e-6)


def _ask(forks: Forks, folder: Path, pictures: Path, out: str) -> Any:
    return forks.answer(ASK, folder, images=str(pictures), out=str(folder / out))


@pytest.mark.parametrize("how", [*CODE, *READ])
def test_an_edited_file_gives_a_fresh_number(how: str, forks: Forks, pictures: Path, tmp_path: Path) -> None:
    code, name, text = {**CODE, **READ}[how]
    (tmp_path / "my.py").write_text(code)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "between.py").write_text("from last import LEVELS\n")
    _write(tmp_path, name, text, 7)
    first, *_ = _ask(forks, tmp_path, pictures, "same")
    _write(tmp_path, name, text, 1)
    second, why, reads, _ = _ask(forks, tmp_path, pictures, "same")
    assert first == psnr(pictures, 7)
    assert second == psnr(pictures, 1)
    if how in READ:
        assert f"lev reads {Path(name).name}, which it does not declare" in why
        assert [r["file"] for r in reads] == [Path(name).name]
        assert all(len(r["sha256"]) == 64 for r in reads)
    else:
        assert "does not declare" not in why or how == "importlib in encode"


@pytest.mark.parametrize("how", ["a module beside", "declared", "torch in load"])
def test_what_stayed_as_it_was_is_answered_from_disk(how: str, forks: Forks, pictures: Path, tmp_path: Path) -> None:
    code, name, text = {**CODE, **READ}[how]
    (tmp_path / "my.py").write_text(code)
    _write(tmp_path, name, text, 7)
    assert _ask(forks, tmp_path, pictures, "same") == _ask(forks, tmp_path, pictures, "same")


def test_a_run_of_what_was_read_at_work_is_made_again(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(READ["in encode"][0])
    _write(tmp_path, "levels.txt", "{}", 7)
    first, again = (_ask(forks, tmp_path, pictures, "same") for _ in range(2))
    assert first[0] == again[0]
    assert first[3] < again[3]
    assert [r["at_work"] for r in again[2]] == [True]


KILLED = """
import vtbench
def stop(name, task, done, total):
    if done == 2:
        raise KeyboardInterrupt
try:
    vtbench.evaluate("my.py@lev", images=images, view="native", tasks=["compression"], out=out, batch_size=2,
                     progress=stop)
except KeyboardInterrupt:
    answer = "stopped"
"""


def test_a_run_that_was_stopped_does_not_go_on_with_another_file(forks: Forks, tmp_path: Path) -> None:
    images = cuts(tmp_path / "images", 6, ((24, 24),))
    (tmp_path / "my.py").write_text(READ["in encode"][0])
    _write(tmp_path, "levels.txt", "{}", 7)
    assert forks.answer(KILLED, tmp_path, images=str(images), out=str(tmp_path / "same")) == "stopped"
    _write(tmp_path, "levels.txt", "{}", 2)
    assert _ask(forks, tmp_path, images, "same")[0] == psnr(images, 2)


HARMLESS = {
    "libraries": "import scipy.special, PIL.ImageFont, matplotlib.font_manager\n",
    "the system": "open('/proc/self/status').read(); open(os.devnull).read()\n"
    "import zoneinfo; zoneinfo.ZoneInfo('UTC')\n",
    "its own scratch": "import tempfile\np = tempfile.mkstemp()[1]\nopen(p, 'w').write('x'); open(p).read()\n",
    "a part that vtbench gives": "import vtbench.models.checkpoint, vtbench.adapters.networks.llamagen\n",
}


@pytest.mark.parametrize("how", HARMLESS)
def test_what_decides_no_number_is_no_reason(how: str, forks: Forks, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(adapter(HARMLESS[how], "7"))
    _, why, reads, _ = _ask(forks, tmp_path, pictures, "out")
    assert reads == []
    assert "does not declare" not in why


def test_weights_that_the_card_names_are_no_undeclared_files(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    """`--checkpoint FILE`, read by the adapter with any reader."""
    weights = 'CARD = __import__("dataclasses").replace(CARD, weights=(Weights(file="n.pt"),))\nFAMILY = Family('
    code = adapter("from vtbench import Weights\n", "self.n", "self.n = float(torch.load(files['model']))")
    (tmp_path / "my.py").write_text(code.replace("FAMILY = Family(", weights))
    (tmp_path / "given").mkdir()
    _write(tmp_path / "given", "n.pt", "", 7)
    asked = ASK.replace("out=out", 'out=out, checkpoint="given/n.pt"')
    _, why, reads, _ = forks.answer(asked, tmp_path, images=str(pictures), out=str(tmp_path / "out"))
    assert reads == []
    assert "does not declare" not in why


def test_a_declared_file_that_is_not_there_is_one_sentence(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(adapter(steps="7", files="('conf.json',)"))
    code = """
from vtbench.models.load import load
from vtbench.types.errors import VtbenchError
try:
    load("my.py@lev")
except VtbenchError as bad:
    answer = str(bad)
"""
    assert "declares conf.json, and" in forks.answer(code, tmp_path)


TWO = """
import vtbench
made = vtbench.evaluate(["a/my.py@lev", "b/my.py@lev"], images=images, view="native", tasks=["compression"], out=out)
answer = [[r.score("psnr").value for r in made.runs], made.failures]
"""


def test_two_adapters_with_modules_of_one_name(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    """Python gives the second adapter the first one's module: a sentence, not the first one's number."""
    for name, levels in (("a", 7), ("b", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "my.py").write_text(CODE["a module beside"][0])
        _write(tmp_path / name, "my_levels.py", "LEVELS = {}\n", levels)
    values, failures = forks.answer(TWO, tmp_path, images=str(pictures), out=str(tmp_path / "out"))
    assert len(values) == 1
    assert "has loaded another module called my_levels" in failures["b/my.py@lev"]


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
        _write(tmp_path, "n.npy", "", levels)
        assert forks.answer(asked, tmp_path, images=str(pictures), out=str(tmp_path / "out")) == 0.0


def test_a_metric_of_the_user_is_its_files_too(forks: Forks, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "gain.py").write_text(METRIC)
    for gain in (2.0, 3.0):
        (tmp_path / "gain.txt").write_text(str(gain))
        assert forks.answer(OF_METRIC, tmp_path, images=str(pictures), out=str(tmp_path / "out")) == gain
