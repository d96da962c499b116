"""The pages of docs/: all of them stand in the site, their Python runs, their numbers are those that were measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import pytorch_lightning as pl
import torch
from monitored import Quantizer
from support import ROOT, noise

import vtbench
from benchmarks.first_hour import TRAIN, journeys
from benchmarks.links import broken
from benchmarks.training_curve import PSNR, USAGE, svg
from vtbench.running.monitor import Measured

DOCS = ROOT / "docs"


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def test_the_index_names_pages_that_there_are_once() -> None:
    """One that it does not name is put at the end of its guides (docs/conf.py), so that every page is in the site."""
    listed = [line for block in blocks("index.md", r"\{toctree\}") for line in block.splitlines()]
    pages = [line for line in listed if line and not line.startswith(":")]
    assert len(pages) == len(set(pages)) >= 17
    assert all((DOCS / f"{page}.md").is_file() for page in pages)


def test_the_reference_has_every_public_name() -> None:
    documented = set(re.findall(r"^\.\. auto\w+:: vtbench\.(\w+)$", text_of("api.md"), re.MULTILINE))
    assert documented == set(vtbench.__all__) - {"__version__"}


def test_the_tutorials_commands_are_those_that_run() -> None:
    """README's, which `cli/test_readme.py` runs, and the training script's, which was run for the first hour."""
    lines = [line for block in blocks("tutorial.md", "sh") for line in block.splitlines()]
    known = journeys((ROOT / "README.md").read_text(encoding="utf-8"))
    assert lines == [TRAIN, *known[1], *known[4]]


def test_imagenets_times_and_sizes_are_those_that_were_measured() -> None:
    page, measured = text_of("imagenet.md"), text_of("benchmarks.md")
    (pairs,) = re.findall(r"^\| 1 \| 55\.5 \| ([\d.]+) \|", measured, re.MULTILINE)
    (model,) = re.findall(r"^\| llamagen-vq-ds16-c2i \| .*\| ([\d.]+) \| [\d.]+ \|$", measured, re.MULTILINE)
    rows = dict(re.findall(r"^\| (.*?) \| ([\d.]+ \| [\d.]+) hours", page, re.MULTILINE))
    # 250 pairs were scored there.
    pair, image = float(pairs) / 250, float(model)
    assert rows["PSNR, SSIM, LPIPS and rFID"] == f"{pair:.2f} | {pair * 50_000 / 3600:.1f}"
    assert rows["`llamagen-vq-ds16-c2i`, encode and decode"] == f"{image:.1f} | {image * 50_000 / 3600:.0f}"
    sizes = re.findall(r"\| ([\d.]+) kB \| ([\d.]+) ([GM])B \|", page)
    assert len(sizes) == 3
    for one, all_, unit in sizes:
        assert float(one) * 50_000 * 1e3 == pytest.approx(float(all_) * {"G": 1e9, "M": 1e6}[unit], rel=0.02)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(words in readme for words in ("6.3 GB", "0.6 kB an image (30 MB)", "8 kB an image\n(0.4 GB)"))


def test_the_figure_is_of_a_training() -> None:
    history = [Measured(50 * k, {PSNR: 10.0 + k, USAGE: 5.0 * k}) for k in range(3)] + [Measured(150, failure="no")]
    drawn = figure(svg(history, "note"))
    assert drawn == [(0, 10.0, 0.0), (50, 11.0, 5.0), (100, 12.0, 10.0)]
    shown = text_of("training.svg")
    points = figure(shown)
    assert len(points) >= 5
    assert [step for step, _, _ in points] == sorted({step for step, _, _ in points})
    assert points[0][0] == 0
    assert points[-1][1] > points[0][1] + 1
    assert re.search(r"\d+ cores, no GPU, torch [\d.]+, \w+; \d+ \w+ 20\d\d", shown)


def figure(text: str) -> list[tuple[int, float, float]]:
    """(step, dB, % of the codes) of every point of an SVG."""
    titles = [title.text or "" for title in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}title")]
    said = [re.fullmatch(r"step (\d+): ([\d.]+) dB, ([\d.]+) % of the codes in use", title) for title in titles]
    return [(int(one[1]), float(one[2]), float(one[3])) for one in said if one]


# -- while training ----------------------------------------------------------------------------------------------------


class Writer:
    """As tensorboard's: a number, never a text."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, float(value), int(step)))


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a reader of training.md has."""
    noise(tmp_path / "path" / "to" / "validation", n=1)
    monkeypatch.chdir(tmp_path)
    writer: Writer = Writer()
    names: dict[str, Any] = {"writer": writer, "tokenizer": Quantizer(), "loader": [torch.rand(2, 3, 8, 8)] * 2}
    return names


def run(names: dict[str, Any], recipe: str) -> None:
    """A block of training.md, with two steps in place of many."""
    (code,) = blocks("training.md", f"python {recipe}")
    assert "every=1000" in code or recipe == "tensorboard"
    exec(code.replace("every=1000", "every=2, tasks=['compression'], view='native'").replace("100_000", "2"), names)


def test_the_plain_loop_and_tensorboard(names: dict[str, Any]) -> None:
    run(names, "tensorboard")
    run({**names, "train_step": lambda batch: None, "run": names["log"]}, "loop")
    scalars = names["writer"].scalars
    assert {step for _, _, step in scalars} == {2}
    assert {"vtbench/compression/psnr", "vtbench/compression/bpp"} <= {tag for tag, _, _ in scalars}
    names["log"]({"vtbench/step": 4, "vtbench/failure": "a sentence"})
    assert scalars[-1] == ("vtbench/step", 4.0, 4)


@pytest.mark.filterwarnings("ignore")
def test_lightning(names: dict[str, Any]) -> None:
    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = Quantizer()

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            return (self.tokenizer(batch) - batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    names |= {"module": Module(), "loader": torch.utils.data.DataLoader(names["loader"], batch_size=None)}
    run(names, "lightning")
    assert [one.failure for one in names["monitor"].history] == [None]


# -- links -------------------------------------------------------------------------------------------------------------


def test_links_that_lead_nowhere_are_seen(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (tmp_path / "outside.html").write_text("")
    (site / "sub" / "index.html").write_text('<p id="here"><a href="../index.html#top">up</a> <a href="#here">in</a>')
    links = {
        "sub/": True,
        "sub/index.html#here": True,
        "a%20b.png": True,
        "https://example.com/x#y": True,
        "mailto:a@example.com": True,
        "#top": True,
        "": True,
        "sub/index.html#there": False,
        "#there": False,
        "missing.html": False,
        "a b.txt": False,
        "../outside.html": False,
    }
    (site / "a b.png").write_bytes(b"")
    body = "".join(f'<a href="{link}">x</a>' for link in links)
    (site / "index.html").write_text(f'<h1 id="top">{body}</h1><img src="gone.svg">')
    wrong = [link for link, right in links.items() if not right]
    assert broken(site) == [f"index.html: {link}" for link in [*wrong, "gone.svg"]]
