"""Issue 8, case 1: changed code is another question, is named, and no longer counts as the release.

Every edit is made in a copy of the package that states itself as the release, and every call is a process of its own,
as a user's are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import copy_of_vtbench, cuts, python

from vtbench.models.arch import with_options
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network
from vtbench.registry import family

EVALUATE = """
import json, sys
import vtbench
asked = json.loads(sys.argv[1])
run, = vtbench.evaluate(asked.pop("model"), **asked).runs
print(json.dumps({
    "folder": str(run.path), "id": run.info["id"], "ranked": run.info["ranked"], "why": run.info["why_not_ranked"],
    "release": run.info["provenance"]["release"], "rule": run.info.get("identity_rule"),
    "scores": {s["metric"]: s["value"] for s in run.scores if s["metric"] in run.info["metrics"]},
}))
"""
OWN = "adapters/networks/taesd.py"
"""The network of the models that these tests evaluate with weights of their own."""
Answer = dict[str, Any]


class Copy:
    """A copy of vtbench, and runs by it."""

    def __init__(self, folder: Path, images: Path, out: Path) -> None:
        self.folder, self.images, self.out = folder, images, out

    def evaluate(self, model: str, **asked: Any) -> Answer:
        question = {"model": model, "images": str(self.images), "view": "native", "tasks": ["reconstruction"]}
        question |= {"out": str(self.out), **asked}
        answer: Answer = json.loads(python(EVALUATE, json.dumps(question), checkout=self.folder))
        return answer

    def edit(self, file: str, before: str, after: str) -> None:
        """Only the contents tell: the file's size and times stay, as far as the texts are of one length."""
        path = self.folder / file
        facts, text = path.stat(), path.read_text()
        assert text.count(before) > 0
        path.write_text(text.replace(before, after, 1))
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which nothing is ever edited."""
    folder = tmp_path_factory.mktemp("whole")
    images = cuts(folder / "images", 3, ((64, 64),))
    return Copy(copy_of_vtbench(folder / "checkout"), images, folder / "out")


@pytest.fixture
def copy(whole: Copy, tmp_path: Path) -> Copy:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "checkout", symlinks=True))
    return Copy(folder, whole.images, tmp_path / "out")


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What evaluates a small TAESD with weights made from names."""
    options = {"width": "8"}
    taesd = family("taesd")
    assert taesd.cards[0].arch is not None
    network = fill_(build_network(taesd, with_options(taesd.cards[0].arch, options)))
    folder = tmp_path_factory.mktemp("weights")
    for weights in taesd.cards[0].weights:
        torch.save(network.get_submodule(weights.role).state_dict(), folder / weights.file)
    return {"checkpoint": str(folder), "options": options}


@pytest.fixture(scope="module")
def unedited(whole: Copy, own_weights: dict[str, Any]) -> Callable[[str], Answer]:
    """What the unedited copy answers for a model."""
    answers: dict[str, Answer] = {}

    def answer(model: str) -> Answer:
        if model not in answers:
            answers[model] = whole.evaluate(model, **(own_weights if model == "family:taesd" else {}))
        return answers[model]

    return answer


def test_an_unedited_copy_is_the_release_and_answers_from_disk(whole: Copy, unedited: Callable[[str], Answer]) -> None:
    first = unedited("dct")
    assert (first["ranked"], first["why"], first["release"], first["rule"]) == (True, None, True, 2)
    rows = Path(first["folder"]) / "rows.jsonl"
    written = rows.stat().st_mtime_ns
    assert whole.evaluate("dct") == first
    assert rows.stat().st_mtime_ns == written


def test_what_decides_no_number_leaves_the_question_as_it_was(copy: Copy, unedited: Callable[[str], Answer]) -> None:
    for file in ("leaderboard/build.py", "vtbench/reporting/table.py", "vtbench/proving/rounding.py"):
        with (copy.folder / file).open("a") as source:
            source.write("\n# one more line\n")
    for path in (copy.folder / "vtbench" / "cli").glob("*.py"):
        path.write_text(path.read_text() + "\n# one more line\n")
    after = copy.evaluate("dct")
    assert {**after, "folder": None} == {**unedited("dct"), "folder": None}


@pytest.mark.parametrize(
    ("model", "file", "before", "after"),
    [
        pytest.param("family:taesd", OWN, "3 tanh(x / 3)", "3 tanh(x / 4)", id="network"),
        pytest.param("family:taesd", "adapters/networks/parts/conv.py", "import", "import ", id="part"),
        pytest.param("dct", "adapters/builtin/dct.py", "def ", "def  ", id="adapter"),
        pytest.param("tokenbridge:pca", "adapters/builtin/pca.py", "def ", "def  ", id="inner-adapter"),
        pytest.param("dct", "vtbench/metrics/psnr.py", "version=1", "version=1 ", id="metric"),
        pytest.param("dct", "tasks/reconstruction.py", "TASK =", "TASK  =", id="task"),
        pytest.param("dct", "vtbench/images/rounding.py", "255", "255 ", id="rounding"),
        pytest.param("dct", "vtbench/running/writer.py", "SAMPLES = 6", "SAMPLES = 5", id="writer"),
    ],
)
def test_an_edited_file_is_another_question_and_is_named(
    copy: Copy,
    unedited: Callable[[str], Answer],
    own_weights: dict[str, Any],
    model: str,
    file: str,
    before: str,
    after: str,
) -> None:
    first = unedited(model)
    assert first["ranked"]
    copy.edit(file, before, after)
    second = copy.evaluate(model, **(own_weights if model == "family:taesd" else {}))
    assert second["id"] != first["id"]
    assert (second["ranked"], second["release"]) == (False, False)
    assert file.removeprefix("vtbench/") in second["why"]


