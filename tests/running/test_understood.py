"""A tokenizer under the task of understanding: a tower reads originals and reconstructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import cuts

from vtbench.results.record import read_run
from vtbench.running.evaluate import evaluate
from vtbench.running.request import Request
from vtbench.types.errors import VtbenchError

SIDE = 32


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    folder = tmp_path_factory.mktemp("towers") / "clip"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=SIDE, patch_size=8)).save_pretrained(folder)
    side = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=side).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuts(tmp_path_factory.mktemp("pictures"), 6, ((SIDE, SIDE),))


def request(tower: Path | None, pictures: Path, out: Path, models: list[str], **more: object) -> Request:
    spec = None if tower is None else str(tower)
    return Request(models, ["understanding"], pictures, tower=spec, out=out, **more)  # type: ignore[arg-type]


def test_what_the_tower_makes_of_reconstructions(tower: Path, pictures: Path, tmp_path: Path) -> None:
    """Held to transformers on the saved pictures."""
    from transformers import CLIPImageProcessor, CLIPVisionModel

    asked = request(tower, pictures, tmp_path, ["jpeg"], options={"quality": ["5", "95"]}, save=["images"])
    result = evaluate(asked)
    assert not result.failures
    network, prepare = CLIPVisionModel.from_pretrained(tower), CLIPImageProcessor.from_pretrained(tower)

    def pooled(paths: list[Path]) -> np.ndarray:
        pixels = prepare([Image.open(p).convert("RGB") for p in paths], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            return network(pixels).pooler_output.double().numpy()

    whole = pooled(sorted(pictures.glob("*.png")))
    for run in result.runs:
        other = pooled(sorted(run.path.glob("images/*.png")))
        a, b = whole - whole.mean(0), other - whole.mean(0)
        expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        score, bits = run.score("centred-cosine"), run.score("bpp")
        assert score is not None
        assert score.value == pytest.approx(expected.mean(), abs=1e-4)
        assert bits is not None
        assert bits.value, "the axis that codecs and tokenizers share"
        assert run.score("visual-tokens") is None, "no token of the tower is dropped"
        assert run.info.model.as_dict()["tower"]["name"] == "clip"
    low, high = (run.score("bpp").value for run in result.runs)  # type: ignore[union-attr]
    assert low < high


def test_another_tower_is_another_question(tower: Path, pictures: Path, tmp_path: Path) -> None:
    first, second = (
        evaluate(request(tower, pictures, tmp_path, ["png"], options=options)).runs[0]
        for options in ({}, {"pool": "mean"})
    )
    assert first.info.id != second.info.id
    for run in (first, second):
        assert read_run(run.path).score("centred-cosine").value == pytest.approx(1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("tower_given", "tasks", "said"),
    [
        (False, ["understanding"], "give --tower FOLDER"),
        (True, ["reconstruction"], "--tower is the model that reads pictures"),
        (True, ["understanding", "reconstruction"], "--task understanding alone"),
        (True, None, "--tower is the model that reads pictures"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tower: Path, pictures: Path, tmp_path: Path, tower_given: bool, tasks: list[str] | None, said: str
) -> None:
    asked = Request(["png"], tasks, pictures, tower=str(tower) if tower_given else None, out=tmp_path / "out")
    with pytest.raises(VtbenchError, match=said):
        asked.checked()
    assert not (tmp_path / "out").exists()
