"""README.md is true: its commands run, with the reader's paths filled in; what needs a GPU, a network or ImageNet is
parsed; what it counts is counted."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support import ROOT, command, parsed

from benchmarks import tiny_llamagen
from benchmarks.first_hour import MINE, PAGE, TRAIN, journeys, with_runs
from benchmarks.supported import ROW, count
from vtbench.cli.catalogue import LISTS
from vtbench.metrics import inception
from vtbench.proving.pictures import photograph

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
HOUR = (ROOT / "docs" / "first_hour.md").read_text(encoding="utf-8")
BLOCKS = "".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
LINES = [line.split(" #")[0].strip() for line in BLOCKS.splitlines() if line.strip() and not line.startswith("make ")]
RUNS = ROOT / "tests" / "data" / "runs_schema1" / "runs"
ELSEWHERE = ("path/to/imagenet", "vtbench fetch", "--device cuda", "vtbench merge shards", "openai/clip")
"""What needs a GPU, a network or ImageNet: parsed, not run."""
TAEF2 = "path/to/taef2"
RUN = [line for line in LINES if TAEF2 not in line and not any(part in line for part in ELSEWHERE)]
# What it names in a sentence: whole commands, but for words that stand for the reader's own.
SAID = [text for text in re.findall(r"`(vtbench [^`]+)`", TEXT) if not text.endswith(".page")]


def words_of(line: str) -> list[str]:
    words = shlex.split(re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line))
    assert words[0] == "vtbench", line
    return words[1:]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the reader stands, with all that he has: originals, two sets of candidates, cases, a checkpoint."""
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
    # Untrained: how good it is, is no matter here.
    torch.save({"model": tiny_llamagen.network().state_dict()}, folder / "mine.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VTBENCH_OFFLINE", "1")
        patch.setenv("VTBENCH_CACHE", str(folder / "cache"))
        for screen in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
            patch.delenv(screen, raising=False)
        yield folder


def filled(line: str, place: Path) -> list[str]:
    """The line as the reader types it; on fewer images where it names a suite's."""
    line = with_runs(line, place)
    for name, meant in {
        "[MORE...]": "MORE",
        "REFERENCE SAMPLES": "ORIGINALS RECONSTRUCTIONS",
        "path/to/images": "ORIGINALS",
    }.items():
        line = line.replace(name, meant)
    return [*words_of(line), *(("--limit", "1") if "--out out/mine" in line and "evaluate" in line else ())]


def test_commands(place: Path) -> None:
    assert len(RUN) >= 20
    said = {}
    for line in RUN:
        code, out, err = command(*filled(line, place))
        assert code == 0, f"{line}\n{out[-2000:]}{err[-2000:]}"
        said[line] = out
    assert json.loads((place / "scores.json").read_text())["candidates"][1]["path"] == "MORE"
    assert (place / "site" / "index.html").is_file()
    (identified,) = [out for line, out in said.items() if "identify" in line]
    (evaluated,) = [line for line in RUN if "mine.pt" in line and "evaluate" in line]
    # What `identify` prints is what the next line gives.
    assert re.findall(r"vtbench evaluate family:llamagen .*", identified) == [evaluated.partition(" --task")[0]]
    (page,) = [out for line, out in said.items() if "vtbench view" in line]
    assert Path(page.splitlines()[0].removeprefix("page: ")).is_file()


@pytest.mark.parametrize("line", [line for line in LINES if line not in RUN])
def test_what_is_not_run_is_what_its_verb_takes(line: str) -> None:
    parsed(*words_of(line))


@pytest.mark.parametrize("line", sorted(set(SAID)))
def test_what_a_sentence_names_is_what_its_verb_takes(line: str) -> None:
    words = words_of(line)
    if words[0] == "--help":
        return
    try:
        parsed(*words)
    except Exception as bad:
        # A sentence may name the verb alone.
        if type(bad).__name__ != "MissingParameter":
            raise


@pytest.mark.parametrize("line", [line for line in LINES if TAEF2 in line])
def test_commands_with_weights(line: str, place: Path, shared: Path) -> None:
    quick = " --images ORIGINALS --limit 1 --view 64 --task compression"
    code, out, err = command(*words_of(line.replace(TAEF2, str(shared / "weights" / "taef2")) + quick))
    assert code == 0, out + err


