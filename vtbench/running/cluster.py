"""Ray, and nothing of what it is used for: a connection, actors with a device each, and what became of them.

The only file that knows Ray. A cluster of this machine (`local`) is started for the command and ends with it, closed to
others by a token that nobody else knows, without the dashboard and without Ray's usage reports.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vtbench.running.handout import IN_FLIGHT
from vtbench.running.leftovers import END, alive, end_all, removed_if_killed
from vtbench.types import interrupts
from vtbench.types.errors import MissingExtra, VtbenchError
from vtbench.types.foreign import cause

REACH = 5.0
"""Seconds to reach a port."""
SOCKETS = 40
"""Characters of a folder's path, so that those of Ray's sockets below it stay under the system's 107."""
WAIT = "RAY_gcs_server_port_wait_time_s"
"""Ray's: seconds that a cluster that is begun may take, and of any other how often it is asked, 40 seconds each."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # A machine that does much else takes longer than Ray's half minute.
    WAIT: "120",
    # Ray puts workers behind everything else on their machine; here they are what it works for.
    "RAY_worker_niceness": "0",
}
"""Ray's, where the user has not set them: it reports nothing, changes no variable of CUDA, starts no other Python."""
SCRATCH = "vtb-ray-"
"""How folders begin that hold Ray's logs and sockets, before the machine and the command's process."""
TOKEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
"""How a user says who may talk to a cluster; one of this machine has a token of its own unless they do."""


def library() -> Any:
    """The module ray; raises VtbenchError with how to install it."""
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray", "--ray") from None
    return ray


class Cluster:
    """Workers of a cluster, for as long as the command lasts. kind: of their device, "cpu", "cuda" or "mps"."""

    def __init__(self, ray: Any, address: str, workers: int, kind: str, threads: int) -> None:
        self.ray, self.address, self.wanted, self.kind, self.threads = ray, address, workers, kind, threads
        self.actors: dict[int, Any] = {}
        self.processes: dict[int, int] = {}
        """{number: process} of workers on this machine."""
        self.orders = self._numbers = 0

    def start(self, worker: Callable[[], Any]) -> int:
        """Starts a worker, an instance of the class, in a process of its own; returns its number."""
        self._numbers += 1
        options = {
            "num_cpus": 1,
            "num_gpus": 1 if self.kind == "cuda" else 0,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": IN_FLIGHT + 2,
        }
        self.actors[self._numbers] = self.ray.remote(worker).options(**options).remote()
        return self._numbers

    def stop(self, number: int) -> None:
        """Ends a worker at once."""
        actor = self.actors.pop(number, None)
        if actor is not None:
            with contextlib.suppress(Exception):
                self.ray.kill(actor)


@contextlib.contextmanager
def connected(address: str, workers: int | None, device: str | None) -> Iterator[Cluster]:
    """The cluster at an address: `local`, `auto`, `ray://HOST:PORT` or HOST:PORT; workers: None is one a GPU, or one a
    core. Raises VtbenchError if there is none, or if it has not as many devices."""
    kind = _kind(device)
    ray = library()
    if address != "local":
        _check_address(address)
    # Ray says on standard output what became of a worker, where a command's answer goes.
    with contextlib.redirect_stdout(sys.stderr), _ray_at(ray, address, workers):
        resources = ray.cluster_resources()
        number = _fitting(resources, address, workers, kind)
        cores = (os.cpu_count() or 1) if address == "local" else int(resources.get("CPU", 1))
        cluster = Cluster(ray, address, number, kind, _threads(cores, number))
        try:
            yield cluster
        finally:
            _end(cluster)


@contextlib.contextmanager
def _ray_at(ray: Any, address: str, workers: int | None) -> Iterator[None]:
    """Ray, connected; as it was where the caller's process is connected already."""
    if ray.is_initialized():
        yield
        return
    # Whatever interrupts one of these, the others are done: a cluster that is starting ends with the command too.
    with contextlib.ExitStack() as at_the_end:
        at_the_end.enter_context(_terminated_as_interrupted())
        scratch = Path(_scratch()) if address == "local" else None
        if scratch is not None:
            at_the_end.callback(shutil.rmtree, scratch, ignore_errors=True)
            at_the_end.enter_context(removed_if_killed(scratch))
            at_the_end.callback(end_all, scratch)
        if scratch is not None and not any(name in os.environ for name in TOKEN):
            at_the_end.callback(_forget_token)
            os.environ[TOKEN[0]] = _token()
        at_the_end.callback(_leave, ray)
        _init(ray, address, scratch, workers)
        # Ray has put its own handler in the place of ours.
        with _terminated_as_interrupted():
            interrupts.check()
            yield


def _leave(ray: Any) -> None:
    try:
        ray.shutdown()
    except SystemExit as bad:
        # What Ray makes of a SIGTERM.
        raise KeyboardInterrupt from bad
    except Exception:
        # It is not needed any more, whatever has become of it.
        return