def test_an_edited_network_is_measured_anew(copy: Copy, own_weights: dict[str, Any]) -> None:
    """The issue's own case: decode comes to return zeros, and the old PSNR must not come back."""
    first = copy.evaluate("family:taesd", **own_weights)
    copy.edit(OWN, "out: Tensor = self.decoder(latent)", "out: Tensor = 0 * self.decoder(latent)")
    second = copy.evaluate("family:taesd", **own_weights)
    assert second["folder"] != first["folder"]
    assert second["scores"]["psnr"] != first["scores"]["psnr"]
    assert second["scores"]["psnr"] == pytest.approx(psnr_of_black(copy.images))
    assert not second["ranked"]
    assert OWN in second["why"]


LEVELS = """
import importlib
import json
from pathlib import Path
import torch
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Multiple
from vtbench.types.tokens import Codes
HERE = Path(__file__).resolve().parent
CARD = Card(name="lev", family="lev", kind="discrete", title="lev", sizes=Multiple(of=1), alphabets=(256,) * 3)
class T(Tokenizer):
    def load(self, files, device="cpu", dtype="float32"):
        self.n = READ
    def encode(self, images, seeds, budget=None):
        i = (images * self.n).round().long().permute(0, 2, 3, 1).flatten(1, 2)
        return Codes(i, (256,) * 3, tuple(images.shape[2:]))
    def decode(self, tokens, seeds):
        return tokens.indices.reshape(len(tokens), *tokens.size, 3).permute(0, 3, 1, 2).float() / self.n
FAMILY = Family("lev", "lev", (CARD,), T, files=FILES)
"""
"""Rounds every sample to so many steps, which it reads from elsewhere."""


JSON = "json.loads((HERE / 'conf.json').read_text())"
DEEP = "vtbench.adapters.mine.deep.steps"


@pytest.mark.parametrize(
    ("read", "declared", "file", "text"),
    [
        pytest.param(JSON, "('conf.json',)", "conf.json", "{}", id="declared"),
        pytest.param(JSON, "()", "conf.json", "{}", id="read"),
        pytest.param(f"importlib.import_module('{DEEP}').N", "()", "deep/steps.py", "N = {}", id="import_module"),
        pytest.param(f"__import__('{DEEP}', fromlist=['N']).N", "()", "deep/steps.py", "N = {}", id="__import__"),
    ],
)
def test_an_adapter_of_the_tree_is_its_files_too(copy: Copy, read: str, declared: str, file: str, text: str) -> None:
    """A file of an own sub-package, as CONTRIBUTING has it: what it declares, reads, or imports by a text."""
    mine = copy.folder / "adapters" / "mine"
    (mine / "deep").mkdir(parents=True)
    for folder in (mine, mine / "deep"):
        (folder / "__init__.py").write_text("")
    (mine / "lev.py").write_text(LEVELS.replace("READ", read).replace("FILES", declared))
    (mine / file).write_text(text.format(4))
    first = copy.evaluate("lev")
    (mine / file).write_text(text.format(40))
    second = copy.evaluate("lev")
    assert second["id"] != first["id"]
    # Ten times the steps, a tenth of the error: 20 dB, but for grey levels that are no multiples of a step.
    assert second["scores"]["psnr"] > first["scores"]["psnr"] + 15
    undeclared = file.endswith(".json") and declared == "()"
    assert first["ranked"] is second["ranked"] is not undeclared
    assert ("does not declare" in str(second["why"])) is undeclared


def test_released_weights_in_an_edited_network_are_not_the_release(copy: Copy, shared: Path) -> None:
    released = {"checkpoint": str(shared / "weights" / "taef2")}
    first = copy.evaluate("taef2", **released)
    assert (first["ranked"], first["why"]) == (True, None)
    copy.edit(OWN, "out: Tensor = self.decoder(latent)", "out: Tensor = 0 * self.decoder(latent)")
    second = copy.evaluate("taef2", **released)
    assert second["scores"]["psnr"] == pytest.approx(psnr_of_black(copy.images))
    assert second["scores"]["psnr"] < first["scores"]["psnr"] - 10
    assert (second["ranked"], second["release"]) == (False, False)
    assert OWN in second["why"]


def psnr_of_black(images: Path) -> float:
    """The mean over the images of 10 log10(255^2 / mean of the squared grey levels), in dB."""
    import numpy as np
    from PIL import Image

    squares = [np.square(np.asarray(Image.open(p), np.float64)).mean() for p in sorted(images.iterdir())]
    return float(np.mean([10 * np.log10(255**2 / s) for s in squares]))
