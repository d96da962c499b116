"""VQGAN (taming-transformers) and the VQ autoencoders of latent diffusion, which share its code and keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import against, validation

_TAMING = "https://github.com/CompVis/taming-transformers"
_LDM = "https://github.com/CompVis/latent-diffusion"
_HEIBOX = "https://heibox.uni-heidelberg.de"
_SOURCES = {
    _TAMING: stated(
        "CompVis/taming-transformers@3ba01b2",
        licence="License.txt",
        trained_on="README.md:52-74",
        arch="configs/*.yaml; taming/models/vqgan.py",
        weights="README.md:52-74",
    ),
    _LDM: stated(
        "CompVis/latent-diffusion@a506df5",
        licence="LICENSE",
        trained_on="README.md says nothing; arXiv:2112.10752, table 8: trained on OpenImages",
        arch="models/first_stage_models/*/config.yaml",
        weights="README.md:271-277",
    ),
}
_VAL = against("ImageNet", "validation", 256)
_TRAIN = against("ImageNet", "training", 256)
_OPEN_RANGE = "the source does not state its data range, which may be LlamaGen's 2"


def _card(
    name: str,
    title: str,
    arch: Mapping[str, Any],
    *,
    url: str,
    file: str,
    trained_on: tuple[str, ...],
    code: str = _TAMING,
    paper: str = "https://arxiv.org/abs/2012.09841",
    published: tuple[Published, ...] = (),
    alias: str | None = None,
    note: str | None = None,
) -> Card:
    factor = 2 ** (len(arch["ch_mult"]) - 1)
    return Card(
        name=name,
        family="vqgan",
        kind="discrete",
        title=title,
        sizes=Multiple(of=factor, at_least=factor),
        licence="MIT",
        paper=paper,
        code=code,
        sources=_SOURCES[code],
        weights=(Weights(file=file, url=url, key=("state_dict",), licence="MIT", ema=False),),
        tokens_at_256=(256 // factor) ** 2,
        alphabets=(arch["quantizer"]["codebook_size"],),
        latent_channels=arch["quantizer"]["embed_dim"],
        downsample=factor,
        value_range=(-1.0, 1.0),
        trained_on=trained_on,
        published=published,
        arch=arch,
        aliases=(alias or name.replace("-", "_"),) if alias != name else (),
        note=note,
    )


def _rfid(val: float, train: float) -> tuple[Published, ...]:
    source = "taming-transformers README"
    return (Published("rfid", val, source, _VAL), Published("rfid", train, source, _TRAIN))


def _of_ldm(**values: float) -> tuple[Published, ...]:
    source = "latent diffusion, table 8 (arXiv:2112.10752)"
    return tuple(Published(metric, value, source, validation("ImageNet", 256)) for metric, value in values.items())


def _ldm(
    variant: str,
    rfid: float,
    psnr: float,
    url: str,
    *,
    codes: int,
    channels: int,
    ch_mult: Sequence[int],
    at: Sequence[int],
    attn_type: str = "vanilla",
) -> Card:
    # Trained on OpenImages, evaluated on ImageNet: table 8 of the paper.
    source, protocol = "latent-diffusion README; arXiv:2112.10752, table 8", validation("ImageNet", 256)
    arch = archs.taming(
        archs.vq(codes, channels), z_channels=channels, ch_mult=ch_mult, attn_resolutions=at, attn_type=attn_type
    )
    name = f"ldm-{variant}"
    return _card(
        name,
        f"Latent diffusion's {variant.upper().replace('-NOATTN', ' without attention')}, {codes} codes",
        arch,
        url=url,
        file="model.ckpt",
        trained_on=("OpenImages",),
        code=_LDM,
        paper="https://arxiv.org/abs/2112.10752",
        published=(Published("rfid", rfid, source, protocol), Published("psnr", psnr, source, protocol)),
        alias=name,
        note="The URL is a zip archive that holds model.ckpt.",
    )


_RECALLED = (
    "ch_mult and attn_resolutions are not in the repository; where model.yaml beside the file differs, it is right."
)

CARDS = (
    _card(
        "vqgan-imagenet-f16-16384",
        "Taming VQGAN f16, 16384 codes, ImageNet",
        archs.taming(archs.vq(16384, 256)),
        url=f"{_HEIBOX}/d/a7530b09fed84f80a887/files/?p=%2Fckpts%2Flast.ckpt&dl=1",
        file="last.ckpt",
        trained_on=("ImageNet-1k",),
        published=(
            *_rfid(4.98, 7.41),
            *_of_ldm(psnr=19.9, ssim=0.51),
            Published("psnr", 20.0, "TokenFlow (arXiv:2412.03069)", validation("ImageNet", 256)),
            Published(
                "ssim",
                0.629,
                "TokenFlow (arXiv:2412.03069)",
                validation("ImageNet", 256, other=(_OPEN_RANGE,)),
                _OPEN_RANGE,
            ),
        ),
    ),
    _card(
        "vqgan-imagenet-f16-1024",
        "Taming VQGAN f16, 1024 codes, ImageNet",
        archs.taming(archs.vq(1024, 256)),
        url=f"{_HEIBOX}/d/8088892a516d4e3baf92/files/?p=%2Fckpts%2Flast.ckpt&dl=1",
        file="last.ckpt",
        trained_on=("ImageNet-1k",),
        published=(
            *_rfid(7.94, 10.54),
            *_of_ldm(psnr=19.4, ssim=0.50),
            Published("rfid", 7.96, "maskbit README (arXiv:2409.16211)", _VAL),
            Published("psnr", 20.18, "maskbit README (arXiv:2409.16211)", validation("ImageNet", 256)),
            Published("ssim", 0.52, "maskbit README (arXiv:2409.16211)", validation("ImageNet", 256)),
        ),
    ),
    _card(
        "vqgan-gumbel-f8",
        "Taming VQGAN f8, 8192 codes, Gumbel softmax, OpenImages",
        archs.taming(archs.vq(8192, 256, kind="gumbel"), ch_mult=(1, 1, 2, 4), attn_resolutions=(32,)),
        url=f"{_HEIBOX}/d/2e5662443a6b4307b470/files/?p=%2Fckpts%2Flast.ckpt&dl=1",
        file="last.ckpt",
        trained_on=("OpenImages",),
        published=_rfid(1.49, 3.24),
        note=f"Upstream draws Gumbel noise when it encodes; here the most likely code is taken. {_RECALLED}",
    ),
    _card(
        "vqgan-coco-8k",
        "Taming VQGAN f16, 8192 codes, COCO",
        archs.taming(archs.vq(8192, 256)),
        url=f"{_HEIBOX}/f/78dea9589974474c97c1/?dl=1",
        file="coco_epoch117.ckpt",
        trained_on=("COCO",),
        paper="https://arxiv.org/abs/2105.06458",
    ),
    _card(
        "vqgan-coco-openimages-8k",
        "Taming VQGAN f16, 8192 codes, COCO and OpenImages",
        archs.taming(archs.vq(8192, 256)),
        url=f"{_HEIBOX}/f/461d9a9f4fcf48ab84f4/?dl=1",
        file="coco_oi_epoch12.ckpt",
        trained_on=("COCO", "OpenImages"),
        paper="https://arxiv.org/abs/2105.06458",
    ),
    _card(
        "vqgan-faceshq-f16-1024",
        "Taming VQGAN f16, 1024 codes, FacesHQ",
        archs.taming(archs.vq(1024, 256)),
        url="https://k00.fr/uxy5usa9",
        file="last.ckpt",
        trained_on=("CelebA-HQ", "FFHQ"),
        note="The URL is a folder page: download checkpoints/last.ckpt by hand and give it with --checkpoint.",
    ),
    _ldm(
        "vq-f4",
        0.58,
        27.43,
        "https://ommer-lab.com/files/latent-diffusion/vq-f4.zip",
        codes=8192,
        channels=3,
        ch_mult=(1, 2, 4),
        at=(),
    ),
    _ldm(
        "vq-f4-noattn",
        1.06,
        25.21,
        f"{_HEIBOX}/f/9c6681f64bb94338a069/?dl=1",
        codes=8192,
        channels=3,
        ch_mult=(1, 2, 4),
        at=(),
        attn_type="none",
    ),
    _ldm(
        "vq-f8",
        1.14,
        23.07,
        "https://ommer-lab.com/files/latent-diffusion/vq-f8.zip",
        codes=16384,
        channels=4,
        ch_mult=(1, 2, 2, 4),
        at=(32,),
    ),
    _ldm(
        "vq-f8-n256",
        1.49,
        22.35,
        "https://ommer-lab.com/files/latent-diffusion/vq-f8-n256.zip",
        codes=256,
        channels=4,
        ch_mult=(1, 2, 2, 4),
        at=(32,),
    ),
    _ldm(
        "vq-f16",
        5.15,
        20.83,
        f"{_HEIBOX}/f/0e42b04e2e904890a9b6/?dl=1",
        codes=16384,
        channels=8,
        ch_mult=archs.F16,
        at=(16,),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="vqgan",
    title="VQGAN (taming-transformers, latent diffusion)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.taming:Taming",
    fixtures=("vqgan",),
)
