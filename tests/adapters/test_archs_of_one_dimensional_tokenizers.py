"""TiTok, TA-TiTok, One-D-Piece, TokenSet and BSQ-ViT: archs that are refused or read off the shapes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from small_networks import arch_of
from small_one_dimensional_tokenizers import SMALL

from vtbench import registry
from vtbench.models.network import build_network
from vtbench.types.errors import VtbenchError

REFUSED: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("paints", lambda a: a.update(text={"context_length": 3, "width": 4}), "arch.text is a key"),
    ("paints", lambda a: a.update(legacy=True), "the legacy transformers alone end in a pixel decoder"),
    ("mixes", lambda a: a.update(legacy=False), "the legacy transformers alone end in a pixel decoder"),
    ("mixes", lambda a: a["quantizer"].update(type="kl", codebook_size=None, l2_norm=None), "goes with 'vq' alone"),
    ("mixes", lambda a: a["pixel_decoder"].update(channel_mult=[1, 1]), "become 4 pixels a side"),
    ("KL", lambda a: a["quantizer"].update(codebook_size=3), "quantizer.codebook_size is a key"),
    ("paints", lambda a: a["encoder"].update(heads=5), "5 heads do not divide"),
    ("paints", lambda a: a["decoder"].update(patch_size=7), "do not divide an image of 32"),
    ("paints", lambda a: a["encoder"].update(qk_norm=True), "encoder.qk_norm is a key"),
    ("text", lambda a: a.update(text=None), "arch.text is null"),
    ("set", lambda a: a.update(latent_positions=True), "latent_positions is True"),
    ("set", lambda a: a["pixel_decoder"].update(codebook_size=1024), "pixel_decoder.codebook_size is a key"),
    ("prefix", lambda a: a.update(latent_positions=False), "latent_positions is a key"),
    ("bits", lambda a: a["quantizer"].update(codebook_size=64), "codes are the signs"),
    ("bits", lambda a: a["quantizer"].update(bits=18), "18 bits in groups of 12 do not go with embed_dim 36"),
    ("bits", lambda a: a["quantizer"].update(group_size=5), "groups of 5"),
    ("bits", lambda a: a["decoder"].update(image_size=[16, 48]), "images or grids of different sizes"),
    ("bits", lambda a: a["encoder"].update(dim_ffn_output=8), "dim_ffn_output is a key"),
    ("bits", lambda a: a.update(clamp_range=[0, 255]), "must be [0, 1] or [-1, 1]"),
    ("bits", lambda a: a["encoder"].update(patch_size=[4, 8, 2]), "a list of 2 integers"),
]


@pytest.mark.parametrize(("which", "change", "said"), REFUSED)
def test_what_has_no_meaning_is_refused(which: str, change: Callable[[dict[str, Any]], object], said: str) -> None:
    family, arch, _ = SMALL[which]
    changed = copy.deepcopy(arch)
    change(changed)
    with pytest.raises(VtbenchError) as refusal:
        build_network(registry.family(family), changed)
    assert said in str(refusal.value)


@pytest.mark.parametrize("which", ["paints", "KL", "mixes", "text", "prefix", "set"])
def test_an_own_size_is_known_by_its_shapes(which: str) -> None:
    """From a file of a configuration that nobody released: all but the number of heads, which shapes do not show."""
    family_name, arch, _ = SMALL[which]
    family = registry.family(family_name)
    arch = {**arch, "encoder": {**arch["encoder"], "heads": 1}, "decoder": {**arch["decoder"], "heads": 1}}
    network = build_network(family, arch)
    like = next(c.arch for c in family.cards if (c.arch or {})["quantizer"]["type"] == arch["quantizer"]["type"])
    like = copy.deepcopy(dict(like or {}))
    if arch["pixel_decoder"] is None:
        like = {**like, "legacy": False, "pixel_decoder": None}
        like["quantizer"] = {**like["quantizer"], "l2_norm": arch["quantizer"]["l2_norm"]}
    else:
        # The pixel decoder is one and the same in all released files.
        like["pixel_decoder"] = arch["pixel_decoder"]
    shapes = {n: tuple(t.shape) for n, t in network.state_dict().items()}
    assert network.infer_arch(shapes, like) == arch


def test_bsq_vits_own_sizes_are_known_by_their_shapes() -> None:
    family = registry.family("bsq-vit")
    arch = arch_of("bsq-vit__b18")
    for half in ("encoder", "decoder"):
        arch[half].update(heads=1, ls_init_value=1e-5, ln_pre=half == "encoder", width=64)
    arch["quantizer"]["group_size"] = 1
    network = build_network(family, arch)
    shapes = {n: tuple(t.shape) for n, t in network.state_dict().items()}
    assert network.infer_arch(shapes, registry.model("bsqvit-256-b36g36").card.arch) == arch
    assert network.infer_arch(shapes, registry.model("l24sq-vit-256").card.arch) is None
