"""File adapters that round every sample to so many levels: how they import, read or declare that number."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import Forks
from PIL import Image

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


def write(folder: Path, name: str, text: str, levels: int) -> None:
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


def ask(forks: Forks, folder: Path, pictures: Path, out: str) -> Any:
    return forks.answer(ASK, folder, images=str(pictures), out=str(folder / out))
