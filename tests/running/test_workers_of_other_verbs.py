"""Workers in this process, without Ray, for `score` and `generate`: the same numbers, and who may take part."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_features
from PIL import Image
from support import command, cuts
from threaded_ray import Ray, at, other_packages

from vtbench.results.files import read_lines
from vtbench.running import cluster as clusters
from vtbench.running.cluster import connected
from vtbench.running.worker import Worker

pytestmark = pytest.mark.usefixtures("as_it_was")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return cuts(tmp_path / "images", 10)


def test_score_by_workers_says_what_one_process_says(images: Path, tmp_path: Path, local: None) -> None:
    for k in range(2):
        cuts(tmp_path / f"candidate{k}", 10)
        for path in sorted((tmp_path / f"candidate{k}").iterdir())[k::3]:
            Image.open(path).quantize(16).convert("RGB").save(path)
    (tmp_path / "candidate1" / "03.png").write_bytes(b"no picture")
    tiny_features.task(tmp_path / "code", tag="pairwise")
    metrics = "psnr,ssim," + f"{tmp_path / 'code' / 'metrics_of_pairwise.py'}@pairwise-fid"
    words = ["score", images, tmp_path / "candidate0", tmp_path / "candidate1", "--metrics", metrics, "--json"]
    one, two = command(*words), command(*words, "--ray", "auto", "--workers", "2")
    assert one[0] == two[0] == 1
    assert json.loads(one[1]) == json.loads(two[1])
    assert len(json.loads(one[1])["bad"]) == 1
    code, _, err = command(*words[:-1], "--set", "--ray", "auto")
    assert code == 2
    assert "--ray scores folders in pairs" in err


def score_with(
    change: Callable[[dict[str, Any]], None], candidate: Path, images: Path, metrics: str, patch: pytest.MonkeyPatch
) -> str:
    """What `score` says by workers whose orders are changed on the way; it takes none of them."""

    def begin(self: Worker, order: dict[str, Any]) -> dict[str, Any]:
        changed = dict(order)
        change(changed)
        return Worker.begin(self, changed)

    patch.setattr(clusters, "library", lambda: Ray(type("Other", (Worker,), {"begin": begin}), {"CPU": 2.0}))
    code, out, err = command("score", images, candidate, "--metrics", metrics, "--ray", "auto")
    assert (code, out) == (2, "")
    assert f"(process {os.getpid()}) takes no part: " in err
    return err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(at("contents", value=["0" * 64] * 2), "are not those that the command sees", id="other pictures"),
        pytest.param(at("question", "code", value="0"), "the code of vtbench, of the model or of a metric", id="code"),
        pytest.param(at("question", "weights", value=["0"]), "the metrics' weights", id="weights"),
        pytest.param(at("question", "networks", value=["0"]), "the metrics' networks", id="networks"),
        pytest.param(at("question", "view", value="0"), "the view", id="view"),
        pytest.param(at("question", "items", value="0"), "the pictures' names", id="names"),
        pytest.param(at("question", "batch", value=0), "(batch)", id="batch"),
        pytest.param(other_packages, "the command 1.0: install the same", id="torch"),
    ],
)
def test_score_refuses_workers_that_see_something_else(
    change: Callable[[dict[str, Any]], None],
    sentence: str,
    images: Path,
    tmp_path: Path,
    local: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidate = cuts(tmp_path / "candidate", 10)
    err = score_with(change, candidate, images, "psnr", monkeypatch)
    assert sentence in err
    assert sentence != "are not those that the command sees" or f"its pictures in {images} {sentence}" in err


NEEDS = """
from vtbench import ImageMetric, MetricCard, Value


class Needs(ImageMetric):
    card = MetricCard("needs-weights", "Needs", 1, "", "lower", "test", needs=("dinov2-vit-s14",))

    def measure(self, batch):
        return [Value(0.0) for _ in batch.candidate]


METRICS = (Needs,)
"""


def test_score_refuses_workers_with_other_metric_weights(
    images: Path, tmp_path: Path, local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a user's file any contents are taken, and every worker reads its own."""
    (tmp_path / "needs.py").write_text(NEEDS)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.pth").write_text(name)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", "dinov2-vit-s14=own.pth")
    candidate = cuts(tmp_path / "candidate", 10)
    change, metric = at("folder", value=str(tmp_path / "there")), f"{tmp_path / 'needs.py'}@needs-weights"
    assert "the metrics' weights" in score_with(change, candidate, images, metric, monkeypatch)


