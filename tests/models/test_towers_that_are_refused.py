"""What makes no sense to an image tower, and folders that hold none: one sentence each, before anything runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from read_towers import CARD, Chosen, Opened, opener, read

from vtbench import registry
from vtbench.models.reduced import point_of
from vtbench.models.tower_files import build, model_files
from vtbench.models.towers import Tower
from vtbench.types.errors import VtbenchError
from vtbench.types.reading import Point
from vtbench.types.reduction import Needs, Reducer, Reduction, TowerView


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return opener(tmp_path_factory.mktemp("towers"))


# -- what makes no sense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "texts", "keep", "sentence"),
    [
        ("hiprune", "dinov2", {"attention": "sdpa", "object_layer": "2"}, 9, "give --option attention=eager"),
        ("hiprune", "dinov2", {}, 9, "hiprune reads layer 8, and dinov2 has 4, counted from 0"),
        ("fastervlm", "siglip", {}, 9, "reads the CLS token, and siglip has none"),
        ("uniform", "dinov2", {}, 37, "--keep 37: a picture is 36 tokens to dinov2"),
        ("uniform", "dinov2", {}, 0, "--keep 0: a picture is 36 tokens"),
        ("fastervlm", "dinov2", {"stage": "vit", "block": "0"}, 9, "give 1 to 3"),
        ("uniform", "dinov2", {"block": "4"}, 9, "--option block=4: give 0 to 3"),
        ("tome", "vit", {"block": "1"}, 9, "has a schedule of its own"),
        ("uniform", "vit", {"stage": "llm"}, 9, "acts at tower or vit"),
        ("divprune", "vit", {"stage": "tower", "block": "2"}, 9, "is for --option stage=vit"),
        ("m3", "vit", {"stage": "vit", "block": "x"}, 9, "option block is 'x'; wanted a int"),
    ],
)
def test_what_makes_no_sense_is_refused(
    opened: Opened, name: str, kind: str, texts: dict[str, str], keep: int, sentence: str
) -> None:
    own = {k: v for k, v in texts.items() if k == "attention"}
    subject = opened(kind, **own)
    with pytest.raises(VtbenchError) as bad:
        subject.check(point_of(registry.reducers().get(name), texts, keep, subject), [])
    assert sentence in str(bad.value)


def test_what_reads_the_question_is_refused_by_a_tower(opened: Opened) -> None:
    class Asking(Chosen):
        needs = Needs(text=True)

    with pytest.raises(VtbenchError, match="reads the question, and dinov2 is an image tower"):
        opened("dinov2").check(Point(Asking(CARD), 9, "tower"), [])


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([1, 2], "gave a list"),
        (Reduction(), "neither kept nor values"),
        (Reduction(kept=torch.tensor([0.0, 1.0])), "no int64 vector"),
        (Reduction(kept=torch.tensor([0, 36])), "positions from 0 to 36"),
        (Reduction(kept=torch.tensor([-1, 3])), "positions from -1 to 3"),
        (Reduction(kept=torch.zeros(0, dtype=torch.int64)), "no token at all"),
        (Reduction(values=torch.zeros(4, 31)), "values of the shape (4, 31)"),
        (Reduction(values=torch.full((4, 32), math.nan)), "not finite"),
        (Reduction(values=torch.zeros(4, 32), sources=torch.tensor([[4, 0]])), "name other rows"),
    ],
)
def test_what_is_no_reduction_is_refused(opened: Opened, answer: Any, sentence: str) -> None:
    class Wrong(Reducer):
        def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
            return answer  # type: ignore[no-any-return]

    with pytest.raises(VtbenchError) as bad:
        read(opened("dinov2"), Point(Wrong(CARD), 9, "tower"))
    assert sentence in str(bad.value)
    assert bad.value.code == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(model_type="resnet", architectures=["ResNetModel"]), "to which no reducer is attached"),
        (lambda c: c.pop("model_type"), "of the kind None"),
        (lambda c: c.update(num_hidden_layers=10**9), "states num_hidden_layers 1000000000"),
        (lambda c: c.update(num_hidden_layers=5), "lacks "),
        (lambda c: c.update(mlp_ratio=10**6), "parameters, and its weights hold"),
        (lambda c: c.update(hidden_size=48), "holds in another shape than its config.json says"),
        (lambda c: c.update(patch_size=[4, 2]), "holds in another shape"),
        (lambda c: c.update(image_size=[24, 20]), "holds in another shape"),
        (lambda c: c.update(num_attention_heads="two"), "config.json"),
    ],
)
def test_folders_that_are_no_tower_are_named(opened: Opened, tmp_path: Path, change: Any, sentence: str) -> None:
    files = opened("dinov2").tower.files
    folder = tmp_path / "changed"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((files.folder / "model.safetensors").read_bytes())
    config = json.loads((files.folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(VtbenchError) as bad:
        Tower(model_files(str(folder)), "cpu", "float32", {})
    assert sentence in str(bad.value)


def test_another_major_of_transformers_is_one_sentence(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    files = opened("vit").tower.files
    monkeypatch.setattr(transformers, "__version__", "4.57.1")
    with pytest.raises(VtbenchError, match=r"transformers 5 \(tried on 5\.\d+\), and 4\.57\.1 is installed"):
        Tower(files, "cpu", "float32", {})


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("no/such-model-of-anybodys", "VTBENCH_OFFLINE forbids the network"),
        ("neither a folder", "neither a folder nor a hub id"),
        ("../somewhere/else/deep", "neither a folder nor a hub id"),
    ],
)
def test_places_without_a_tower(spec: str, sentence: str) -> None:
    with pytest.raises(VtbenchError, match=sentence):
        model_files(spec)


def test_a_parameter_that_is_missing_is_never_drawn(opened: Opened) -> None:
    """transformers would draw it at random, and say so in a warning."""
    from transformers import ViTConfig, ViTForImageClassification

    files = opened("vit").tower.files
    lacking = replace(files)
    tensors = files.tensors()
    tensors.pop(next(name for name in tensors if name.endswith("classifier.bias")))
    object.__setattr__(lacking, "tensors", lambda: tensors)
    with pytest.raises(VtbenchError, match=r"lacks classifier\.bias of ViTForImageClassification"):
        build(lacking, ViTForImageClassification, ViTConfig.from_dict(dict(files.config)), "float32", "eager")
