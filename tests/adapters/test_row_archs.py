"""Sizes of SoftVQ-VAE, MAETok, CODA, Instella, ALIT and KARL, read off the shapes of checkpoints."""

from __future__ import annotations

import json

import pytest
import torch
from small_networks import arch_of, of_fixture

from vtbench import registry
from vtbench.models.arch import flatten
from vtbench.models.identify import identify
from vtbench.models.names import manifest, names_of
from vtbench.models.network import build_network, load_class

UNTOLD = {
    "softvq": ("base_image_size", "encoder.num_heads", "decoder.num_heads"),
    "maetok": ("encoder.num_heads", "decoder.num_heads"),
    "coda": ("quantizer.scales", "lora.modules"),
    "instella": ("encoder.downsample_after", "decoder.upsample_after"),
    "alit": ("dynamic_halting_threshold", "encoder.heads", "decoder.heads", "quantizer.codebook_size"),
    "karl": ("encoder.heads", "decoder.heads", "base.encoder_attn_resolutions"),
}
"""What no shape tells, and stays as in the arch that is changed; or lists levels that so few do not have."""
OWN = ("softvq__main", "maetok__main", "coda__flux", "instella__main", "alit__vqgan-continuous", "karl__vae")


@pytest.mark.parametrize("fixture", OWN)
def test_own_sizes_are_read_off_the_shapes(fixture: str) -> None:
    """From a released model's arch; names of others are not taken for the family's."""
    tokenizer = of_fixture(fixture)
    shapes, family = names_of(tokenizer.network), tokenizer.family
    infer, wanted = type(tokenizer.network).infer_arch, flatten(arch_of(fixture))
    likes = [card.arch for card in family.cards if card.arch]
    inferred = [flatten(arch) for arch in (infer(shapes, json.loads(json.dumps(like))) for like in likes) if arch]
    assert inferred
    told = [{key for key in wanted if arch.get(key) != wanted[key]} for arch in inferred]
    assert min(told, key=len) <= set(UNTOLD[family.name])
    assert infer({"encoder.conv_in.weight": [1, 1, 3, 3]}, likes[0]) is None


@pytest.mark.parametrize("fixture", ["softvq__main", "maetok__main", "alit__vqgan-continuous", "karl__vae"])
def test_own_configurations_are_identified(fixture: str) -> None:
    """The answer builds just these names and shapes."""
    tokenizer = of_fixture(fixture)
    shapes = names_of(tokenizer.network)
    assert f"family:{tokenizer.family.name}" in [match.name for match in identify(shapes)]


@pytest.mark.parametrize("name", ["softvq", "maetok", "coda", "instella", "alit", "karl"])
def test_released_archs_are_read_off_their_shapes(name: str) -> None:
    """Every card's arch from its network's shapes and another card's arch."""
    family = registry.family(name)
    infer = load_class(family.network or "").infer_arch
    for card in family.cards:
        shapes = manifest(family, card)
        assert card.arch is not None
        archs = [infer(shapes, json.loads(json.dumps(c.arch))) for c in reversed(family.cards)]
        read = next(arch for arch in archs if arch is not None)
        off = {key for key, value in flatten(card.arch).items() if flatten(read).get(key) != value}
        assert off <= {"encoder.heads", "decoder.heads"}, card.name
        with torch.device("meta"):
            assert names_of(build_network(family, read)) == shapes
