"""One way from a spec to a system: every kind of spec, what identifies it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench.models.build import load_random
from vtbench.models.load import load
from vtbench.models.pictures import SavedPictures
from vtbench.models.system import GeneratorSystem, ModelSystem
from vtbench.types.cards import Card, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens

ADAPTERS = Path(__file__).parents[1] / "bad_adapters.py"


class Scaled(torch.nn.Module):
    """What somebody trains: half-precision latents, no card."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.multiply = torch.nn.Conv2d(3, 3, 1)

    def encode(self, images: torch.Tensor) -> Latents:
        self.multiply(images)
        return Latents((images * self.scale).detach().half(), (int(images.shape[2]), int(images.shape[3])))

    def decode(self, tokens: Any) -> torch.Tensor:
        return tokens.values.float() / self.scale


def grey(side: int = 32) -> torch.Tensor:
    return torch.full((1, 3, side, side), 0.5)


@pytest.mark.parametrize(
    ("spec", "options", "name", "kind"),
    [
        ("jpeg", {"quality": "50"}, "jpeg", "codec"),
        ("dct", {}, "dct", "discrete"),
        (f"{ADAPTERS}@slow", {}, "slow", "discrete"),
        ("tokenbridge:pca", {"bits": "4"}, "tokenbridge:pca", "discrete"),
    ],
)
def test_a_spec_becomes_a_system_with_its_identity(spec: str, options: dict[str, str], name: str, kind: str) -> None:
    loaded = load(spec, options)
    assert isinstance(loaded.system, ModelSystem)
    assert loaded.identity["name"] == name
    assert {k: str(loaded.identity["options"][k]) for k in options} == options
    assert loaded.identity["weights"] == [f["sha256"] for f in loaded.weights["files"]]
    assert len(loaded.identity["adapter"]) == 64
    own_code = [{"file": "bad_adapters.py"}] if "@" in spec else []
    assert [{"file": c["file"]} for c in loaded.facts.get("code", [])] == own_code
    assert {k: v for k, v in loaded.facts.items() if k != "code"} == {"spec": spec, "checkpoint": None}
    assert loaded.system.produce(grey(), [0], []).kind == kind


def test_a_wrapper_names_what_it_wraps_and_splits_the_options() -> None:
    loaded = load("tokenbridge:pca", {"bits": "3"})
    tokens = loaded.model.encode(grey(), [0])
    assert isinstance(tokens, Codes)
    assert set(tokens.alphabets) == {2**3}
    with pytest.raises(VtbenchError, match="quantizes continuous tokenizers only"):
        load("tokenbridge:jpeg")
    with pytest.raises(VtbenchError, match="has no option 'bitz'"):
        load("tokenbridge:pca", {"bitz": "3"})


def test_a_generator_comes_with_its_tokenizer() -> None:
    loaded = load("ngram-kmeans", {"size": "64"}, generator=True)
    assert isinstance(loaded.system, GeneratorSystem)
    assert loaded.generator.options["size"] == 64
    assert loaded.tokenizer is not None
    assert loaded.identity["tokenizer"]["name"] == loaded.tokenizer.card.name
    with pytest.raises(VtbenchError, match="reconstructs nothing"):
        loaded.system.produce(grey(), [0], [])


