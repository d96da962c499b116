"""What several tests set up: small pictures, runs of them, and the same runs by another copy of vtbench."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import warm
from PIL import Image

import vtbench
from vtbench.proving.pictures import photograph
from vtbench.results.files import read_lines
from vtbench.running.evaluation import Evaluation

ROOT = Path(__file__).resolve().parents[1]
BAD_ADAPTERS = ROOT / "tests" / "bad_adapters.py"
"""Models that are right, slow, or wrong in one way each: `BAD_ADAPTERS@name`."""
CODE = ("vtbench", "adapters", "tasks", "leaderboard")
"""The checkout's folders that are the package."""


def cuts(folder: Path, n: int = 22, sizes: tuple[tuple[int, int], ...] = ((64, 64), (48, 80), (67, 61))) -> Path:
    """`n` small cuts of a photograph as `00.png`, `01.png`, …, of these (height, width) in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = photograph()
    for i in range(n):
        height, width = sizes[i % len(sizes)]
        top, left = 61 * i % (512 - height), 97 * i % (512 - width)
        picture = np.ascontiguousarray(whole[top : top + height, left : left + width])
        Image.fromarray(picture).save(folder / f"{i:02d}.png")
    return folder


def noise(folder: Path, n: int = 2, side: int = 32) -> Path:
    """`n` pictures of noise as `0.png`, `1.png`, …."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def evaluate(name: str, images: Path, out: Path, **more: Any) -> Evaluation:
    """A model of bad_adapters.py on the task compression, at the images' own sizes."""
    return vtbench.evaluate(
        f"{BAD_ADAPTERS}@{name}", images=images, view="native", tasks=["compression"], out=out, **more
    )


def stable(path: Path) -> list[dict[str, Any]]:
    """A run's rows without their timings."""
    rows = list(read_lines(path / "rows.jsonl"))
    for row in rows:
        row.pop("seconds")
        if "cost" in row:
            row["cost"] = {name: value for name, value in row["cost"].items() if not name.startswith("seconds")}
    return rows


def copy_of_vtbench(folder: Path) -> Path:
    """The package as it stands in this checkout, copied to `folder`, for tests that edit it. Its release.json states
    the copy as the release."""
    for name in CODE:
        # Links inside vtbench/ are left out: the folders that they lead to are copied beside it, and found there.
        shutil.copytree(
            ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    python("from vtbench.results import provenance; provenance.write_release()", checkout=folder)
    return folder


def python(code: str, *words: object, checkout: Path = ROOT, **environment: str) -> str:
    """What `code` prints in a process of its own that imports vtbench from `checkout`."""
    return run([sys.executable, "-c", code, *map(str, words)], checkout=checkout, environment=environment)


def command(*words: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `vtbench WORDS`, without a new process."""
    spec = importlib.util.spec_from_file_location("record", ROOT / "tests" / "data" / "cli" / "record.py")
    assert spec is not None
    assert spec.loader is not None
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    code, out, err = record.answer([str(word) for word in words])
    assert "Traceback" not in out + err
    return code, out, err


def parsed(*words: str) -> dict[str, Any]:
    """What the command line makes of `vtbench WORDS`, by the options' names; nothing is done. Raises click's
    exceptions for words that no verb takes."""
    import click
    import typer

    from vtbench.cli import app

    inner: Any = typer.main.get_command(app)
    context, rest = click.Context(inner, info_name="vtbench"), list(words)
    while hasattr(inner, "commands"):
        # As cli.apps.ListedByDefault has it: the first verb of these groups needs no name.
        if (not rest or rest[0] not in inner.commands) and "list" in inner.commands:
            rest = ["list", *rest]
        word, *rest = rest
        inner = inner.commands[word]
    with inner.make_context(words[0], rest, parent=context) as made:
        return dict(made.params)


def run(command: list[str], *, checkout: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    more = {"PYTHONPATH": str(checkout), "VTBENCH_OFFLINE": "1", **(environment or {})}
    ran = warm.ran(command, checkout, {**os.environ, **more})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def changed_fixtures(folder: Path, copies: Path) -> Callable[..., Path]:
    """Makes copies of the parity fixtures in `folder`, their facts and arrays changed by two functions."""

    def make(
        name: str,
        facts: Callable[[dict[str, Any]], object] = lambda _: None,
        arrays: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> Path:
        path = copies / f"{name}.json"
        read = json.loads((folder / f"{name}.json").read_text())
        facts(read)
        path.write_text(json.dumps(read))
        with np.load(folder / f"{name}.npz") as archive:
            table = {key: archive[key].copy() for key in archive.files}
        arrays(table)
        np.savez(path.with_suffix(".npz"), **table)
        return path

    return make


def not_copied(fixtures: Iterable[Path], folder: Path) -> list[Path]:
    """Those of the parity fixtures that do not lie in `folder` as well, with the same bytes in both of their files."""

    def same(path: Path) -> bool:
        other = folder / path.name
        return other.exists() and path.read_bytes() == other.read_bytes()

    return [path for path in fixtures if not (same(path) and same(path.with_suffix(".npz")))]
