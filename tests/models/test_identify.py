"""A checkpoint's model from its names and shapes, and archs changed by options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vtbench import registry
from vtbench.models import identify
from vtbench.models.arch import option_text, own_card, with_options
from vtbench.models.identify import Match
from vtbench.models.made_weights import fill_
from vtbench.models.names import WrongNames, check_names, compare_names, manifest, manifest_of
from vtbench.models.network import build_network
from vtbench.types.errors import VtbenchError

FIXTURES = Path(__file__).parents[1] / "parity"


def _shapes(model: str) -> dict[str, list[int]]:
    return manifest_of(model)


def _names(matches: list[Match]) -> list[str]:
    return [match.name for match in matches]


def test_a_released_file_is_recognised_among_its_look_alikes() -> None:
    matches = identify.identify(_shapes("llamagen-vq-ds8-c2i"))
    assert _names(matches) == ["llamagen-vq-ds8-c2i"]
    assert matches[0].how == "exact"
    # The same network in five releases: those whose file has these very names come first.
    matches = identify.identify(_shapes("llamagen-vq-ds16-c2i"))
    assert _names(matches)[:2] == ["llamagen-vq-ds16-c2i", "llamagen-vq-ds16-t2i"]
    assert {m.family for m in matches} == {"llamagen", "janus"}


def test_what_training_leaves_behind_does_not_matter_but_a_stray_name_does() -> None:
    shapes = _shapes("vqgan-imagenet-f16-1024")
    left = {"loss.discriminator.main.0.weight": [64, 3, 4, 4], "model_ema.decay": [1]}
    assert identify.identify({**shapes, **left})[0].how == "exact"
    matches = identify.identify({**shapes, "encoder.extra.weight": [3]})
    assert matches[0].how == "near"
    assert matches[0].differences == ("1 unexpected: encoder.extra.weight",)


def test_a_whole_vlm_is_searched_under_its_prefix() -> None:
    inner = {f"gen_vision_model.{n}": s for n, s in _shapes("janus-pro-1b-vq16").items()}
    matches = identify.identify({**inner, "language_model.lm_head.weight": [102400, 2048]})
    assert _names(matches)[:3] == ["janus-1.3b-vq16", "janus-pro-1b-vq16", "janus-pro-7b-vq16"]
    assert matches[0].prefix == "gen_vision_model."


def test_a_damaged_file_is_near_and_says_what_it_lacks() -> None:
    shapes = _shapes("maskbit-14bit")
    del shapes["encoder.conv_out.bias"]
    matches = identify.identify(shapes)
    assert _names(matches) == ["maskbit-14bit"]
    assert matches[0].text() == "nearest is maskbit-14bit (1 missing: encoder.conv_out.bias)"


def test_nothing_is_near_to_something_else() -> None:
    assert identify.identify({"transformer.h.0.attn.weight": [768, 768]}) == []
    assert identify.identify({}) == []


CONV = ("llamagen", "vqgan", "chameleon", "ibq", "rq-vae", "var", "maskgit-vqgan", "maskbit", "janus")
NOT_IN_THE_SHAPES = ("var__phi-per-scale-negative", "rq-vae__fold-rows-rectangle")
"""One Phi a scale, but which scales; a fold of two cells, but rows or columns."""
READABLE = [
    p for p in sorted(FIXTURES.glob("*.json")) if p.stem.split("__")[0] in CONV and p.stem not in NOT_IN_THE_SHAPES
]


@pytest.mark.parametrize("name", NOT_IN_THE_SHAPES)
def test_what_shapes_do_not_show_is_not_guessed(name: str) -> None:
    facts = json.loads((FIXTURES / f"{name}.json").read_text())
    assert not [m for m in identify.identify(facts["state_dict"]) if m.how != "near"]


@pytest.mark.parametrize("path", READABLE, ids=lambda p: p.stem)
def test_an_own_configuration_is_read_off_the_shapes(path: Path) -> None:
    """The options that identify prints must build a network of exactly these names and shapes."""
    facts: dict[str, Any] = json.loads(path.read_text())
    wanted = registry.family(facts["family"])
    matches = {match.family: match for match in identify.identify(facts["state_dict"])}
    assert wanted.name in matches
    match = matches[wanted.name]
    assert match.how == "own"
    assert match.name == f"family:{wanted.name}"
    typed = {key: option_text(value) for key, value in match.options.items()}
    base = wanted.cards[0].arch
    assert base is not None
    arch = with_options(base, typed)
    assert not compare_names(manifest(wanted, arch), facts["state_dict"], facts["optional"])


def test_a_file_on_disk(tmp_path: Path) -> None:
    family = registry.family("llamagen")
    facts = json.loads((FIXTURES / "llamagen__vq-ds4-tiny.json").read_text())
    network = fill_(build_network(family, facts["arch"]))
    path = tmp_path / "mine.pt"
    torch.save({"model": {f"module.{n}": t for n, t in network.state_dict().items()}, "steps": 3}, path)
    first = identify.identify_file(path)[0]
    assert first.name == "family:llamagen"
    assert first.options == {
        "encoder_ch_mult": [1, 1, 2],
        "decoder_ch_mult": [1, 1, 2],
        "z_channels": 32,
        "codebook_size": 128,
    }
    assert " --option encoder_ch_mult=1:1:2 " in first.text()
    assert json.loads(json.dumps(first.as_dict()))["how"] == "own"


def test_a_wrong_file_is_refused_with_what_it_looks_like() -> None:
    """LlamaGen's f8 file under the f16 name: the error lists the first names and guesses."""
    f16, f8 = registry.model("llamagen-vq-ds16-c2i"), registry.model("llamagen-vq-ds8-c2i")
    assert f16.card.arch is not None
    assert f8.card.arch is not None
    with torch.device("meta"):
        wanted, file = build_network(f16.family, f16.card.arch), build_network(f8.family, f8.card.arch)
    with pytest.raises(WrongNames) as caught:
        check_names(wanted, file.state_dict(), "vq_ds8_c2i.pt as llamagen-vq-ds16-c2i")
    said = str(caught.value)
    assert "68 missing: encoder.conv_blocks.2.res.0.nin_shortcut.weight, " in said
    assert "of another shape: " in said
    assert identify.guess(caught.value) == ": this looks like llamagen-vq-ds8-c2i"