def test_python(place: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "psnr" in ran.stdout


def test_files_options_extras_and_targets_that_it_names_exist() -> None:
    for name in re.findall(r"\]\(([\w/.]+)\)", TEXT) + re.findall(r"`(docs/[\w.]+)`", TEXT):
        assert (ROOT / name).exists(), name
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[(\w+)\]", TEXT)) <= set(extras)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"^make ([a-z]+)", BLOCKS + TEXT, re.MULTILINE)) <= targets
    options = {opt for verb in _verbs() for p in verb.params for opt in p.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", TEXT)) - {"--help"} <= options


def _verbs(group: Any = None) -> Iterator[Any]:
    import typer

    from vtbench.cli import app

    for verb in (group or typer.main.get_command(app)).commands.values():
        yield from _verbs(verb) if hasattr(verb, "commands") else [verb]


def test_what_it_counts_is_there() -> None:
    rows = {(row[4], row[5]): row[2] for row in ROW.finditer(TEXT)}
    kinds = {("models", entry["kind"]) for entry in LISTS["models"]()}
    assert set(rows) == {*kinds, *((what, None) for what in ("reducers", "metrics", "tasks", "suites"))}
    wrong = {row: said for row, said in rows.items() if said != count(*row)}
    assert not wrong, "count anew: python -m benchmarks.supported"


def test_the_times_and_sizes_of_imagenet_are_those_that_were_measured() -> None:
    measured = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (pairs,) = re.findall(r"^\| 1 \| 55\.5 \| ([\d.]+) \|", measured, re.MULTILINE)
    (model,) = re.findall(r"^\| llamagen-vq-ds16-c2i \| .*\| ([\d.]+) \| [\d.]+ \|$", measured, re.MULTILINE)
    said = re.search(
        r"take ([\d.]+) s a pair .*? ([\d.]+) hours in all; LlamaGen itself takes ([\d.]+) s", TEXT, re.DOTALL
    )
    assert said is not None
    # 250 pairs were scored there.
    assert [float(text) for text in said.groups()] == [
        round(float(pairs) / 250, 2),
        round(float(pairs) / 250 * 50_000 / 3600, 1),
        round(float(model), 1),
    ]
    rows = [line for path in RUNS.glob("*/*/rows.jsonl") for line in path.read_bytes().splitlines()]
    assert 300 < sum(map(len, rows)) / len(rows) < 900
    assert "Inception's features of the originals 8 kB an image" in " ".join(TEXT.split())
    assert inception.DIMS["pool3"] * 4 == 8192


def test_it_is_cited_as_the_citation_file_says() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (entry,) = re.findall(r"^```bibtex\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    fields = dict(re.findall(r"(\w+) = \{+(.*?)\}+,?$", entry, re.MULTILINE))
    assert fields == {
        "author": cited["authors"][0]["name"],
        "title": cited["title"],
        "version": str(cited["version"]),
        "url": cited["repository-code"],
    }


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs" / "page.webp").stat().st_size < 150_000
    with Image.open(ROOT / "docs" / "page.webp") as picture:
        assert picture.width >= 1000


# -- the recorded first hour -------------------------------------------------------------------------------------------


def test_the_recording_is_of_this_readme() -> None:
    """Every command of it is README's, word for word but for the runs' names."""
    done = re.findall(r"^\$ (.*)$", HOUR, re.MULTILINE)
    of_readme = [line for number in (MINE, PAGE) for line in journeys(TEXT)[number]]
    typed = [line for line in done if line.startswith("vtbench ")]
    assert len(typed) == len(of_readme)
    for line, wanted in zip(typed, of_readme, strict=True):
        pattern = re.escape(wanted)
        for name in ("RUN_A", "RUN_B", "RUN"):
            pattern = re.sub(rf"\b{name}\b", r"out/mine/\\S+", pattern)
        assert re.fullmatch(pattern, line), (
            f"{line}: README has {wanted}; python -m benchmarks.first_hour > docs/first_hour.md"
        )
        parsed(*words_of(line))
    rest = [line for line in done if line not in typed]
    assert [line.split()[:2] for line in rest] == [["git", "clone"], ["make", "demo"], TRAIN.split()[:2]]
    assert rest[2] == TRAIN


def test_the_recording_names_no_machine() -> None:
    assert not re.search(r"/(?:tmp|work|root|home|Users|var)/", HOUR)
    seconds = re.findall(r"^\| (.*?) \| (\d+) \|$", HOUR, re.MULTILINE)
    assert len(seconds) >= 6
    assert abs(sum(int(s) for _, s in seconds[:-1]) - int(seconds[-1][1])) <= len(seconds)
