"""PUT's P-VQVAE: patches of 8 or 16 pixels that do not see each other, made for inpainting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "liuqk3/PUT@30df86e",
    licence="LICENSE",
    trained_on="readme/prepare_data.md; the configurations' names",
    arch="configs/put_*/*/p_vqvae_*.yaml",
    weights="README.md:104",
)

_MEAN, _DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_SETS = {"ffhq": "FFHQ", "imagenet": "ImageNet-1k", "naturalscene": "Places2, natural scenes"}


def _arch(year: int, stride: int, *, imagenet_colours: bool) -> dict[str, Any]:
    """configs/put_*/*/p_vqvae_*.yaml; imagenet_colours: those with im_process_info."""
    first = year == 2022
    return {
        "in_channels": 3,
        "out_channels": 3,
        "pixel_mean": _MEAN if imagenet_colours else None,
        "pixel_std": _DEVIATION if imagenet_colours else None,
        "encoder": {
            "type": "patch mlp",
            "stride": stride,
            "width": 256,
            "res_blocks": 8 if stride == 8 else 10,
            "bottleneck": 2,
            "out_channels": 256,
        },
        "decoder": {
            "type": "conv",
            "stride": stride,
            "width": 256,
            "in_channels": 256,
            "res_blocks": 8 if first else 2,
            "bottleneck": 2,
            "res_blocks_after_upsample": 0 if first else 2,
            "upsample": "deconv" if first else "nearest",
            "reference_branch": True,
            "reference_downsample": "conv" if first else "downsample",
            "smooth_mask_kernel": 0,
        },
        "quantizer": {
            "type": "vq, two books: unmasked then masked",
            "codebook_size": 1024 if first else 9216,
            "unmasked": 512 if first else 8192,
            "embed_dim": 256,
            "l2_norm": False,
            "ema": True,
        },
    }


def _card(name: str, data: str, year: int, stride: int) -> Card:
    """`stride`: pixels of a patch's side."""
    arch = _arch(year, stride, imagenet_colours=year == 2024 and data == "imagenet")
    paper = "2205.05076" if year == 2022 else "2404.00513"
    return Card(
        name=name,
        family="put",
        kind="discrete",
        title=f"PUT's P-VQVAE ({'CVPR 2022' if year == 2022 else 'TPAMI 2024'}), {data}, factor {stride}",
        sizes=Multiple(of=stride, at_least=stride),
        licence="MIT",
        paper=f"https://arxiv.org/abs/{paper}",
        code="https://github.com/liuqk3/PUT",
        sources=_SOURCES,
        # A folder of OneDrive or Baidu that README.md:104 links, which no program can fetch; patch_vqgan.py:1046-1049.
        weights=(Weights(file="last.pth", key=("model", "state_dict"), licence="MIT"),),
        tokens_at_256=(256 // stride) ** 2,
        alphabets=(arch["quantizer"]["unmasked"],),
        latent_channels=256,
        downsample=stride,
        value_range=(0.0, 1.0) if arch["pixel_mean"] else (-1.0, 1.0),
        trained_on=(_SETS[data],),
        arch=arch,
        aliases=(name.replace("-", "_"), name.replace("-res", "_res"))[: 1 if year == 2022 else 2],
        note="Decodes from tokens alone. Upstream's inference_reconstruction pastes features of the original picture "
        "into the decoder, so that the pictures and numbers it gives are not those of a codec. Its second book, for "
        "patches with unknown pixels, is never used here.",
    )


CARDS = (
    *(_card(f"put-cvpr2022-{data}", data, 2022, 8) for data in _SETS),
    *(_card(f"put-tpami2024-{data}-res{side}", data, 2024, side // 32) for data in _SETS for side in (256, 512)),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="put",
    title="PUT (P-VQVAE)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.put:Put",
    fixtures=("put",),
)
