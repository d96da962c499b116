"""What one evaluation does: pictures in place of a model, models of one size, batches, added metrics, the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import BAD_ADAPTERS as FILE
from support import evaluate

import vtbench
from vtbench import registry
from vtbench.proving.pictures import photograph
from vtbench.results.record import read_run
from vtbench.running.rescore import add_metrics
from vtbench.types.errors import VtbenchError


def test_images_that_somebody_has(images: Path, tmp_path: Path) -> None:
    made = vtbench.evaluate(
        f"folder:{images}", images=images, view="native", tasks=["reconstruction"], limit=4, out=tmp_path
    )
    score = made.runs[0].score("psnr")
    assert score is not None
    assert score["value"] is None
    assert score["details"]["n_lossless"] == 4


def test_metrics_added_to_a_run_from_its_images_and_from_its_tokens(images: Path, tmp_path: Path) -> None:
    whole = vtbench.evaluate(
        f"{FILE}@slow", images=images, view="native", tasks=["reconstruction"], out=tmp_path / "w", limit=5
    )
    psnr = {r["item"]: r["values"]["psnr"] for r in whole.rows()}
    for save in ("images", "tokens"):
        run = evaluate("slow", images, tmp_path / save, save=[save], limit=5).runs[0]
        # `bias-r` is no metric of the compression task; the number must be that of a run that had the pictures.
        added = add_metrics(run.path, ["bias-r"] if "psnr" in run.info["metrics"] else ["psnr"])
        assert all(("bias-r" in r["values"]) or ("psnr" in r["values"]) for r in added.rows())
        assert {r["item"]: r["values"]["psnr"] for r in added.rows()} == pytest.approx(psnr)
        assert read_run(run.path).score("bpp")["value"] == run.score("bpp")["value"]  # type: ignore[index]


def test_every_metric_of_every_task_exists() -> None:
    known = set(registry.metrics())
    for name, task in registry.tasks().items():
        assert set(task.metrics) <= known, name


FIXED = """
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Fixed
from vtbench.types.tokens import Codes

CARD = Card(name="fixed", family="fixed", kind="discrete", title="Pixels", sizes=Fixed(64), alphabets=(256,) * 3)


class Whole(Tokenizer):
    def encode(self, images, seeds, budget=None):
        level = (images * 255).round().clamp(0, 255).long()
        return Codes(level.flatten(2).transpose(1, 2), (256,) * 3, tuple(images.shape[2:]))

    def decode(self, tokens, seeds):
        return tokens.indices.transpose(1, 2).reshape(len(tokens), 3, *tokens.size).float() / 255


