"""`explain` reads saved pictures as `evaluate` does: beside the thread that measures, and says the same of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vtbench
from vtbench.explaining.explain import explain
from vtbench.images.suite import Suite


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Six originals and their pictures, of which one is damaged."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    for seed, name in enumerate(("real", "made")):
        (tmp_path / name).mkdir()
        for k, rgb in enumerate(np.random.default_rng(seed).integers(0, 256, (6, 24, 24, 3), np.uint8)):
            Image.fromarray(rgb).save(tmp_path / name / f"{k}.png")
    (tmp_path / "made" / "1.png").write_bytes(b"no picture")
    return tmp_path / "real", tmp_path / "made"


def explained(folders: tuple[Path, Path]) -> Any:
    return explain(f"folder:{folders[1]}", {"psnr": 9.0}, images=str(folders[0]))


def test_no_picture_is_decoded_by_the_thread_that_measures(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = list[str]()
    picture = Suite.picture

    def noted(self: Suite, *args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return picture(self, *args)

    monkeypatch.setattr(Suite, "picture", noted)
    explained(folders)
    assert len(threads) >= 12
    assert threading.main_thread().name not in threads


def test_what_is_said_of_pictures_is_what_evaluate_says(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = explained(folders)
    more: dict[str, Any] = {"images": str(folders[0]), "view": "native", "tasks": ["reconstruction"]}
    (run,) = vtbench.evaluate(f"folder:{folders[1]}", **more, out=tmp_path / "out").runs
    (claim,) = found.claims
    assert claim.value == run.score("psnr")["value"]
    assert claim.n == 5
    (failed,) = (row.why["*"] for row in run.rows() if "*" in row.why)
    assert f"1.png was left out: {failed}" in found.notes
