"""GenEval's detector part: mmdet's steps by arithmetic, a tiny random Mask2Former from disk, colours by a stand-in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from vtbench.cli import app
from vtbench.tasks.geneval.colours import Colours, crop
from vtbench.tasks.geneval.detect import detections, pictures
from vtbench.tasks.geneval.detector import Detector, Instance, instances
from vtbench.tasks.geneval.verdicts import Detection, verdict
from vtbench.tasks.geneval.vocabulary import COCO, COLORS
from vtbench.types.errors import VtbenchError

CLAUSE = {"class": "cat", "count": 1, "color": "red"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mask2Former of a few thousand random weights, as transformers saves it."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=32,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=swin,
        **dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 32),
        **dict.fromkeys(("encoder_feedforward_dim", "dim_feedforward"), 16),
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=7,
        num_labels=80,
    )
    folder = tmp_path_factory.mktemp("mask2former")
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder, safe_serialization=True)
    Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)
    return folder


def test_mmdets_steps_by_arithmetic() -> None:
    classes = torch.full((2, 80), 0.001)
    classes[0, 15], classes[1, 16] = 0.9, 0.5  # cat, dog
    masks = torch.full((2, 6, 8), -5.0)
    masks[0, 1:3, 2:5] = 2.0
    masks[1, 5, 7] = 1.0
    seen = instances(classes, masks)
    assert [i.detection.cls for i in seen[:2]] == ["cat", "dog"]
    # A mask of equal logits has their sigmoid as mean.
    assert seen[0].detection.score == pytest.approx(0.9 / (1 + np.exp(-2)), rel=1e-5)
    assert seen[0].detection.box == (2, 1, 5, 3)
    assert seen[1].detection.box == (7, 5, 8, 6)
    assert len(seen) == 100
    empty = instances(classes, torch.full((2, 4, 4), -1.0))[0].detection
    assert (empty.box, empty.score) == ((0, 0, 0, 0), 0)


def test_a_crop_is_the_object_on_grey() -> None:
    rgb = np.full((4, 6, 3), 200, np.uint8)
    mask = np.zeros((4, 6), bool)
    mask[1, 2:4] = mask[2, 2] = True
    pixels = np.asarray(crop(rgb, Instance(Detection("cat", (2, 1, 4, 3), 0.9), mask)))
    assert pixels.tolist() == [[[200] * 3, [200] * 3], [[200] * 3, [0x99] * 3]]


class _Clip:
    """Features that name a colour: of a text the colour in it, of an image its greatest channel."""

    def encode_text(self, texts: Any) -> torch.Tensor:
        hot = [[float(c in t) for c in COLORS] for t in texts]
        return torch.tensor(hot) + 0.01

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        places = [COLORS.index(c) for c in ("red", "green", "blue")]
        out = torch.zeros(len(images), 10)
        out[torch.arange(len(images)), torch.tensor(places)[images.argmax(dim=1)]] = 1.0
        return out


def _colours(asked: list[str]) -> Colours:
    colours = object.__new__(Colours)

    class Texts(list[str]):
        def to(self, device: str) -> Texts:
            return self

    def tokens(texts: list[str]) -> Texts:
        asked.extend(texts)
        return Texts(texts)

    colours.network, colours.texts, colours.device, colours._heads = _Clip(), tokens, "cpu", {}
    colours.prepare = lambda image: torch.from_numpy(np.asarray(image).astype(np.float32)).mean(dim=(0, 1))
    return colours


def test_colours_are_asked_of_the_objects_that_count() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[:, :4, 0] = rgb[:, 4:, 2] = 255
    left, right = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    left[:, :4] = right[:, 4:] = True

    class Fixed:
        def detect(self, rgb: Any) -> list[Instance]:
            return [
                Instance(Detection("cat", (0, 0, 4, 8), 0.9), left),
                Instance(Detection("cat", (4, 0, 8, 8), 0.8), right),
                Instance(Detection("dog", (0, 0, 4, 8), 0.7), left),
            ]

    asked: list[str] = []
    colours = _colours(asked)
    metadata = {"tag": "colors", "include": [CLAUSE], "prompt": "a photo of a red cat"}
    seen = detections(rgb, metadata, Fixed(), lambda: colours)  # type: ignore[arg-type]
    assert [d.color for d in seen] == ["red", None, None]
    assert verdict(seen, metadata).correct
    two = {"tag": "colors", "include": [{**CLAUSE, "count": 2}]}
    seen = detections(rgb, two, Fixed(), lambda: colours)  # type: ignore[arg-type]
    assert [d.color for d in seen] == ["red", "blue", None]
    assert asked[:3] == ["a photo of a red cat", "a photo of a red-colored cat", "a photo of a red object"]
    # A set that asks for no colour needs no CLIP.
    detections(rgb, {"tag": "single_object", "include": []}, Fixed(), lambda: pytest.fail("asked"))  # type: ignore[arg-type]


def _folder(root: Path) -> Path:
    for k in range(2):
        place = root / f"{k:05d}" / "samples"
        place.mkdir(parents=True)
        meta = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": f"a photo of {k}"}
        (place.parent / "metadata.jsonl").write_text(json.dumps(meta))
        for n in range(2):
            pixels = np.random.default_rng(10 * k + n).integers(0, 255, (40, 56, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{n:04d}.png")
    return root


def test_a_tiny_detector_from_disk(tiny: Path, tmp_path: Path) -> None:
    images, out = _folder(tmp_path / "images"), tmp_path / "cases.jsonl"
    done = CliRunner().invoke(app, ["geneval", "detect", str(images), "--out", str(out), "--detector", str(tiny)])
    assert done.exit_code == 0, done.output
    assert "geneval-hf" in done.output
    cases = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Path(c["id"]).parts[-3:] for c in cases] == [
        (f"{k:05d}", "samples", f"{n:04d}.png") for k in (0, 1) for n in (0, 1)
    ]
    for case in cases:
        assert len(case["detections"]) == 100
        scores = [d["score"] for d in case["detections"]]
        assert scores == sorted(scores, reverse=True)
        assert all(d["cls"] in COCO for d in case["detections"])
        assert all(0 <= d["box"][0] <= d["box"][2] <= 56 and d["box"][3] <= 40 for d in case["detections"])
    kept = json.loads((tmp_path / "cases.jsonl.record.json").read_text())
    assert kept["name"] == "geneval-hf"
    assert kept["detector"]["source"] == str(tiny)
    assert len(kept["detector"]["sha256"]) == 64
    assert kept["thresholds"]["counting"] == 0.9
    assert kept["colours"] is None
    again = tmp_path / "again.jsonl"
    CliRunner().invoke(app, ["geneval", "detect", str(images), "--out", str(again), "--detector", str(tiny)])
    assert again.read_bytes() == out.read_bytes()


def test_what_the_detector_refuses(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match="cannot be loaded"):
        Detector(str(tmp_path))
    config = json.loads((tiny / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(
        json.dumps({**config, "num_labels": 3, "id2label": {str(k): str(k) for k in range(3)}})
    )
    with pytest.raises(VtbenchError, match="mask2former with 3 classes"):
        Detector(str(other))
    for folder, match in ((tmp_path / "none", "is no folder"), (other, "neither samples.jsonl")):
        with pytest.raises(VtbenchError, match=match):
            pictures(folder)
    place = tmp_path / "drawn"
    place.mkdir()
    line = {"file": "images/a/0.png", "metadata": {"tag": "colors", "include": [CLAUSE]}}
    (place / "samples.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(VtbenchError, match="is missing"):
        pictures(place)
    (place / "samples.jsonl").write_text(json.dumps({"file": "x.png"}) + "\n")
    with pytest.raises(VtbenchError, match="without GenEval's metadata"):
        pictures(place)


def test_a_damaged_picture_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    images, out = _folder(tmp_path / "images"), tmp_path / "cases.jsonl"
    target = images / "00001" / "samples" / "0001.png"

    target.write_bytes(b"torn")
    done = CliRunner().invoke(app, ["geneval", "detect", str(images), "--out", str(out), "--detector", str(tiny)])
    assert isinstance(done.exception, VtbenchError | SystemExit)
    assert done.exit_code != 0
    assert not list(tmp_path.glob("cases*"))