def _forget_token() -> None:
    # Ray sets its mode there too, and a second cluster would then want a token of the user's.
    for name in TOKEN:
        os.environ.pop(name, None)


@functools.cache
def _token() -> str:
    """This process's: Ray remembers the first one that it is told."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A scheduler's SIGTERM ends the command as Ctrl-C does; Ray's own handler would print where it was, and abort."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _kind(device: str | None) -> str:
    kind, colon, _ = (device or "cpu").partition(":")
    if colon:
        raise VtbenchError(f"--device {device}: Ray gives every worker a GPU of its own; give --device {kind}")
    return kind


def _check_address(address: str) -> None:
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise VtbenchError(
            f"--ray {address!r} is no address: give local, auto, HOST:PORT of the cluster's head, or ray://HOST:PORT"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
    except OSError as bad:
        raise VtbenchError(
            f"--ray {address}: nothing answers at {host}:{port} ({bad.strerror or bad}): start the cluster with `ray "
            "start --head`, or give its address"
        ) from None


def _scratch() -> str:
    """Where Ray keeps its logs and sockets while the command lasts; what commands that were killed left is removed."""
    base = tempfile.gettempdir()
    mine = f"{SCRATCH}{_processes()}-"
    base = base if len(base) < SOCKETS - len(f"/{mine}1234567-tempfile") else "/tmp"
    for left in Path(base).glob(f"{mine}*-*"):
        process = left.name.removeprefix(mine).partition("-")[0]
        # Another command may be removing it too.
        with contextlib.suppress(OSError):
            if process.isdigit() and not alive(int(process)) and left.stat().st_uid == os.getuid():
                end_all(left)
                shutil.rmtree(left, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}-", dir=base)


def _processes() -> str:
    """Whose processes the numbers of this one's name: containers and machines may share a folder for temporary files,
    and there a process that lives elsewhere is none that has ended."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:4]


def _init(ray: Any, address: str, scratch: Path | None, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if scratch is None:
            with _asked_once():
                ray.init(address=address, **quiet)
            return
        ray.init(
            address="local",
            # Ray's cores are places for workers here: threads are shared out by vtbench.
            num_cpus=max(workers or 0, os.cpu_count() or 1),
            object_store_memory=_store(),
            include_dashboard=False,
            _temp_dir=str(scratch),
            **quiet,
        )
    except (KeyboardInterrupt, VtbenchError):
        raise
    except SystemExit as bad:
        # What Ray makes of a SIGTERM while it starts.
        raise KeyboardInterrupt from bad
    except BaseException as bad:
        # Ray raises whatever its parts raise: ConnectionError, RuntimeError, ValueError, grpc's own.
        advice = (
            "is the machine too busy, its disk full, its memory short?"
            if scratch
            else "start it with `ray start --head`"
        )
        raise VtbenchError(f"--ray {address}: there is no cluster of Ray to use ({cause(bad)}): {advice}") from bad


@contextlib.contextmanager
def _asked_once() -> Iterator[None]:
    """What answers at an address and is no Ray is asked once, unless the user wants it otherwise."""
    stated = os.environ.get(WAIT)
    if stated == SETTINGS[WAIT]:
        os.environ[WAIT] = "1"
    try:
        yield
    finally:
        if stated == SETTINGS[WAIT]:
            os.environ[WAIT] = stated


def _store() -> int:
    """Bytes of shared memory for results on their way: a few batches a worker."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if os.path.isdir("/dev/shm"):
            free = min(free, shutil.disk_usage("/dev/shm").free)
    except (ValueError, OSError, AttributeError):
        free = 1 << 30
    return min(max(free // 8, 80 << 20), 1 << 31)


def _fitting(resources: Mapping[str, float], address: str, workers: int | None, kind: str) -> int:
    """How many workers there will be."""
    places, word = int(resources.get("GPU" if kind == "cuda" else "CPU", 0)), "GPUs" if kind == "cuda" else "cores"
    number = places if workers is None else workers
    where = "this machine" if address == "local" else f"the cluster at {address}"
    if not places:
        raise VtbenchError(f"--ray {address} wants {word}, and {where} has none: give another --device or --ray")
    if number > places:
        raise VtbenchError(f"--workers {number} wants as many {word}, and {where} has {places}: give {places} or fewer")
    return number


def _threads(cores: int, workers: int) -> int:
    """Threads of torch in a worker: the user's choice, or an even share of the cores."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return int(stated) if stated.isdigit() and int(stated) else max(1, cores // workers)


def _end(cluster: Cluster) -> None:
    """Ends all workers, and waits for those of this machine."""
    for number in list(cluster.actors):
        cluster.stop(number)
    until = time.monotonic() + END
    left = set(cluster.processes.values())
    while left and time.monotonic() < until:
        left = {process for process in left if alive(process)}
        time.sleep(0.02)
