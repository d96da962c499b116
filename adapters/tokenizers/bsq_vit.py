"""BSQ-ViT: a transformer around sign bits on a sphere, and its sibling with the Leech lattice for a codebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "zhaoyue-zephyrus/bsq-vit@37d212d",
    licence="README.md:81-83",
    trained_on="configs/tokenizer/imagenet_256x256_*.yaml",
    arch="configs/tokenizer/imagenet_256x256_*.yaml",
    weights="README.md:44-49",
)

_README = "bsq-vit README (arXiv:2406.07548)"
_SHARE = "https://utexas.box.com/s/"
_PAGE = "The URL is a page of UTBox: fetch the file by hand."


def _vit() -> dict[str, Any]:
    return {
        "image_size": 256,
        "patch_size": 8,
        "width": 768,
        "layers": 12,
        "heads": 12,
        "mlp_ratio": 4,
        "ln_pre": True,
        "ln_post": True,
        "ls_init_value": None,
        "norm_eps": 1e-5,
    }


def _arch(**quantizer: Any) -> dict[str, Any]:
    return {
        "in_channels": 3,
        "encoder": _vit(),
        "decoder": {**_vit(), "dim_ffn_output": 3072},
        "quantizer": quantizer,
        "logit_laplace": False,
        "clamp_range": [-1, 1],
    }


def _bits(bits: int, group: int) -> dict[str, Any]:
    return _arch(
        type="bsq", bits=bits, group_size=group, codebook_size=None, embed_dim=bits, l2_norm=True, post_q_l2_norm=True
    )


def _card(
    name: str,
    title: str,
    arch: Mapping[str, Any],
    weights: Weights,
    *published: Published,
    paper: str = "2406.07548",
    alias: str | None = None,
    note: str = _PAGE,
    stated_in: str | None = None,
) -> Card:
    """stated_in: where the weights are named, if not by the README."""
    quantizer = arch["quantizer"]
    bits, codes = quantizer["bits"], quantizer["codebook_size"]
    return Card(
        name=name,
        family="bsq-vit",
        kind="discrete",
        title=title,
        sizes=Fixed(256),
        licence="MIT",
        paper=f"https://arxiv.org/abs/{paper}",
        code="https://github.com/zhaoyue-zephyrus/bsq-vit",
        sources={**_SOURCES, "weights": stated_in} if stated_in else _SOURCES,
        weights=(weights,),
        tokens_at_256=1024,
        alphabets=(codes,) if bits is None else (2,) * bits,
        latent_channels=quantizer["embed_dim"],
        downsample=8,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        published=published,
        arch=arch,
        aliases=() if alias is None else (alias,),
        note=note,
    )


def _file(file: str, *, hub: str | None = None, url: str | None = None, ema: bool = True) -> Weights:
    """bsqvit.py:55-66 takes ema_state_dict, else state_dict, under module.module. or module.; VTBench the second."""
    return Weights(
        file=file,
        hub=hub,
        url=url,
        key=("ema_state_dict", "state_dict") if ema else ("state_dict",),
        prefix="module.module." if ema else "module.",
        licence="MIT",
        ema=ema,
    )


def _scores(ema: tuple[float, ...], raw: tuple[float, ...]) -> tuple[Published, ...]:
    """PSNR, SSIM, LPIPS, rFID of the averaged and of the raw weights."""
    names = ("psnr", "ssim", "lpips", "rfid")
    rows = ((ema, True, "averaged weights"), (raw, False, "raw weights"))
    return tuple(
        Published(metric, value, _README, validation("ImageNet", 256, 50_000, averaged=averaged), note)
        for values, averaged, note in rows
        for metric, value in zip(names, values, strict=True)
    )


def _released(variant: str, bits: int, group: int, share: str, *scores: tuple[float, ...]) -> Card:
    weights = _file(f"bsqvit_256_{variant}.pt", url=_SHARE + share)
    name = f"bsqvit-256-{variant}"
    ema, raw = scores
    return _card(
        name,
        f"BSQ-ViT, {bits} bits, {variant}",
        _bits(bits, group),
        weights,
        *_scores(ema, raw),
        alias=name.replace("-", "_"),
    )


CARDS = (
    _released(
        "b18g18",
        18,
        1,
        "nt9g741b1cu4nidygd3a3e26clpemr0n",
        (25.80, 0.7680, 0.0729, 1.30),
        (25.36, 0.7578, 0.0761, 1.14),
    ),
    _released(
        "b18g2",
        18,
        9,
        "k5249jg1c6iznslsl89lwqqg6woqg27o",
        (24.80, 0.7314, 0.0820, 1.23),
        (24.79, 0.7319, 0.0836, 1.34),
    ),
    _released(
        "b36g36",
        36,
        1,
        "a7w3lw5q4dzxun3ai9uthhc3y8ade0pw",
        (28.14, 0.8448, 0.0400, 0.45),
        (27.88, 0.8410, 0.0432, 0.41),
    ),
    _card(
        "bsqvit-vtbench",
        "BSQ-ViT, 18 bits, the copy that VTBench measures",
        _bits(18, 1),
        _file("checkpoint.pt", hub="huaweilin/bsqvit_256x256", ema=False),
        alias="bsqvit",
        stated_in="huaweilin/bsqvit_256x256, which VTBench reads",
        note="Which of upstream's files it is, is not stated; 18 bits are assumed. VTBench takes the raw weights.",
    ),
    _card(
        "l24sq-vit-256",
        "L24SQ-ViT, 196560 points of the Leech lattice",
        _arch(
            type="vq",
            bits=None,
            group_size=None,
            codebook_size=196560,
            embed_dim=24,
            l2_norm=True,
            post_q_l2_norm=None,
        ),
        _file("l24sq_vit_256.pt"),
        paper="2512.14697",
        alias="l24sq_vit_256",
        stated_in="zhaoyue-zephyrus/bsq-vit@37d212d README.md names none",
        note="Upstream gives no link to the weights, nor the file's name: --checkpoint takes the user's own.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="bsq-vit",
    title="BSQ-ViT",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.bsq_vit:BsqVit",
    fixtures=("bsq-vit",),
)
