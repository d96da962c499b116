"""WeTok: Open-MAGVIT2's network, twice as wide, with groups of sign bits; one decoder is generative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "zhuangshaobin/WeTok@caa2ad7",
    licence="LICENSE",
    trained_on='configs/WeToK/Inference/*.yaml (ImageNet); earlier README.md, "News" (the others)',
    arch="configs/WeToK/Inference/*.yaml",
    weights="README.md:6",
)

_F8 = (1, 2, 2, 4)
_F32 = (1, 1, 2, 2, 4, 8)


def _card(
    variant: str,
    title: str,
    file: str,
    groups: int,
    ch_mult: Sequence[int],
    trained_on: tuple[str, ...],
    *,
    noise: bool = False,
    note: str | None = None,
) -> Card:
    """`groups` of 8 bits; noise: the decoder takes Gaussian noise beside the code."""
    factor, bits = 2 ** (len(ch_mult) - 1), 8 * groups
    return Card(
        name=f"wetok-{variant}",
        family="wetok",
        kind="discrete",
        title=title,
        # The decoder takes the deviation over the latent's cells, so there must be more than one.
        sizes=Multiple(of=factor, at_least=2 * factor),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2508.05599",
        code="https://github.com/zhuangshaobin/WeTok",
        sources=_SOURCES,
        # Upstream's configurations evaluate the averaged copies, model_ema.* (use_ema: True).
        weights=(
            Weights(
                file=f"{file}/WeTok.ckpt", hub="GrayShine/WeTok", key=("state_dict",), licence="Apache-2.0", ema=True
            ),
        ),
        tokens_at_256=(256 // factor) ** 2,
        alphabets=(2,) * bits,
        latent_channels=bits,
        downsample=factor,
        value_range=(-1.0, 1.0),
        trained_on=trained_on,
        stochastic=noise,
        arch=archs.magvit2(bits, ch=256, ch_mult=ch_mult, groups=groups, noise=noise),
        note=note,
    )


_IMAGENET = ("ImageNet-1k",)
_GENERAL = ("400M images of a general domain, not named",)

CARDS = (
    _card("imagenet-ds16", "WeTok, ImageNet, factor 16", "ImageNet/downsample16", 4, archs.F16, _IMAGENET),
    _card("imagenet-ds8", "WeTok, ImageNet, factor 8", "ImageNet/downsample8", 4, _F8, _IMAGENET),
    _card(
        "general-cr24",
        "WeTok, general domain, compression ratio 24",
        "GeneralDomain/compratio24",
        8,
        _F8,
        _GENERAL,
        note="The README's rFID of 0.12 (zero-shot ImageNet) is the best of the series; its file is not named there.",
    ),
    _card(
        "general-cr48",
        "WeTok, general domain, compression ratio 48",
        "GeneralDomain/compratio48",
        4,
        _F8,
        _GENERAL,
    ),
    _card(
        "general-cr192",
        "WeTok, general domain, compression ratio 192",
        "GeneralDomain/compratio192",
        4,
        archs.F16,
        _GENERAL,
    ),
    _card(
        "general-cr768",
        "WeTok, general domain, compression ratio 768, generative decoder",
        "GeneralDomain/compratio768",
        4,
        _F32,
        _GENERAL,
        noise=True,
        note="The decoder takes Gaussian noise; it is drawn from the image's seed.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="wetok",
    title="WeTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.magvit2:Magvit2",
    fixtures=("wetok",),
)
