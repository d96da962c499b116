"""TiTok: an image as 32 to 256 tokens without a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import Conditions, validation

_SOURCES = stated(
    "bytedance/1d-tokenizer@942a96f",
    licence="LICENSE",
    trained_on="README_TiTok.md:33-44 (the files' names)",
    arch="configs/infer/TiTok/*.yaml",
    weights="README_TiTok.md:33-44",
)

_README = "README_TiTok.md (arXiv:2406.07550)"
_256 = validation("ImageNet", 256, 50_000)
_SELFTOK = "SelftokTokenizer README"
_GPSTOKEN = "GPSToken README"
_COCO = Conditions("COCO, 1000 images, 256 x 256", dataset="COCO", images=1_000, size=256)
_CLEAN = replace(_COCO, evaluator="clean-fid")
_ANALYSIS = "Vision-Tokenizer-Analysis README"


def _card(
    variant: str, title: str, arch: Mapping[str, Any], rfid: float, *elsewhere: Published, hub: str | None = None
) -> Card:
    """`variant` is upstream's, which VTBench shortens to what stands before `_vq8k`."""
    codes = arch["quantizer"]["codebook_size"]
    short = variant.removesuffix("_vq8k")
    return Card(
        name=f"titok-{short.replace('_', '-')}",
        family="titok",
        kind="continuous" if codes is None else "discrete",
        title=title,
        sizes=Fixed(256),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2406.07550",
        code="https://github.com/bytedance/1d-tokenizer",
        sources=_SOURCES,
        # PyTorchModelHubMixin's default name; fun-research/TiTok has the same tensors as tokenizer_titok_*.bin.
        weights=(
            Weights(
                file="model.safetensors", hub=f"yucornetto/tokenizer_titok_{variant}_imagenet", licence="Apache-2.0"
            ),
        ),
        tokens_at_256=arch["num_latent_tokens"],
        alphabets=() if codes is None else (codes,),
        latent_channels=arch["token_size"],
        value_range=(0.0, 1.0),
        trained_on=("ImageNet-1k",),
        options={"posterior": "mode", "latent_dtype": "float16"} if codes is None else {},
        published=(Published("rfid", rfid, _README, _256), *elsewhere),
        arch=arch,
        aliases=tuple({f"titok_{variant}", f"titok-{variant.replace('_', '-')}", f"titok_{short}"})
        if short != variant
        else (f"titok_{variant}",),
        note="Upstream draws from the posterior." if codes is None else None,
    )


def _first(variant: str, title: str, size: str, tokens: int, rfid: float, *elsewhere: Published) -> Card:
    """Of the paper: trained in two stages, 4096 codes, MaskGIT's decoder behind the transformer."""
    arch = archs.titok(size, size, tokens=tokens, channels=12, codes=4096, legacy=True)
    return _card(variant, f"{title}, 4096 codes", arch, rfid, *elsewhere)


def _single(variant: str, title: str, sizes: tuple[str, str], tokens: int, rfid: float) -> Card:
    """Trained in one stage: 8192 codes, or a KL latent of 16 channels."""
    codes = 8192 if variant.endswith("_vq8k") else None
    arch = archs.titok(*sizes, tokens=tokens, channels=16 if codes is None else 64, codes=codes)
    return _card(variant, f"{title}, {f'{codes} codes' if codes else 'KL'}", arch, rfid)


def _table(source: str, *values: float) -> tuple[Published, ...]:
    """rFID, PSNR, SSIM, LPIPS that another project printed."""
    names = ("rfid", "psnr", "ssim", "lpips")
    return tuple(Published(n, v, source, _256) for n, v in zip(names, values, strict=True))


_BASE_LARGE = ("base", "large")

CARDS = (
    _first(
        "l32",
        "TiTok-L-32",
        "large",
        32,
        2.21,
        Published("fid", 54.23, _ANALYSIS, _CLEAN, "clean-fid"),
        Published("psnr", 15.02, _ANALYSIS, _COCO),
        Published("ssim", 0.3766, _ANALYSIS, _COCO),
        Published("lpips", 0.5724, _ANALYSIS, _COCO),
    ),
    _first("b64", "TiTok-B-64", "base", 64, 1.70, *_table(_GPSTOKEN, 1.75, 17.01, 0.390, 0.263)),
    _first(
        "s128",
        "TiTok-S-128",
        "small",
        128,
        1.71,
        *_table(_GPSTOKEN, 1.73, 17.66, 0.413, 0.220),
        *_table(_SELFTOK, 1.71, 17.52, 0.437, 0.210),
        Published("rfid", 3.91, "1d-tokenizer issue 105, a user's retest", _256),
    ),
    _single("bl64_vq8k", "TiTok-BL-64", _BASE_LARGE, 64, 2.06),
    _single("bl128_vq8k", "TiTok-BL-128", _BASE_LARGE, 128, 1.49),
    _single("sl256_vq8k", "TiTok-SL-256", ("small", "large"), 256, 1.03),
    _single("ll32_vae_c16", "TiTok-LL-32 VAE", ("large", "large"), 32, 1.61),
    _single("bl64_vae_c16", "TiTok-BL-64 VAE", _BASE_LARGE, 64, 1.25),
    _single("bl128_vae_c16", "TiTok-BL-128 VAE", _BASE_LARGE, 128, 0.84),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="titok",
    title="TiTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.titok:TiTok",
    fixtures=("titok",),
)