LACKS = """
import errno, os
from vtbench import ImageMetric, MetricCard, Value


class Lacks(ImageMetric):
    card = MetricCard("lacks-files", "Lacks", 1, "", "lower", "test")

    def measure(self, batch):
        if os.environ.get("VTBENCH_TEST_LACKS") in [item.id for item in batch.reference.items]:
            raise OSError(errno.EMFILE, "Too many open files")
        return [Value(float(item.id[:2])) for item in batch.reference.items]


METRICS = (Lacks,)
"""


def test_what_a_worker_lacks_ends_the_command_and_any_command_goes_on(
    images: Path, tmp_path: Path, local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the worker's name: its process is not the command's."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "lacks.py").write_text(LACKS)
    candidate, metric = cuts(tmp_path / "candidate", 10), f"{tmp_path / 'lacks.py'}@lacks-files"
    words = ["score", images, candidate, "--metrics", metric, "--json"]
    whole = command(*words)
    monkeypatch.setenv("VTBENCH_TEST_LACKS", "08.png")
    code, out, err = command(*words, "--ray", "auto", "--workers", "2")
    assert (code, out) == (1, "")
    said = err.splitlines()[-1]
    assert said.startswith("vtbench: worker ")
    assert f"(process {os.getpid()}): this process may have no more than " in said
    (kept,) = (tmp_path / "cache").rglob("rows.jsonl")
    assert len(list(read_lines(kept))) == 8
    monkeypatch.delenv("VTBENCH_TEST_LACKS")
    assert command(*words)[:2] == whole[:2]
    assert not [*(tmp_path / "cache").rglob("rows.jsonl")]


GENERATOR = """
import torch
from vtbench import Card, Family, Generator, Multiple


class Seeds(Generator):
    def generate(self, prompts, seeds):
        noise = [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(noise) * (1 + torch.tensor([p.label for p in prompts])[:, None, None, None]) / 2


CARD = Card("seeds", "seeds", "generator", "Seeds", sizes=Multiple(), conditioning="class")
FAMILY = Family("seeds", "Seeds", (CARD,), Seeds)
"""


def test_generate_by_workers_draws_what_one_process_draws(tmp_path: Path, local: None) -> None:
    (tmp_path / "seeds.py").write_text(GENERATOR)
    words = [
        "generate",
        f"{tmp_path / 'seeds.py'}@seeds",
        "--suite",
        "classes:0-1",
        "--n",
        "5",
        "--batch-size",
        "3",
        "--out",
    ]
    assert command(*words, tmp_path / "one")[0] == 0
    assert command(*words, tmp_path / "two", "--ray", "auto", "--workers", "2")[0] == 0
    pictures = [
        {str(p.relative_to(tmp_path / x)): p.read_bytes() for p in (tmp_path / x / "images").rglob("*.png")}
        for x in ("one", "two")
    ]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 10
    lines = [
        [{**row, "seconds": 0, "warm_up": 0} for row in read_lines(tmp_path / x / "samples.jsonl")]
        for x in ("one", "two")
    ]
    assert lines[0] == lines[1]
    records = [json.loads((tmp_path / x / "generate.json").read_text()) for x in ("one", "two")]
    assert records[0]["id"] == records[1]["id"]
    # Half of it is gone: the next command, by whomever, makes that again.
    keep = (tmp_path / "two" / "samples.jsonl").read_bytes().splitlines(True)[:4]
    (tmp_path / "two" / "samples.jsonl").write_bytes(b"".join(keep))
    assert command(*words, tmp_path / "two", "--ray", "auto", "--workers", "2")[0] == 0
    assert {p: (tmp_path / "two" / p).read_bytes() for p in pictures[0]} == pictures[0]


def test_a_second_cluster_in_one_process_has_the_token_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray remembers the first token that it is told, and leaves its mode behind as if the user had set it."""
    seen: list[str] = []

    class Closed(Ray):
        def init(self, **more: Any) -> None:
            seen.append(os.environ["RAY_AUTH_TOKEN"])
            os.environ["RAY_AUTH_MODE"] = "token"
            super().init(**more)

    for name in clusters.TOKEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(clusters, "library", lambda: Closed(object, {"CPU": 2.0}))
    for _ in range(2):
        with connected("local", 1, "cpu"):
            pass
        assert not any(name in os.environ for name in clusters.TOKEN)
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert len(seen[0]) == 64
