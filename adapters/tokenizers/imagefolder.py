"""ImageFolder and XQ-GAN: DINOv2-shaped tokenizers with product, residual and sign-bit quantization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "lxa9867/ImageFolder@76ddfb9",
    licence="LICENSE.md",
    trained_on="README.md:112-138",
    arch="configs/*.yaml",
    weights="README.md:119-138",
)

_README = "ImageFolder/XQ-GAN README (arXiv:2410.01756, arXiv:2412.01762)"
_256 = validation("ImageNet", 256, 50_000)
_PAPERS = {
    "imagefolder": "https://arxiv.org/abs/2410.01756",
    "xqgan": "https://arxiv.org/abs/2412.01762",
    "robusttok": "https://arxiv.org/abs/2503.08354",
}
_LICENCE = "Adobe Research License (non-commercial)"
# The ten scales that MSVR10P2 and MSBR10P2 share, and the Phi of each.
_SCALES = (1, 1, 2, 3, 3, 4, 5, 6, 8, 11)
_PHI = (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)
_VIT = {
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_ratio": 4,
    "qkv_bias": True,
    "layer_scale": True,
    "class_token": True,
    "norm_eps": 1e-6,
}


def _pyramid(codes: int, *, bits: bool = False) -> dict[str, Any]:
    """Ten scales: rows of 32 channels, or log2(codes) sign bits."""
    return {
        "type": "multi-scale lfq" if bits else "multi-scale residual vq",
        "codebook_size": codes,
        "embed_dim": codes.bit_length() - 1 if bits else 32,
        "l2_norm": True,
        "v_patch_nums": list(_SCALES),
        "quant_resi": 0.5,
        "share_quant_resi": 4,
        "phi_index": list(_PHI),
        "scale": 1.0 if bits else None,
    }


def _flat(codes: int, channels: int) -> dict[str, Any]:
    """One 16 x 16 grid."""
    return {
        "type": "vq",
        "codebook_size": codes,
        "embed_dim": channels,
        "l2_norm": True,
        "v_patch_nums": [16],
        "quant_resi": None,
        "share_quant_resi": None,
        "phi_index": None,
        "scale": None,
    }


def _card(
    name: str,
    title: str,
    quantizer: Mapping[str, Any],
    branches: int,
    file: str,
    *,
    rfid: float | None = None,
    pfid: float | None = None,
    hub: str = "qiuk6/XQ-GAN",
    trained_on: tuple[str, ...] = ("ImageNet-1k",),
    note: str | None = None,
) -> Card:
    """`name` is upstream's, with its capitals; ours is lower case."""
    grid = quantizer["v_patch_nums"][-1]
    bits = quantizer["type"] == "multi-scale lfq"
    scores = {"rfid": rfid, "pfid": pfid}
    return Card(
        name=name.lower(),
        family="imagefolder",
        kind="discrete",
        title=title,
        sizes=Fixed(256),
        licence=_LICENCE,
        paper=_PAPERS[name.split("-")[0]],
        code="https://github.com/lxa9867/ImageFolder",
        sources=_SOURCES,
        # train.py:99-104 takes "ema", else "model", else "state_dict"; the training script keeps the first two.
        weights=(Weights(file=file, hub=hub, key=("ema", "model", "state_dict"), licence=_LICENCE, ema=True),),
        tokens_at_256=sum(side**2 for side in quantizer["v_patch_nums"]),
        alphabets=(2,) * (quantizer["embed_dim"] * branches) if bits else (quantizer["codebook_size"],) * branches,
        latent_channels=quantizer["embed_dim"],
        downsample=16,
        value_range=(-1.0, 1.0),
        trained_on=trained_on,
        published=tuple(Published(m, value, _README, _256) for m, value in scores.items() if value is not None),
        arch={
            "img_size": 256,
            "patch_size": 16,
            "in_channels": 3,
            "encoder": dict(_VIT),
            "decoder": dict(_VIT),
            "abs_pos_embed": True,
            "product_quant": branches,
            "num_latent_tokens": grid**2,
            "latent_grid": grid,
            "quantizer": dict(quantizer),
        },
        aliases=() if name == name.lower() else (name,),
        note=note,
    )


def _folder(kind: str, title: str, quantizer: Mapping[str, Any], **more: Any) -> Card:
    """A model of ten scales and two branches, whose name upstream makes of them."""
    codes = quantizer["codebook_size"]
    full = f"{kind}-{codes}"
    family = "xqgan" if kind.startswith("MSB") else "imagefolder"
    return _card(f"{family}-{full}", f"{title}, {codes} codes", quantizer, 2, f"{full}/best_ckpt.pt", **more)


def _msvr(codes: int, rfid: float, pfid: float | None = None) -> Card:
    return _folder("MSVR10P2", "ImageFolder, two branches of ten scales", _pyramid(codes), rfid=rfid, pfid=pfid)


def _elsewhere(data: str, trained_on: str, file: str) -> Card:
    """MSVR10P2 with 4096 codes on other data than ImageNet."""
    return _card(
        f"imagefolder-{data}-MSVR10P2-4096",
        f"ImageFolder, two branches of ten scales, 4096 codes, {data}",
        _pyramid(4096),
        2,
        f"{data}-MSVR10P2-4096/{file}",
        trained_on=(trained_on,),
    )


_ROBUST = "qiuk6/RobustTok"

CARDS = (
    _msvr(4096, 0.80, 7.23),
    _msvr(8192, 0.70),
    _msvr(16384, 0.67),
    _elsewhere("IMed", "IMed361M", "IMed361M.pt"),
    _elsewhere("LAION", "LAION-400M", "laion.pt"),
    _folder("MSBR10P2", "XQ-GAN, two branches of ten scales of bits", _pyramid(4096, bits=True), rfid=0.86),
    _folder("MSBR10P2", "XQ-GAN, two branches of ten scales of bits", _pyramid(16384, bits=True), rfid=0.78),
    _card("xqgan-VP2-4096", "XQ-GAN, two branches of 4096", _flat(4096, 32), 2, "vq-4096/best_ckpt.pt", rfid=0.90),
    _card("xqgan-VP2-16384", "XQ-GAN, two branches of 16384", _flat(16384, 32), 2, "vq-16384/best_ckpt.pt", rfid=0.64),
    _card(
        "xqgan-VQ-4096",
        "XQ-GAN, one codebook of 4096",
        _flat(4096, 64),
        1,
        "XQGAN-4096.pt",
        rfid=0.91,
        pfid=6.98,
        hub=_ROBUST,
    ),
    _card(
        "xqgan-VQ-8192",
        "XQ-GAN, one codebook of 8192",
        _flat(8192, 32),
        1,
        "XQGAN-8192.pt",
        rfid=0.81,
        pfid=7.91,
        hub=_ROBUST,
    ),
    _card(
        "robusttok-zero",
        "RobustTok, one codebook of 4096",
        _flat(4096, 64),
        1,
        "RobustTok-zero.pt",
        rfid=1.02,
        pfid=2.28,
        hub=_ROBUST,
        note="Trained with perturbed latents.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="imagefolder",
    title="ImageFolder and XQ-GAN",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.imagefolder:ImageFolder",
    fixtures=("imagefolder",),
)
