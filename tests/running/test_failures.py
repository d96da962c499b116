"""Failures are named and hide nothing: wrong questions, models, images and weights of metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import BAD_ADAPTERS as FILE
from support import evaluate

import vtbench
from vtbench.results.record import read_run
from vtbench.scoring.loading import load_metrics
from vtbench.types.errors import VtbenchError


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", "NaN"),
        ("wrong-size", "shape"),
        ("wrong-type", "float tensor"),
        ("wrong-range", "looks like"),
        ("bytes", "divide by 255"),
        ("raises", "raised RuntimeError"),
        ("alphabet", "alphabet"),
    ],
)
def test_a_failing_model_is_named_and_the_others_go_on(name: str, words: str, images: Path, tmp_path: Path) -> None:
    made = vtbench.evaluate(
        [f"{FILE}@{name}", f"{FILE}@right"], images=images, view="native", tasks=["compression"], out=tmp_path
    )
    assert [r.name for r in made.runs] == ["right"]
    ((_, why),) = made.failures.items()
    assert words in why
    failed = [read_run(p.parent).info for p in tmp_path.glob(f"{name}--*/run.json")]
    assert [f["status"] for f in failed] == ["failed"]
    assert not failed[0]["ranked"]


def test_bad_images_are_named_and_the_rest_scored(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted(images.iterdir())[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "01.png").write_bytes((images / "01.png").read_bytes()[:500])
    (folder / "zz.png").write_text("no image")
    run = evaluate("right", folder, tmp_path / "out").runs[0]
    assert run.info["status"] == "incomplete"
    assert not run.info["ranked"]
    assert "2 of 5 images could not be scored" in run.info["why_not_ranked"]
    bad = {r["item"]: r["why"]["*"] for r in run.rows() if "*" in r["why"]}
    assert set(bad) == {"01.png", "zz.png"}
    assert "01.png" in bad["01.png"]
    assert run.score("bpp")["n"] == 3  # type: ignore[index]
    assert run.score("bpp")["missing"] == 2  # type: ignore[index]


def test_metrics_that_cannot_be_had_are_null_with_a_reason(images: Path, tmp_path: Path) -> None:
    made = vtbench.evaluate(
        f"{FILE}@right", images=images, view="native", tasks=["reconstruction"], limit=2, out=tmp_path
    )
    for score in made.runs[0].scores:
        assert (score["value"] is None) == (score["why"] is not None)


def test_wrong_questions_write_nothing(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for call, words in (
        (lambda: vtbench.evaluate("jpegg", images=images, out=out), "did you mean jpeg"),
        (lambda: vtbench.evaluate("jpeg", images=images, out=out, options={"qualty": "5"}), "did you mean quality"),
        (lambda: vtbench.evaluate("jpeg", images=images, out=out, options={"quality": "best"}), "wanted a int"),
        (lambda: vtbench.evaluate("jpeg", images=tmp_path / "none", out=out), "there is no suite"),
        (lambda: vtbench.evaluate("jpeg", images=images, tasks=["compresion"], out=out), "did you mean compression"),
        (lambda: vtbench.evaluate("jpeg", images=images, view="big", out=out), "is no view"),
        (lambda: vtbench.evaluate("jpeg", images=images, device="tpu", out=out), "give cpu, cuda"),
        (lambda: vtbench.evaluate("jpeg", images=images, limit=0, out=out), "1 or more"),
        (lambda: vtbench.evaluate("jpeg", images=images, checkpoint=FILE, out=out), "no weights to load"),
    ):
        with pytest.raises(VtbenchError, match=words):
            call()
    assert not out.exists() or not list(out.iterdir())


def test_a_model_that_fails_in_mid_run_is_no_wrong_question(images: Path, tmp_path: Path) -> None:
    made = evaluate("alphabet", images, tmp_path)
    ((_, why),) = made.failures.items()
    assert "outside its alphabet" in why


def test_a_wrong_file_of_metric_weights_is_the_reason_of_a_null(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"features.0.weight": torch.zeros(3), "features.0.bias": torch.zeros(3)}, tmp_path / "alexnet.pth")
    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"alexnet={tmp_path / 'alexnet.pth'}")
    metrics = load_metrics(["lpips-alex", "psnr"], "cpu")
    assert list(metrics.ready) == ["psnr"]
    assert "\n" not in metrics.unavailable["lpips-alex"]
