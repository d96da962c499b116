"""What is said before any worker begins: of --ray and --workers, the cluster's size, and who can have no workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, command
from threaded_ray import Ray

from vtbench.running import cluster as clusters
from vtbench.running.cluster import connected
from vtbench.running.leftovers import alive, removed_if_killed
from vtbench.running.request import Request
from vtbench.types.errors import VtbenchError


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--ray local --workers 0", "--workers 0: give a number of workers, 1 or more"),
        ("--ray local --workers -3", "--workers -3: give a number of workers, 1 or more"),
        ("--workers 2", "give --ray local, or its address"),
        ("--ray nowhere", "--ray 'nowhere' is no address"),
        ("--ray ray://nowhere", "--ray 'ray://nowhere' is no address"),
        ("--ray host:99999", "--ray 'host:99999' is no address"),
        ("--ray 127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
        ("--ray ray://127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
        ("--ray local --device cuda:1", "Ray gives every worker a GPU of its own; give --device cuda"),
        ("--ray local --batch-size 0", "--batch-size 0 tries batches on this machine"),
        ("--shard 1/2 --batch-size 0", "--batch-size 0 is each shard's own"),
        ("--ray local --task generation", "the task generation is for generators"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(flags: str, sentence: str, images: Path, tmp_path: Path) -> None:
    code, out, err = command("evaluate", "jpeg", "--images", images, "--out", tmp_path / "out", *flags.split())
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_ray_it_says_how_to_install_it(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = command("evaluate", "jpeg", "--images", images, "--out", tmp_path / "out", "--ray", "local")
    assert code == 2
    assert "--ray needs the package ray, which is not installed: pip install '.[ray]'" in err


@pytest.mark.parametrize(
    ("device", "resources", "workers", "sentence"),
    [
        ("cuda", {"GPU": 4.0, "CPU": 64.0}, 8, "--workers 8 wants as many GPUs, and the cluster at auto has 4: give 4"),
        ("cuda", {"CPU": 64.0}, None, "--ray auto wants GPUs, and the cluster at auto has none: give another"),
        ("cpu", {"CPU": 3.0}, 4, "--workers 4 wants as many cores, and the cluster at auto has 3"),
    ],
)
def test_fewer_places_than_workers_are_refused(
    device: str, resources: dict[str, float], workers: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "library", lambda: Ray(object, resources))
    with pytest.raises(VtbenchError) as refused, connected("auto", workers, device):
        pass
    assert sentence in str(refused.value)


def test_by_default_there_is_a_worker_for_each_gpu_or_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(clusters, "library", lambda: Ray(object, {"GPU": 4.0, "CPU": 64.0}))
    with connected("auto", None, "cuda") as cluster:
        assert (cluster.wanted, cluster.threads, cluster.kind) == (4, 16, "cuda")
    with connected("auto", None, None) as cluster:
        assert (cluster.wanted, cluster.threads, cluster.kind) == (64, 1, "cpu")


def test_objects_and_generators_are_not_for_workers(images: Path, tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match="an object of this process, which no worker has"):
        Request([object()], images=images, out=tmp_path, ray="local").checked()
    with pytest.raises(VtbenchError, match="draw with `vtbench generate ngram-kmeans --ray local`"):
        Request(["ngram-kmeans"], out=tmp_path, ray="local").checked()


def test_what_a_killed_command_left_is_removed_and_nothing_of_one_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers, and machines of one cluster, may share the folder: a number says nothing of another one's process."""
    # Long names have no room for Ray's sockets, and `/tmp` is then taken.
    monkeypatch.setattr(clusters, "SOCKETS", 4096)
    monkeypatch.setattr(clusters.tempfile, "gettempdir", lambda: str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = Path(clusters._scratch())
    left = mine.with_name(mine.name.replace(str(os.getpid()), str(ended.pid)))
    left.mkdir()
    monkeypatch.setattr(clusters.socket, "gethostname", lambda: "another")
    theirs = Path(clusters._scratch())
    assert {*tmp_path.iterdir()} == {mine, left, theirs}
    monkeypatch.undo()
    monkeypatch.setattr(clusters, "SOCKETS", 4096)
    monkeypatch.setattr(clusters.tempfile, "gettempdir", lambda: str(tmp_path))
    third = Path(clusters._scratch())
    assert {*tmp_path.iterdir()} == {mine, theirs, third}


@pytest.mark.parametrize(
    ("address", "stated", "wanted"),
    [("auto", None, "1"), ("local", None, "120"), ("auto", "7", "7"), ("local", "7", "7")],
)
def test_who_answers_and_is_no_ray_is_asked_once(
    address: str, stated: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray asks as often as it has seconds to start, 40 seconds each time: for more than an hour of 120."""
    seen: list[str | None] = []

    class Asked(Ray):
        def init(self, **more: Any) -> None:
            seen.append(os.environ.get(clusters.WAIT))
            super().init(**more)

    monkeypatch.setitem(sys.modules, "ray", Asked(object, {"CPU": 2.0}))
    monkeypatch.setenv(clusters.WAIT, stated or "")
    if stated is None:
        monkeypatch.delenv(clusters.WAIT)
    with connected(address, 1, "cpu"):
        pass
    assert seen == [wanted]
    assert os.environ[clusters.WAIT] == (stated or "120")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what Ray has begun is looked for in /proc")
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ray_began_before_it_was_interrupted_ends(
    stop: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray ends what it knows of, and knows of no agents while it starts; of SIGTERM it makes SystemExit."""
    begun: list[tuple[Path, subprocess.Popen[bytes]]] = []

    class Interrupted(Ray):
        def init(self, **more: Any) -> None:
            folder = Path(more["_temp_dir"])
            with (folder / "agent.log").open("wb") as log:
                command = [sys.executable, "-c", "import time; time.sleep(60)"]
                begun.append((folder, subprocess.Popen(command, stdout=log)))
            raise stop

    monkeypatch.setattr(clusters, "library", lambda: Interrupted(object, {"CPU": 2.0}))
    with pytest.raises(KeyboardInterrupt), connected("local", 1, "cpu"):
        pass
    ((folder, agent),) = begun
    assert agent.wait(timeout=20) == -signal.SIGKILL
    assert not folder.exists()
    assert not any(name in os.environ for name in clusters.TOKEN)


HALF_BEGUN = """
import atexit, os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
from threaded_ray import Ray
from vtbench.cli.main import main
from vtbench.running import cluster


class HalfBegun(Ray):
    def init(self, **more):
        # As Ray's own compiled code does, when Python ends while it is half begun.
        atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
        os.kill(os.getpid(), signal.SIGNAL)


cluster.library = lambda: HalfBegun(object, {"CPU": 2.0})
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="there are no such signals")
@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM"])
def test_what_is_stopped_while_ray_starts_ends_as_an_interruption(stop: str, images: Path) -> None:
    words = ["score", str(images), str(images), "--metrics", "psnr", "--ray", "local", "--workers", "1"]
    ran = subprocess.run(
        [sys.executable, "-c", HALF_BEGUN.replace("SIGNAL", stop), str(Path(__file__).parent), *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (130, "")
    assert ran.stderr.splitlines()[-1].startswith("vtbench: stopped; finished batches are kept")


KILLED = """
import os, pathlib, signal, subprocess, sys
from vtbench.running.leftovers import removed_if_killed
folder = pathlib.Path(sys.argv[1])
with removed_if_killed(folder):
    log = (folder / "agent.log").open("w")
    for number in range(2):
        # In a session of its own, and without the command's end of any pipe: as Ray's agents are.
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        agent = subprocess.Popen(sleep, stdout=log, start_new_session=True)
        print(agent.pid, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what a command has begun is looked for in /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_what_a_killed_command_began_ends_with_it(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    words = [sys.executable, "-c", KILLED, str(folder), how]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        agents = [int(command.stdout.readline()) for _ in range(2)]
        assert all(map(alive, agents))
        command.communicate("")
    until = time.monotonic() + 60
    while time.monotonic() < until and (folder.exists() or any(map(alive, agents))):
        time.sleep(0.02)
    assert not folder.exists()
    assert not any(map(alive, agents))


def test_what_ends_by_itself_has_its_folder_and_its_processes(tmp_path: Path) -> None:
    """Who began them has removed them, or left them there on purpose."""
    with removed_if_killed(tmp_path), (tmp_path / "log").open("w") as log:
        agent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=log)
    assert alive(agent.pid)
    assert (tmp_path / "log").exists()
    agent.kill()
    agent.wait()
