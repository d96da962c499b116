"""MaskBit: sign-bit tokenizers of 10 to 18 bits, VQGAN+, and MaskGIT's VQGAN in MaskBit's key layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "markweberdev/maskbit@5ea3d73",
    licence="LICENSE",
    trained_on="README.md:42",
    arch="configs/tokenizer/*.yaml, configs/external/*.yaml",
    weights="README.md:48-59",
)

_SOURCE = "maskbit README (arXiv:2409.16211)"
_256 = validation("ImageNet", 256, 50_000)


def _card(
    name: str,
    title: str,
    hub: str,
    quantizer: Mapping[str, Any],
    scores: tuple[float, float, float],
    *,
    legacy: bool = False,
    note: str | None = None,
) -> Card:
    """scores: rFID, PSNR, SSIM. legacy: MaskGIT's decoder order, and pooling instead of strided convolutions."""
    bits = quantizer["type"] == "lfq"
    return Card(
        name=name,
        family="maskbit",
        kind="discrete",
        title=title,
        sizes=Multiple(of=16, at_least=16),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2409.16211",
        code="https://github.com/markweberdev/maskbit",
        sources=_SOURCES,
        # A flat state dict.
        weights=(Weights(file=f"{hub}.bin", hub=f"markweber/{hub}", licence="Apache-2.0"),),
        tokens_at_256=256,
        alphabets=(2,) * quantizer["token_size"] if bits else (quantizer["codebook_size"],),
        latent_channels=quantizer["token_size"],
        downsample=16,
        value_range=(0.0, 1.0),
        trained_on=("ImageNet-1k",),
        published=tuple(
            Published(metric, value, _SOURCE, _256)
            for metric, value in zip(("rfid", "psnr", "ssim"), scores, strict=True)
        ),
        arch={
            "in_channels": 3,
            "hidden_channels": 128,
            "channel_mult": list(archs.F16),
            "num_res_blocks": 2,
            "num_res_blocks_decoder": 2,
            "sample_with_conv": not legacy,
            "legacy_decoder": legacy,
            "shortcut_on_output": True,
            "norm_groups": 32,
            "norm_eps": 1e-6,
            "quantizer": dict(quantizer),
        },
        aliases=(f"maskbit-{hub}",),
        note=note,
    )


def _bits(bits: int, *scores: float, note: str | None = None) -> Card:
    quantizer = {"type": "lfq", "codebook_size": 2**bits, "token_size": bits, "l2_norm": False}
    hub = f"maskbit_tokenizer_{bits}bit"
    rfid, psnr, ssim = scores
    return _card(f"maskbit-{bits}bit", f"MaskBit, {bits} bits", hub, quantizer, (rfid, psnr, ssim), note=note)


def _codes(size: int, channels: int) -> dict[str, Any]:
    return {"type": "vq", "codebook_size": size, "token_size": channels, "l2_norm": False}


CARDS = (
    _bits(14, 1.37, 21.5, 0.56),
    _bits(10, 1.76, 20.8, 0.53),
    _bits(12, 1.52, 21.2, 0.55),
    _bits(16, 1.29, 21.8, 0.58),
    _bits(18, 1.16, 22.0, 0.59, note="In practice one of the 18 bits never changes (README)."),
    _card("vqgan-plus-12bit", "VQGAN+, 4096 codes", "vqgan_plus_12bit", _codes(4096, 64), (1.39, 21.0, 0.55)),
    _card(
        "vqgan-plus-paper",
        "VQGAN+, 1024 codes, the paper's checkpoint",
        "vqgan_plus_paper",
        _codes(1024, 256),
        (1.67, 20.9, 0.53),
        note="The file's name on the hub is not stated upstream; it is taken to follow the others'.",
    ),
    _card(
        "maskbit-maskgit-tokenizer",
        "MaskGIT VQGAN, 1024 codes, in MaskBit's key layout",
        "maskgit_tokenizer",
        _codes(1024, 256),
        (1.96, 18.6, 0.47),
        legacy=True,
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="maskbit",
    title="MaskBit and VQGAN+",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.maskgit:MaskBit",
    fixtures=("maskbit",),
)
