"""Ray without its processes: what vtbench uses of it, with workers that are objects of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any


class _Errors:
    class RayError(Exception):
        pass


class Ray:
    """As much of Ray as is used, with actors that are objects of this process and calls that are threads."""

    exceptions = _Errors

    def __init__(self, make: Callable[[], Any], resources: dict[str, float] | None = None) -> None:
        self.make, self.resources, self.connected = make, resources or {}, False

    def remote(self, cls: Any) -> Any:
        return self

    def options(self, **_: Any) -> Any:
        ray = self

        class Start:
            def remote(self) -> Any:
                return _Actor(ray.make())

        return Start()

    def wait(self, references: list[Future[Any]], num_returns: int, timeout: float | None) -> Any:
        done, rest = wait(references, timeout, FIRST_COMPLETED if num_returns == 1 else "ALL_COMPLETED")
        return list(done)[:num_returns] if num_returns == 1 else list(done), list(rest)

    def get(self, reference: Future[Any]) -> Any:
        return reference.result()

    def kill(self, actor: Any) -> None:
        # Its threads would outlive the test: of a process that is killed, none do.
        actor.worker.end()

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, **_: Any) -> None:
        self.connected = True

    def shutdown(self) -> None:
        self.connected = False

    def cluster_resources(self) -> dict[str, float]:
        return self.resources


class _Actor:
    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.worker, name)

        class Call:
            @staticmethod
            def remote(*words: Any) -> Future[Any]:
                answer: Future[Any] = Future()

                def run() -> None:
                    try:
                        answer.set_result(method(*words))
                    except BaseException as bad:
                        answer.set_exception(bad)

                threading.Thread(target=run, daemon=True).start()
                return answer

        return Call


def other_packages(order: dict[str, Any]) -> None:
    order["surroundings"]["packages"] = {**order["surroundings"]["packages"], "torch": "1.0"}


def at(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(order: dict[str, Any]) -> None:
        inner = order
        for name in path[:-1]:
            inner[name] = dict(inner[name])
            inner = inner[name]
        inner[path[-1]] = value

    return change
