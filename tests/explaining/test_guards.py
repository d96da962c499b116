"""What explain shares with score and evaluate: changed originals, metrics that raise, images that cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from vtbench import evaluate
from vtbench.explaining.explain import explain
from vtbench.explaining.runs import explain_runs
from vtbench.metrics import psnr
from vtbench.running.rescore import add_metrics
from vtbench.types.errors import VtbenchError


@pytest.fixture
def originals(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the four photographs, to be changed."""
    return Path(shutil.copytree(pair[0], tmp_path / "originals"))


def evaluated(images: Path, out: Path, **options: object) -> Path:
    """A run of JPEG at 64 px that kept its pictures."""
    question = {"tasks": ["reconstruction"], "images": images, "view": "64", "save": ["images"], **options}
    return evaluate("jpeg", out=out, **question).runs[0].path


def test_a_run_whose_originals_changed_is_refused(originals: Path, tmp_path: Path) -> None:
    """As `score RUN` refuses it; with the picture as it was, both are explained again."""
    first = evaluated(originals, tmp_path / "a")
    second = evaluated(originals, tmp_path / "b", protocol="magvit2")
    kept = (originals / "0.png").read_bytes()
    before = explain(str(first), {"psnr": 30}).claims[0].value
    Image.fromarray(255 - np.asarray(Image.open(originals / "0.png"))).save(originals / "0.png")
    for ask in (
        lambda: add_metrics(first, ["mse"]),
        lambda: explain(str(first), {"psnr": 30}),
        lambda: explain(str(first), {"psnr": 30}, images=str(originals)),
        lambda: explain_runs(first, second, ["psnr"]),
    ):
        with pytest.raises(VtbenchError, match="no longer what"):
            ask()
    (originals / "0.png").write_bytes(kept)
    assert explain(str(first), {"psnr": 30}).claims[0].value == before


def test_two_runs_of_one_view_are_explained_by_their_records(originals: Path, tmp_path: Path) -> None:
    """Nothing is scored again, so nobody needs the originals."""
    run = evaluated(originals, tmp_path / "a")
    shutil.rmtree(originals)
    assert explain_runs(run, run, ["psnr"]).claims[0].moves[0].difference == 0


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> str:
    """PSNR raises on one image; returns the name of the image."""
    measure = psnr.PSNR.measure

    def spoiled(self, batch):
        if any(item.id == "2.png" for item in batch.reference.items):
            raise ValueError("a shape that nobody expected")
        return measure(self, batch)

    monkeypatch.setattr(psnr.PSNR, "measure", spoiled)
    return "2.png"


def test_a_metric_that_raises_is_named_with_its_image(
    pair: tuple[Path, Path], tmp_path: Path, raising: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = rf"the metric psnr raised ValueError on {raising}: a shape that nobody expected"
    with pytest.raises(VtbenchError, match=sentence) as caught:
        explain(f"folder:{pair[1]}", {"psnr": 20}, images=str(pair[0]))
    assert caught.value.code == 1
    monkeypatch.undo()
    first, second = (evaluated(pair[0], tmp_path / p, protocol=p) for p in ("vtbench", "magvit2"))
    measure = psnr.PSNR.measure
    monkeypatch.setattr(psnr.PSNR, "measure", lambda self, batch: 1 / 0 if len(batch) else measure(self, batch))
    with pytest.raises(VtbenchError, match=r"the metric psnr raised ZeroDivisionError on 0\.png"):
        explain_runs(first, second, ["psnr"])


@pytest.mark.parametrize("side", [0, 1])
def test_an_image_that_cannot_be_read_is_named_and_left_out(pair: tuple[Path, Path], tmp_path: Path, side: int) -> None:
    """On either side; the other three have the number that they have alone."""
    folders = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in pair]
    (folders[side] / "1.png").write_bytes(b"no picture")
    answer = explain(f"folder:{folders[1]}", {"psnr": 20}, images=str(folders[0]))
    assert any(note.startswith("1.png was left out: ") and "1.png" in note[20:] for note in answer.notes)
    assert answer.n == 3
    assert answer.claims[0].n == 3
    names = ("0.png", "2.png", "3.png")
    pictures = [[np.asarray(Image.open(folder / name)) for name in names] for folder in pair]
    alone = np.mean([peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(*pictures, strict=True)])
    assert answer.claims[0].value == pytest.approx(alone, abs=1e-9)


def test_a_model_is_explained_on_the_images_that_can_be_read(originals: Path) -> None:
    (originals / "3.png").write_bytes(b"no picture")
    answer = explain("jpeg", {"psnr": 20}, images=str(originals))
    assert any(note.startswith("3.png was left out: ") for note in answer.notes)
    assert answer.claims[0].n == 3