ARCH = {"ch": 128, "tanh_out": False, "eps": 1e-6, "free": None, "mult": [1, 2], "quantizer": {"size": 8, "ch": 3}}


def test_options_change_leaves_and_keep_their_types() -> None:
    changed = with_options(ARCH, {"size": "16", "mult": "1,1,4", "tanh_out": "true", "eps": "1e-5", "free": "7"})
    assert changed == {
        **ARCH,
        "tanh_out": True,
        "eps": 1e-5,
        "free": 7,
        "mult": [1, 1, 4],
        "quantizer": {"size": 16, "ch": 3},
    }
    assert with_options(ARCH, {"quantizer.ch": "4"})["quantizer"]["ch"] == 4
    assert with_options(ARCH, {"ch": "64"})["ch"] == 64, "a whole key wins over a leaf of the same name"
    assert with_options(ARCH, {"mult": "1:2:4"})["mult"] == [1, 2, 4]
    assert with_options(ARCH, {"mult": ""})["mult"] == []
    assert with_options(ARCH, {"mult": "none"})["mult"] is None
    assert ARCH["quantizer"] == {"size": 8, "ch": 3}, "the card's arch is untouched"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sise": "4"}, "no entry 'sise' \\(did you mean .*size"),
        ({"size": "4.5"}, "not an integer"),
        ({"eps": "small"}, "not a number"),
        ({"tanh_out": "maybe"}, "no truth value"),
        ({"mult": "1,x"}, "not an integer"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(VtbenchError, match=said):
        with_options(ARCH, options)


def test_a_leaf_in_two_places_must_be_said_in_full() -> None:
    with pytest.raises(VtbenchError, match=r"say a\.size or b\.size"):
        with_options({"a": {"size": 1}, "b": {"size": 2}}, {"size": "3"})


def test_the_card_of_an_own_configuration_states_its_own_facts() -> None:
    family = registry.family("llamagen")
    first = family.cards[0]
    assert first.arch is not None
    arch = with_options(first.arch, {"codebook_size": "512", "encoder_ch_mult": "1,2,4", "decoder_ch_mult": "1,2,4"})
    card = own_card(first, family, arch)
    assert card.alphabets == (512,)
    assert (card.downsample, card.tokens_at_256) == (4, 64 * 64)
    assert card.latent_channels is None
    family = registry.family("var")
    first = family.cards[0]
    assert first.arch is not None
    card = own_card(first, family, with_options(first.arch, {"v_patch_nums": "1,2,4", "phi_index": "none"}))
    assert card.sizes.size == 64  # type: ignore[union-attr]
    assert card.tokens_at_256 == 1 + 4 + 16