@pytest.mark.parametrize(
    ("spec", "more", "words"),
    [
        ("jpeg", {"generator": True}, "is a tokenizer, not a generator"),
        ("ngram-kmeans", {"generator": False}, "use --task generation"),
        ("jpeg", {"tokenizer_checkpoint": Path("x.pt")}, "leave out --tokenizer-checkpoint"),
        ("jpeg", {"checkpoint": Path("x.pt")}, "no weights to load"),
        ("jpeg", {"options": {"qualty": "3"}}, "did you mean quality"),
        ("jpeg", {"device": "tpu"}, "give cpu, cuda"),
        ("folder:/nowhere", {"options": {"a": "1"}}, "takes no --option"),
        ("folder:/nowhere", {}, "is not a folder"),
        (Scaled(), {"options": {"scale": "3"}}, "is loaded already"),
        (Scaled(), {"checkpoint": Path("x.pt")}, "is loaded already"),
        (object(), {}, "is no tokenizer"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(VtbenchError, match=words):
        load(spec, **more)


def test_saved_pictures_have_no_model_to_ask(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    loaded = load(f"folder:{tmp_path}")
    assert isinstance(loaded.system, SavedPictures)
    for attribute in ("model", "generator"):
        with pytest.raises(VtbenchError):
            getattr(loaded, attribute)


def test_an_object_is_what_its_tokens_are_and_its_card_stays_as_it_was() -> None:
    loaded = load(Scaled())
    card = loaded.system.card
    output = loaded.system.produce(grey(), [0], [])
    assert output.kind == "continuous"
    assert torch.equal(output.images, grey())
    assert loaded.system.card is card
    assert loaded.model.card is card


def test_a_stated_card_decides_over_the_tokens() -> None:
    class Stated(Scaled):
        card = Card(name="mine", family="mine", kind="discrete", title="Mine", sizes=Multiple(1))

    loaded = load(Stated())
    assert loaded.identity["name"] == "mine"
    assert loaded.system.produce(grey(), [0], []).kind == "discrete"


def test_an_object_is_another_question_in_every_call_unless_its_caller_names_it() -> None:
    """Its tensors stand in the record; what else decides its output cannot be read off it."""
    first, second = Scaled(), Scaled()
    second.load_state_dict(first.state_dict())
    assert load(first).identity["object"] == load(second).identity["object"]
    assert load(first).identity != load(first).identity
    assert load(first, identity="mine").identity == load(second, identity="mine").identity
    with torch.no_grad():
        first.scale.add_(1)
    assert load(first, identity="mine").identity != load(second, identity="mine").identity

    class Stateless:
        def encode(self, images: torch.Tensor) -> Tokens:
            raise NotImplementedError

        decode = encode

    nobody = Stateless()
    assert load(nobody).identity != load(nobody).identity
    assert "nothing identifies its weights" in load(nobody).reasons[0]


def test_serving_by_another_rule_is_another_system_over_the_same_model() -> None:
    system = load("jpeg").system
    tiled = system.served("tiles")
    assert isinstance(system, ModelSystem)
    assert isinstance(tiled, ModelSystem)
    assert (system.fit, tiled.fit) == ("resize", "tiles")
    assert tiled.model is system.model


def test_multiply_accumulates_are_counted_where_they_are_asked_for() -> None:
    system = load(Scaled()).system
    assert system.produce(grey(8), [0], []).macs is None
    # A 1 x 1 convolution from 3 to 3 channels: 9 products a pixel; two images cost the same an image.
    two = torch.cat([grey(8), grey(8)])
    assert system.produce(two, [0, 1], [], count_macs=True).macs == (9 * 64, 0)
    assert system.produce(grey(8), [0], []).macs is None


@pytest.mark.parametrize(
    ("decode", "words"),
    [
        (lambda images: images * 255, "divide by 255"),
        (lambda images: images * 2 - 1.5, r"looks like \[-1, 1\]"),
        (lambda images: images * float("nan"), "NaN or infinity"),
        (lambda images: images[:, :1], "returned shape"),
        (lambda images: images.half().to(torch.uint8), "returned torch.uint8"),
        (lambda images: "picture", "returned str"),
    ],
)
def test_what_a_decoder_may_not_return(decode: Any, words: str) -> None:
    class Wrong(Scaled):
        def decode(self, tokens: Any) -> Any:
            return decode(super().decode(tokens))

    with pytest.raises(VtbenchError, match=words) as refused:
        load(Wrong()).system.produce(torch.rand(1, 3, 16, 16) * 0.5 + 0.1, [0], [])
    assert refused.value.code == 1


def test_numbers_made_from_names_are_the_same_every_time() -> None:
    options = {"encoder_ch_mult": "1:1", "decoder_ch_mult": "1:1", "z_channels": "16", "codebook_size": "64"}
    first, second = (load_random("family:llamagen", options, "cpu", "float32") for _ in range(2))
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first.encode(image, [0]).indices, second.encode(image, [0]).indices)
    assert first.card.alphabets == (64,)
    # No network of ours: nothing to fill, inside a wrapper too.
    assert load_random("jpeg", {}, "cpu", "float32") is None
    assert load_random("tokenbridge:sd-vae-ft-mse", {"bits": "4"}, "cpu", "float32") is None
    bridged = load_random("tokenbridge:taef1", {"bits": "4"}, "cpu", "float32")
    assert set(bridged.card.alphabets) == {2**4}
