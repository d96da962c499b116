"""VAR's multi-scale tokenizer: one set of weights, a schedule of scales for each image size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "FoundationVision/VAR@78b9539",
    licence="README.md:208",
    trained_on='says nothing; arXiv:2404.02905, section 3: "our tokenizer is also trained on OpenImages"',
    arch="models/vqvae.py, models/__init__.py",
    weights="README.md:98",
)

_SELFTOK = "Selftok README"
_TOKENFLOW = "TokenFlow (arXiv:2412.03069)"
_256 = validation("ImageNet", 256, 50_000)
_RANGE2 = validation("ImageNet", 256, 50_000, data_range=2.0)


def _card(size: int, scales: Sequence[int], *, alias: str | None = None, published: tuple[Published, ...] = ()) -> Card:
    return Card(
        name=f"var-vae-{size}",
        family="var",
        kind="discrete",
        title=f"VAR's VQ-VAE, {len(scales)} scales for {size} x {size}",
        sizes=Fixed(size),
        licence="MIT",
        paper="https://arxiv.org/abs/2404.02905",
        code="https://github.com/FoundationVision/VAR",
        sources=_SOURCES,
        # A flat state dict.
        weights=(Weights(file="vae_ch160v4096z32.pth", hub="FoundationVision/var", licence="MIT"),),
        tokens_at_256=sum(side * side for side in scales),
        alphabets=(4096,),
        latent_channels=32,
        downsample=16,
        value_range=(-1.0, 1.0),
        # The paper, "VAR tokenizer".
        trained_on=("OpenImages",),
        published=published,
        arch={
            **archs.VAR_AUTOENCODER,
            "quantizer": {
                "type": "multi-scale residual vq",
                "codebook_size": 4096,
                "embed_dim": 32,
                "znorm": False,
                "quant_resi": 0.5,
                "share_quant_resi": 4,
                "v_patch_nums": list(scales),
                "phi_index": [0, 0, 1, 1, 1, 2, 2, 3, 3, 3],
            },
        },
        aliases=(alias,) if alias else (),
    )


CARDS = (
    _card(
        256,
        (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
        alias="var-vae_ch160v4096z32",
        published=(
            Published("rfid", 0.90, "UniTok README", _256),
            Published("rfid", 0.99, _SELFTOK, _256),
            Published("psnr", 22.12, _SELFTOK, _256),
            Published("ssim", 0.624, _SELFTOK, _256),
            Published("lpips", 0.109, _SELFTOK, _256),
            Published("rfid", 1.00, _TOKENFLOW, _256),
            Published("psnr", 22.63, _TOKENFLOW, _256),
            Published("ssim-range2", 0.755, _TOKENFLOW, _RANGE2, "LlamaGen's data range of 2"),
        ),
    ),
    _card(512, (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="var",
    title="VAR multi-scale VQ-VAE",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.var:Var",
    fixtures=("var",),
)
