"""Workers in this process, without Ray: the same rows, and who may take part."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_features
from PIL import Image
from support import BAD_ADAPTERS, command, cuts, stable
from threaded_ray import Ray

from vtbench.results.files import read_lines
from vtbench.results.record import read_run
from vtbench.running import cluster as clusters
from vtbench.running import evaluate as here
from vtbench.running.cluster import Cluster, connected
from vtbench.running.request import Request
from vtbench.running.spread import Spread
from vtbench.running.worker import Worker
from vtbench.types.errors import VtbenchError


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """A worker of this process works where the command does, and with its settings: undone after each test."""
    folder, environment = os.getcwd(), dict(os.environ)
    yield
    os.chdir(folder)
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    os.environ.update(environment)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return cuts(tmp_path / "images", 10)


class Altered(Spread):
    """Its orders are changed on the way, as if worker and command were on different machines."""

    change: Callable[[dict[str, Any]], None] = staticmethod(lambda order: None)

    def asked(self, ask: Any) -> Any:
        other = Altered(self.cluster, self.say, ask)
        other.change = self.change
        return other

    def _order(self, job: Any, start: Any) -> dict[str, Any]:
        order = super()._order(job, start)
        self.change(order)
        return order


def spread(
    images: Path, out: Path, name: str, change: Callable[[dict[str, Any]], None] = lambda order: None, **more: Any
) -> tuple[Any, list[str]]:
    import torch

    from vtbench.running.worker import Worker

    lines: list[str] = []
    cluster = Cluster(Ray(Worker), "local", 2, "cpu", torch.get_num_threads())
    engine = Altered(cluster, lines.append)
    engine.change = change
    request = Request(
        f"{BAD_ADAPTERS}@{name}", images=images, view="native", tasks=["compression"], batch_size=3, out=out, **more
    )
    try:
        return here.evaluate(request, None, lines.append, engine), lines
    finally:
        for number in list(cluster.actors):
            cluster.stop(number)


def alone(images: Path, out: Path, name: str, **more: Any) -> Any:
    request = Request(
        f"{BAD_ADAPTERS}@{name}", images=images, view="native", tasks=["compression"], batch_size=3, out=out, **more
    )
    return here.evaluate(request)


@pytest.mark.parametrize("name", ["right", "slow"])
def test_rows_tokens_pictures_and_what_could_not_be_read(name: str, images: Path, tmp_path: Path) -> None:
    (images / "04.png").write_bytes(b"no picture")
    save = ["images", "tokens"]
    one, two = alone(images, tmp_path / "one", name, save=save), spread(images, tmp_path / "two", name, save=save)[0]
    a, b = one.runs[0].path, two.runs[0].path
    assert stable(a) == stable(b)
    files = [sorted(str(p.relative_to(x)) for p in x.rglob("*") if p.is_file()) for x in (a, b)]
    assert files[0] == files[1]
    for file in files[0]:
        if not file.startswith(("rows.", "run.", "scores.", "config.", "SHA256SUMS")):
            assert (a / file).read_bytes() == (b / file).read_bytes(), file
    infos = [read_run(x).info for x in (a, b)]
    assert infos[0].status == infos[1].status == "incomplete"
    assert infos[0].model.macs == infos[1].model.macs
    assert infos[1].peak_memory_bytes


def test_a_model_that_raises_leaves_the_rows_that_one_process_leaves(images: Path, tmp_path: Path) -> None:
    one, (two, _) = alone(images, tmp_path / "one", "raises"), spread(images, tmp_path / "two", "raises")
    assert one.failures == two.failures
    assert len(two.failures) == 1
    rows = [
        [{**row, "seconds": 0} for file in (tmp_path / x).glob("*/rows.jsonl") for row in read_lines(file)]
        for x in ("one", "two")
    ]
    assert rows[0] == rows[1]


def test_it_goes_on_where_another_command_was_stopped(images: Path, tmp_path: Path) -> None:
    def stop(model: str, task: str, done: int, total: int) -> None:
        if task == "compression" and done == 6:
            raise KeyboardInterrupt

    request = Request(
        f"{BAD_ADAPTERS}@slow", images=images, view="native", tasks=["compression"], batch_size=3, out=tmp_path / "out"
    )
    with pytest.raises(KeyboardInterrupt):
        here.evaluate(request, stop)
    (path,) = (tmp_path / "out").glob("slow*")
    assert read_run(path).info.status == "interrupted"
    assert len(stable(path)) == 6
    assert spread(images, tmp_path / "out", "slow")[0].runs[0].path == path
    assert stable(path) == stable(alone(images, tmp_path / "alone", "slow").runs[0].path)


def test_more_workers_than_batches_are_said_and_not_started(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    start = Cluster.start
    monkeypatch.setattr(Cluster, "start", lambda *asked: started.append(1) or start(*asked))
    result, lines = spread(images, tmp_path / "out", "right", limit=3)
    assert not result.failures
    assert "3 images in batches of 3 are work for 1 of 2 workers" in lines
    assert len(started) == 1


def _packages(order: dict[str, Any]) -> None:
    order["surroundings"]["packages"] = {**order["surroundings"]["packages"], "torch": "1.0"}


def _at(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(order: dict[str, Any]) -> None:
        inner = order
        for name in path[:-1]:
            inner[name] = dict(inner[name])
            inner = inner[name]
        inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(_at("surroundings", "vtbench", value="0.0"), "the command 0.0: install the same", id="vtbench"),
        pytest.param(_packages, "the command 1.0: install the same", id="torch"),
        pytest.param(_at("request", "images", value="/nowhere"), "no suite, folder or glob '/nowhere'", id="no folder"),
        pytest.param(_at("question", "suite", value="0" * 64), "the images' contents", id="other pictures"),
        pytest.param(_at("question", "model", "weights", value="0"), "the model's weights", id="other weights"),
        pytest.param(_at("question", "code", value="0"), "the code of vtbench", id="other code"),
        pytest.param(_at("question", "device", value="cuda"), "the kind of device", id="other device"),
        pytest.param(_at("question", "rule", value=0), "rule", id="other rule"),
        pytest.param(_at("images", value=11), "it sees 10 images, the command 11", id="other count"),
        pytest.param(_at("unavailable", value=["psnr"]), "psnr can be had there and not", id="a metric more"),
    ],
)
def test_a_worker_that_sees_something_else_is_refused_by_its_name(
    change: Callable[[dict[str, Any]], None], sentence: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(VtbenchError) as refused:
        spread(images, tmp_path / "out", "right", change)
    text = str(refused.value)
    assert sentence in text
    assert f"(process {os.getpid()}) takes no part: " in text
    assert text.startswith("worker ")
    assert not list((tmp_path / "out").glob("*/rows.jsonl"))


def test_a_worker_of_another_device_is_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vtbench.running import setups

    names = iter(("a processor", "another", "a third", "a fourth"))
    facts = setups.provenance.device_facts
    monkeypatch.setattr(setups.provenance, "device_facts", lambda device: {**facts(device), "cpu": next(names)})
    with pytest.raises(VtbenchError, match="the numbers of one run are of one kind of device"):
        spread(images, tmp_path / "out", "right")


# -- score and generate ------------------------------------------------------------------------------------------------


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    # The workers' process is this one, whose end would be waited for in vain.
    monkeypatch.setattr(clusters, "END", 0.1)
    monkeypatch.setattr(clusters, "library", lambda: Ray(Worker, {"CPU": 2.0}))


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


def test_score_refuses_workers_with_other_pictures(
    images: Path, tmp_path: Path, local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts(tmp_path / "candidate", 10)

    def begin(self: Worker, order: dict[str, Any]) -> dict[str, Any]:
        return Worker.begin(self, {**order, "contents": [order["contents"][0], "0" * 64]})

    monkeypatch.setattr(clusters, "library", lambda: Ray(type("Other", (Worker,), {"begin": begin}), {"CPU": 2.0}))
    code, _, err = command("score", images, tmp_path / "candidate", "--metrics", "psnr", "--ray", "auto")
    assert code == 2
    assert f"its pictures in {tmp_path / 'candidate'} are not those that the command sees" in err


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
