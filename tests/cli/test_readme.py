"""README.md is true: its commands run, with the reader's paths filled in."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtbench.proving.pictures import photograph

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
LINES = [
    line.split("#")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("make ")
]
NEEDS_WEIGHTS = [line for line in LINES if "path/to/taef2" in line or "mine.pt" in line]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the README's reader has: originals, two sets of candidates, cases, two runs."""
    folder = tmp_path_factory.mktemp("readme")
    for name, noise in (("ORIGINALS", 0), ("RECONSTRUCTIONS", 6), ("MORE", 12)):
        (folder / name).mkdir()
        rng = np.random.default_rng(noise)
        for i in range(3):
            cut = photograph()[40 * i : 40 * i + 192, 100 : 100 + 192].astype(float)
            pixels = np.clip(cut + rng.normal(0, noise, cut.shape), 0, 255).round().astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    clause = {"class": "cat", "count": 1, "color": "red"}
    detection = {"cls": "cat", "box": [0, 0, 9, 9], "score": 0.9, "color": "red"}
    case = {"metadata": {"tag": "colors", "prompt": "", "include": [clause]}, "detections": [detection]}
    (folder / "cases.jsonl").write_text(json.dumps(case) + "\n")
    return folder


def run(line: str, place: Path) -> str:
    runs = sorted(str(p.parent) for p in (place / "out").glob("jpeg/*/run.json"))[:2]
    for name, meant in {
        "[MORE...]": "MORE",
        "REFERENCE SAMPLES": "ORIGINALS RECONSTRUCTIONS",
        "RUN_A RUN_B": " ".join(runs),
        "--config RUN": f"--config {runs[0] if runs else 'RUN'}",
        "path/to/images": "ORIGINALS",
    }.items():
        line = line.replace(name, meant)
    words = shlex.split(line)
    assert words[0] == "vtbench"
    ran = subprocess.run(
        [sys.executable, "-m", "vtbench", *words[1:]],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "VTBENCH_OFFLINE": "1", "VTBENCH_CACHE": str(place / "cache")},
    )
    assert ran.returncode == 0, line + "\n" + ran.stdout[-2000:] + ran.stderr[-2000:]
    return ran.stdout


def test_commands(place: Path) -> None:
    tested = [line for line in LINES if line not in NEEDS_WEIGHTS]
    assert len(tested) >= 8
    for line in tested:
        run(line, place)
    assert json.loads((place / "scores.json").read_text())["candidates"][1]["path"] == "MORE"
    assert (place / "site" / "index.html").is_file()


@pytest.mark.parametrize("line", [line for line in NEEDS_WEIGHTS if "path/to/taef2" in line])
def test_commands_with_weights(line: str, place: Path, shared: Path) -> None:
    quick = " --images ORIGINALS --limit 1 --view 64 --task compression"
    run(line.replace("path/to/taef2", str(shared / "weights" / "taef2")) + quick, place)


def test_python(place: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "psnr" in ran.stdout


def test_files_it_names_exist() -> None:
    for name in re.findall(r"\]\(([\w/.]+)\)", TEXT) + re.findall(r"`(docs/[\w.]+)`", TEXT):
        assert (ROOT / name).exists(), name
