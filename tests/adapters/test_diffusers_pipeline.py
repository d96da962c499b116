"""Diffusers pipelines as generators: a tiny random DiT saved to disk; seeds, batches, options, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_diffusers as tiny
import torch

from vtbench.images.prompts import open_prompts
from vtbench.models.load import Loaded, load
from vtbench.running.draw import Order, draw
from vtbench.types.adapter import Prompt
from vtbench.types.errors import VtbenchError

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.dit(tmp_path_factory.mktemp("dit"))


def ready(folder: Path, **options: str) -> Loaded:
    return load("diffusers-pipeline", {"steps": "2", **options}, checkpoint=folder)


def test_images_are_those_of_the_library_called_by_hand(pipeline: Path) -> None:
    ours = ready(pipeline).generator.generate([Prompt("a", label=3)], [11])
    pipe = diffusers.DiTPipeline.from_pretrained(pipeline)
    theirs = pipe(
        class_labels=[3], generator=torch.Generator().manual_seed(11), num_inference_steps=2, output_type="np"
    ).images[0]
    assert torch.equal(ours[0], torch.from_numpy(theirs).permute(2, 0, 1))


def test_a_batch_is_its_images_and_evaluations_are_counted(pipeline: Path) -> None:
    generator = ready(pipeline).generator
    prompts = [Prompt(str(k), label=k) for k in range(3)]
    together = generator.generate(prompts, [5, 6, 7])
    # Two steps; that guidance doubles the batch makes them no more.
    assert generator.cost()["nfe"] == 2
    alone = torch.cat([generator.generate([p], [s]) for p, s in zip(prompts, (5, 6, 7), strict=True)])
    assert torch.equal(together, alone)
    assert not torch.equal(together[0], together[1])


def test_a_folder_of_images(pipeline: Path, tmp_path: Path) -> None:
    drawn = draw(ready(pipeline), Order(open_prompts("classes:2"), 2, batch_size=3), tmp_path / "out")
    assert [r["label"] for r in drawn.rows] == [0, 0, 1, 1]
    assert len({r["sha256"] for r in drawn.rows}) == 4
    record = json.loads((tmp_path / "out" / "generate.json").read_text())
    assert record["model"]["weights"]["status"] == "own"


def test_black_images_are_counted_and_named(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = ready(pipeline)
    inner = loaded.generator.pipe.__class__.__call__

    def blacked(self: object, **call: object) -> object:
        out = inner(self, **call)
        if call["class_labels"] == [1]:
            out.images[0][:] = 0
            out.nsfw_content_detected = [True]
        return out

    monkeypatch.setattr(loaded.generator.pipe.__class__, "__call__", blacked)
    drawn = draw(loaded, Order(open_prompts("classes:2"), batch_size=1), tmp_path / "out")
    assert drawn.black == ["images/class-0001/00000.png"]
    assert drawn.rows[1]["cost"]["safety_blackouts"] == 1
    assert drawn.info["black"] == drawn.black


def test_what_is_refused(pipeline: Path, tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match="takes no height"):
        ready(pipeline, size="16").generator.generate([Prompt("a", label=0)], [0])
    with pytest.raises(VtbenchError, match="has no label"):
        ready(pipeline).generator.generate([Prompt("a", text="a cat")], [0])
    with pytest.raises(VtbenchError, match=r"model_index\.json"):
        ready(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": ["pipeline", "Mine"]}))
    with pytest.raises(VtbenchError, match="own code"):
        ready(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline"}))
    with pytest.raises(VtbenchError, match=r"no \.safetensors"):
        ready(tmp_path)
