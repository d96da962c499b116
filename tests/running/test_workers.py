"""Workers in this process, without Ray: the same rows, and who may take part."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import BAD_ADAPTERS, cuts, stable
from threaded_ray import Ray, at, other_packages

from vtbench.results.files import read_lines
from vtbench.results.record import read_run
from vtbench.running import evaluate as here
from vtbench.running.cluster import Cluster
from vtbench.running.request import Request
from vtbench.running.spread import Spread
from vtbench.running.worker import Worker
from vtbench.types.errors import VtbenchError

pytestmark = pytest.mark.usefixtures("as_it_was")


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


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(at("surroundings", "vtbench", value="0.0"), "the command 0.0: install the same", id="vtbench"),
        pytest.param(other_packages, "the command 1.0: install the same", id="torch"),
        pytest.param(at("request", "images", value="/nowhere"), "no suite, folder or glob '/nowhere'", id="no folder"),
        pytest.param(at("question", "suite", value="0" * 64), "the images' contents", id="other pictures"),
        pytest.param(at("question", "model", "weights", value="0"), "the model's weights", id="other weights"),
        pytest.param(at("question", "code", value="0"), "the code of vtbench", id="other code"),
        pytest.param(at("question", "device", value="cuda"), "the kind of device", id="other device"),
        pytest.param(at("question", "rule", value=0), "rule", id="other rule"),
        pytest.param(at("images", value=11), "it sees 10 images, the command 11", id="other count"),
        pytest.param(at("unavailable", value=["psnr"]), "psnr can be had there and not", id="a metric more"),
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
