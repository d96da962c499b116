"""Two real workers of Ray: the run of one process, of three shards merged and of workers that are killed, all the same.

One cluster of this machine for the whole file. What takes no Ray is in test_handout.py and test_workers.py.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_features
from PIL import Image
from support import BAD_ADAPTERS, ROOT, cuts, stable

from vtbench.images.prompts import open_prompts
from vtbench.models.load import load
from vtbench.results.files import read_lines
from vtbench.results.record import read_run
from vtbench.running import evaluate as here
from vtbench.running import folders, spread_folders
from vtbench.running.cluster import Cluster, connected
from vtbench.running.draw import Order, draw
from vtbench.running.merge import merge
from vtbench.running.request import Request
from vtbench.running.spread import Spread
from vtbench.running.spread_drawing import Asked, SpreadDrawer
from vtbench.types.errors import VtbenchError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="NOT TESTED: ray is not installed: pip install '.[ray]'"
)
IMAGES, BATCH = 42, 4
"""Ten whole batches and one of two images."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        # Workers are processes below Ray's, which have these from the beginning.
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("SLOW", "0.6")
        patch.setenv("VTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        with connected("local", 2, "cpu") as cluster:
            patch.delenv("SLOW")
            yield cluster
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ray")
    return {
        "models": f"{BAD_ADAPTERS}@slow",
        "images": str(cuts(folder / "images", IMAGES)),
        "view": "native",
        "tasks": [tiny_features.task(folder / "code", tag="spread")],
        "batch_size": BATCH,
        "save": ["tokens", "features"],
    }


@pytest.fixture(scope="module")
def whole(ask: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process says."""
    return said(here.evaluate(Request(**ask, out=tmp_path_factory.mktemp("whole"))).runs[0].path)


def said(path: Path) -> dict[str, Any]:
    """Everything that a run says, its times and where it was made aside."""
    run = read_run(path)
    names = ("task", "metric", "value", "low", "high", "n", "missing", "why")
    files = [*(path / "features").iterdir(), *(path / "samples").iterdir(), *path.glob("tokens.*")]
    return {
        "rows": stable(path),
        "scores": [{n: s[n] for n in names} for s in run.scores if s.metric in run.info.metrics],
        "record": [run.info.id, run.info.n, run.info.status, run.info.model.macs, run.info.batch_size],
        **{str(file.relative_to(path)): file.read_bytes() for file in files},
    }


def spread(cluster: Cluster, ask: dict[str, Any], out: Path, progress: Any = None) -> tuple[Any, list[str]]:
    lines: list[str] = []
    return here.evaluate(Request(**ask, out=out), progress, lines.append, Spread(cluster, lines.append)), lines


def test_one_process_three_shards_and_two_workers_say_the_same(
    cluster: Cluster, ask: dict[str, Any], whole: dict[str, Any], tmp_path: Path
) -> None:
    for part in (1, 2, 3):
        here.evaluate(Request(**ask, out=tmp_path / "shards", shard=(part, 3)))
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    assert said(merged) == whole
    result, _ = spread(cluster, ask, tmp_path / "ray")
    assert not result.failures
    assert said(result.runs[0].path) == whole
    assert len(cluster.processes) == 2
    assert whole["record"][1] == IMAGES
    assert len(whole["scores"]) == 5


def test_a_worker_that_is_killed_in_mid_run_changes_nothing_and_is_named(
    cluster: Cluster, ask: dict[str, Any], whole: dict[str, Any], tmp_path: Path
) -> None:
    """Two batches are kept, one of each worker; the next ones take so long that this process is never behind."""
    killed: list[int] = []

    def kill(model: str, task: str, done: int, total: int) -> None:
        if task == "spread" and done == 2 * BATCH and not killed:
            number = min(cluster.actors)
            killed.append(cluster.processes[number])
            os.kill(killed[0], signal.SIGKILL)

    result, lines = spread(cluster, ask, tmp_path, kill)
    assert not result.failures
    run = result.runs[0]
    assert said(run.path) == whole
    assert killed
    gone = [line for line in lines if f"(process {killed[0]}) is gone" in line]
    assert len(gone) == 1, lines
    assert "goes to others" in gone[0]
    assert gone[0] in run.info.notes


class Killer:
    """Kills a worker once, when the first batch is kept; those after it take so long that nothing is behind."""

    def __init__(self, cluster: Cluster, first: int) -> None:
        self.cluster, self.first, self.killed, self.lines = cluster, first, list[int](), list[str]()

    def __call__(self, done: int, total: int) -> None:
        if done == self.first and not self.killed:
            self.killed.append(self.cluster.processes[min(self.cluster.actors)])
            os.kill(self.killed[0], signal.SIGKILL)

    def named(self) -> list[str]:
        return [line for line in self.lines if self.killed and f"(process {self.killed[0]}) is gone" in line]


SLOW_METRIC = """
import os, time
from vtbench import ImageMetric, MetricCard, Value


class Mean(ImageMetric):
    card = MetricCard("slow-mean", "Mean", 1, "", "lower", "test")

    def measure(self, batch):
        time.sleep(float(os.environ.get("SLOW", "0")))
        return [Value(float(image.float().mean())) for image in batch.candidate]


METRICS = (Mean,)
"""


def test_score_by_workers_of_which_one_is_killed(cluster: Cluster, ask: dict[str, Any], tmp_path: Path) -> None:
    originals, candidate = Path(ask["images"]), cuts(tmp_path / "candidate", IMAGES)
    for path in sorted(candidate.iterdir())[::3]:
        Image.open(path).quantize(16).convert("RGB").save(path)
    (tmp_path / "slow_mean.py").write_text(SLOW_METRIC)
    of_sets = Path(ask["tasks"][0].partition("@")[0]).with_name("metrics_of_spread.py")
    specs = ["psnr", f"{tmp_path / 'slow_mean.py'}@slow-mean", f"{of_sets}@spread-fid"]
    alone = folders.score(originals, [candidate], specs)
    kill = Killer(cluster, folders.BATCH)
    through = spread_folders.Through(cluster, specs, originals, [candidate], None, kill.lines.append)
    spread_out = folders.score(originals, [candidate], specs, progress=kill, through=through)
    assert spread_out.as_dict() == alone.as_dict()
    assert len(alone.candidates[0].rows) == IMAGES
    assert len(kill.named()) == 1, kill.lines


def test_score_refuses_a_worker_with_another_version_of_a_metrics_file(
    cluster: Cluster, ask: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine, whose folder of the same name holds another file."""
    for name, more in (("here", ""), ("there", "# better\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mean.py").write_text(SLOW_METRIC.replace("slow-mean", "versioned-mean") + more)
    monkeypatch.chdir(tmp_path / "here")
    order_of, there = spread_folders.order_of, {"folder": str(tmp_path / "there")}
    monkeypatch.setattr(spread_folders, "order_of", lambda threads: {**order_of(threads), **there})
    originals, specs = Path(ask["images"]), ["mean.py@versioned-mean"]
    through = spread_folders.Through(cluster, specs, originals, [originals], None, lambda _: None)
    with pytest.raises(VtbenchError, match=r"takes no part: .*the code of vtbench, of the model or of a metric"):
        folders.score(originals, [originals], specs, through=through)


SLOW_GENERATOR = """
import os, time
import torch
from vtbench import Card, Family, Generator, Multiple


class Seeds(Generator):
    def generate(self, prompts, seeds):
        time.sleep(float(os.environ.get("SLOW", "0")))
        noise = [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(noise) * (1 + torch.tensor([p.label for p in prompts])[:, None, None, None]) / 2


CARD = Card("slow-seeds", "slow-seeds", "generator", "Seeds", sizes=Multiple(), conditioning="class")
FAMILY = Family("slow-seeds", "Seeds", (CARD,), Seeds)
"""


def test_generate_by_workers_of_which_one_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "slow_seeds.py").write_text(SLOW_GENERATOR)
    spec = f"{tmp_path / 'slow_seeds.py'}@slow-seeds"
    loaded = load(spec, {}, generator=True)
    order = Order(open_prompts("classes:0-1"), IMAGES // 2, batch_size=BATCH, dtype=loaded.dtype)

    def drawn(name: str, *more: Any) -> list[Any]:
        path = draw(loaded, order, tmp_path / name, *more).path
        lines = [{**row, "seconds": 0, "warm_up": 0} for row in read_lines(path / "samples.jsonl")]
        return [lines, {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*.png")}]

    kill = Killer(cluster, BATCH)
    drawer = SpreadDrawer(cluster, Asked(spec, {}, "classes:0-1"), kill.lines.append)
    alone = drawn("alone")
    assert drawn("ray", kill, drawer) == alone
    assert [len(part) for part in alone] == [IMAGES, IMAGES]
    assert len(kill.named()) == 1, kill.lines


def test_an_interrupted_command_leaves_no_process_and_the_next_one_goes_on(
    ask: dict[str, Any], whole: dict[str, Any], tmp_path: Path
) -> None:
    """Ctrl-C reaches every process of the terminal; a scheduler's SIGTERM, which takes the same way, only the first."""
    words = ["evaluate", ask["models"], "--images", ask["images"], "--view", "native", "--task", ask["tasks"][0]]
    words += ["--save", "tokens,features", "--out", str(tmp_path / "out"), "--ray", "local", "--workers", "1"]
    shared_memory = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    environment = {**os.environ, "SLOW": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "vtbench", *words],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A suite that runs behind a shell inherits that Ctrl-C is ignored.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while process.poll() is None and not any(f.stat().st_size for f in tmp_path.glob("out/*/rows.jsonl")):
            time.sleep(0.05)
        begun = below(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, ""), err
    assert "stopped; finished batches are kept, run the same command again to go on" in err
    # Ray's three, and a worker: they were there, and are gone when the command is.
    assert len(begun) > 2
    until = time.monotonic() + 10
    while time.monotonic() < until and any(map(alive, begun)):
        time.sleep(0.05)
    assert [p for p in begun if alive(p)] == []
    assert not os.path.isdir("/dev/shm") or set(os.listdir("/dev/shm")) <= shared_memory
    (path,) = (tmp_path / "out").glob("slow*")
    assert read_run(path).info.status == "interrupted"
    assert 0 < len(stable(path)) < IMAGES
    assert said(here.evaluate(Request(**ask, out=tmp_path / "out")).runs[0].path) == whole


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def below(process: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and alive(int(name)):
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    out = list(children.get(process, []))
    for child in out:
        out.extend(children.get(child, []))
    return out