FAMILY = Family("fixed", "Fixed", (CARD,), Whole)
"""


def test_a_model_of_one_size_is_resized_beside_its_ceiling_or_tiled(images: Path, tmp_path: Path) -> None:
    (tmp_path / "fixed.py").write_text(FIXED)
    model = f"{tmp_path / 'fixed.py'}@fixed"
    more: dict[str, Any] = {"images": images, "view": "96", "tasks": ["reconstruction"], "out": tmp_path / "out"}
    resized = vtbench.evaluate(model, limit=4, **more).runs[0]
    assert resized.info["served"] == {"resized to 64 x 64 and back (bicubic, antialiased)": 4}
    psnr = resized.score("psnr")
    assert psnr is not None
    # Its own loss is the rounding to bytes alone, so the ceiling is nearly what it reaches.
    assert psnr["value"] == pytest.approx(psnr["details"]["resize_only"], abs=0.2)
    assert all("psnr" in row["resize_only"] for row in resized.rows())
    tiled = vtbench.evaluate(model, limit=4, fit="tiles", **more).runs[0]
    assert tiled.path != resized.path
    assert tiled.info["served"] == {"4 tiles of 64 x 64": 4}
    assert tiled.score("psnr")["why"].startswith("lossless")  # type: ignore[index]
    # Four tiles of 64 x 64 x 24 bits over 96 x 96 pixels: padding is paid for, and never counted as pixels.
    assert tiled.score("bpp")["value"] == pytest.approx(4 * 64 * 64 * 24 / 96**2)  # type: ignore[index]
    rate = vtbench.evaluate(model, limit=4, fit="tiles", **{**more, "tasks": ["compression"]}).runs[0]
    # What the image costs is all of its tiles.
    assert rate.score("tokens")["value"] == 4 * 64 * 64  # type: ignore[index]
    assert "tiles" in rate.score("entropy-bpp")["why"]  # type: ignore[index]
    for wrong in ({"fit": "stretch"}, {"fit": "tiles", "save": ["tokens"]}):
        with pytest.raises(VtbenchError, match=r"--fit|tiles"):
            vtbench.evaluate(model, **more, **wrong)


def test_pictures_that_do_not_pair_are_refused_before_anything_is_written(images: Path, tmp_path: Path) -> None:
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    theirs.mkdir()
    for path in images.iterdir():
        (theirs / path.name).write_bytes(path.read_bytes())
    (theirs / "05.png").unlink()
    Image.new("RGB", (10, 10)).save(theirs / "more.png")

    def refused(words: str, **more: Any) -> None:
        with pytest.raises(VtbenchError, match=words) as caught:
            vtbench.evaluate(
                f"folder:{theirs}", images=images, view="native", tasks=["reconstruction"], out=out, **more
            )
        assert caught.value.code == 2
        assert not out.exists()

    refused("1 missing from .*: 05.png; 1 in .* without an original: more.png")
    refused("1 in .* without an original", limit=3)
    (theirs / "more.png").unlink()
    (theirs / "05.png").write_bytes((images / "05.png").read_bytes())
    Image.new("RGB", (10, 12)).save(theirs / "07.png")
    refused(r"07.png \(10x12, wanted 80x48\)")


def test_batch_size_zero_is_the_fastest_that_was_tried(tmp_path: Path, images: Path) -> None:
    made = vtbench.evaluate("dct", tasks=["compression"], images=images, view="64", batch_size=0, limit=3, out=tmp_path)
    info = made.runs[0].info
    rates = info["model"]["images_per_second_by_batch"]
    assert "1" in rates
    assert info["batch_size"] == int(max(rates, key=lambda n: rates[n]))
    speed = dict(made.runs[0].score("images-per-second") or {})
    assert speed["details"]["batch_size"] == info["batch_size"]
    with pytest.raises(VtbenchError, match="0 for the fastest"):
        vtbench.evaluate("dct", images=images, batch_size=-1, out=tmp_path)


def test_the_table_says_each_reason_once(tmp_path: Path) -> None:
    from vtbench.cli.text import run_scores

    for i in range(3):
        Image.fromarray(photograph()[: 20 + i, :30]).save(tmp_path / f"{i}.png")
    (tmp_path / "zz.png").write_text("no image")
    run = vtbench.evaluate(
        f"{FILE}@right", images=tmp_path, view="33", tasks=["reconstruction"], out=tmp_path / "out"
    ).runs[0]
    text = run_scores(run)
    assert text.count("zz.png") == 1
    assert "3 of 4 images are smaller than the view and were enlarged" in text
    assert "3 of 4 images: padded by reflection to 36 x 36 and cropped back" in text


def test_metrics_of_tokens_are_added_from_tokens_though_pictures_were_kept_too(images: Path, tmp_path: Path) -> None:
    """And what has a value keeps it where pictures cannot give it again."""
    more: dict[str, Any] = {"images": images, "view": "native", "limit": 5}
    whole = vtbench.evaluate(f"{FILE}@slow", tasks=["compression"], out=tmp_path / "whole", **more).runs[0]
    both = ["images", "tokens"]
    kept = vtbench.evaluate(f"{FILE}@slow", tasks=["reconstruction"], out=tmp_path / "a", save=both, **more).runs[0]
    added = add_metrics(kept.path, ["codebook-usage", "psnr"])
    usage, wanted = added.score("codebook-usage"), whole.score("codebook-usage")
    assert usage is not None
    assert wanted is not None
    assert wanted.value is not None
    assert usage.value == wanted.value
    assert added.score("psnr") == kept.score("psnr")
    more |= {"tasks": ["compression"], "save": ["images"]}
    pictures = vtbench.evaluate(f"{FILE}@slow", out=tmp_path / "b", **more).runs[0]
    for name in ("tokens.idx", "tokens.bin"):
        (pictures.path / name).unlink()
    again = add_metrics(pictures.path, ["bpp", "codebook-usage", "psnr"])
    for metric in ("bpp", "codebook-usage"):
        score = again.score(metric)
        assert score == pictures.score(metric)
        assert score is not None
        assert score.value is not None
    psnr = again.score("psnr")
    assert psnr is not None
    assert psnr.value is not None
