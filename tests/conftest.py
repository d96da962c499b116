"""Fixtures that all tests share."""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch
    from forks import Forks
    from stopped import Commands

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

os.environ.setdefault("VTBENCH_OFFLINE", "1")
# A suite that a shell started in the background (nohup, some CI) inherits that Ctrl-C is ignored, and so would every
# command that its tests interrupt.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str:
    if SHARED.is_dir():
        return f"shared data: found beside the checkout ({SHARED.name}/)"
    return "shared data: NOT FOUND beside the checkout: every test marked `shared` is SKIPPED, not passed"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Whatever draws without a seed of its own draws the same in every process, whichever tests came before."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A test's name never quotes bytes: a gzip states its second, and two workers then collect different tests."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; tests that need it say loudly when it is not there."""
    if not SHARED.is_dir():
        pytest.skip("NOT TESTED: the folder ../shared (reference data) is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def seeded_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the network of FID, drawn with seed 0: a file of 95 MB that takes two seconds to write."""
    import torch

    from vtbench.metrics import inception

    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(inception.random_state(0), path)
    return path


@pytest.fixture(scope="session", autouse=True)
def one_fit_a_process() -> Iterator[None]:
    """The built-in generator is fitted while loading, seconds each time; here the search for nearest patches is
    answered from its own earlier answer to the same bytes, so that a process of tests pays once."""
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    from vtbench.adapters.networks.parts import patches

    real = patches.nearest
    answers: dict[bytes, torch.Tensor] = {}

    @functools.wraps(real)
    def nearest(rows: torch.Tensor, book: torch.Tensor, block: int = 16384) -> torch.Tensor:
        if _get_current_dispatch_mode() is not None:
            # Whoever counts operations is answered by them.
            return real(rows, book, block)
        key = blake2b(rows.contiguous().numpy().tobytes() + b"|" + book.contiguous().numpy().tobytes()).digest()
        if key not in answers:
            answers[key] = real(rows, book, block)
        return answers[key].clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "nearest", nearest)
        yield


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    from forks import Forks

    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def commands(tmp_path: Path, forks: Forks) -> Commands:
    """Commands that are stopped, in fresh processes."""
    from stopped import Commands

    return Commands(tmp_path, forks)
