"""VidTok, autoencoders of videos, as tokenizers of pictures: a clip of one frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import Conditions

_SOURCES = stated(
    "microsoft/VidTok@d6ad92d",
    licence="LICENSE",
    trained_on='README.md:17 says "a large-scale video dataset" and names none',
    arch="configs/vidtok_*.yaml",
    weights="README.md:74-78, 138-153",
)

_README = "VidTok README (arXiv:2412.13061)"
_OF_CLIPS = "of clips, not of pictures"
_TIME = {2: ([1], [2]), 4: ([], [1, 2]), 8: ([0, 1, 2], [1, 2, 3])}
"""Levels at which time is halved and doubled, by the factor; for 4 the former are the last two that halve sides."""


def _arch(spec: str, *, causal: bool, long: bool, z: int, levels: Sequence[int] | None) -> dict[str, Any]:
    """configs/vidtok_*.yaml. spec: factors of time, height and width, as in the file's name; long: version 1.1."""
    time, side = int(spec[0]), int(spec[1 : 1 + len(spec) // 2])
    mults = [1, 2, 4, 4, 4] if side == 16 else [1, 2, 4, 4]
    space = [1, 2] if side == 4 else list(range(len(mults) - 1))
    down, up = _TIME[time]
    return {
        "in_channels": 3,
        "out_channels": 3,
        "version": "1.1" if long else "1.0",
        "causal": causal,
        "ch": 128,
        "ch_mult": mults,
        "num_res_blocks": 2,
        "z_channels": z,
        "norm": "layernorm",
        "norm_groups": 32,
        "norm_eps": 1e-6,
        "spatial_downsample_levels": space,
        "temporal_downsample_levels": down or [len(mults) - 2, len(mults) - 3],
        "spatial_upsample_levels": [1, 2] if side == 4 else list(range(1, len(mults))),
        "temporal_upsample_levels": up,
        "time_downsample": time,
        "init_pad": "replicate" if causal else None,
        "interpolation": "trilinear" if long else "nearest",
        "quantizer": None if levels is None else {"type": "fsq", "levels": list(levels), "eps": 1e-3},
        "posterior": "diagonal gaussian, mean taken" if levels is None else None,
    }


def _card(file: str, results: Sequence[float] = ()) -> Card:
    """`file`: of the hub, without its ending; results: PSNR, SSIM, LPIPS and FVD of the README's tables."""
    _, kind, order, spec, size, *version = file.split("_")
    causal, long = order == "causal", bool(version)
    levels = None if kind == "kl" else [8] * {"4096": 4, "32768": 5, "262144": 6}[size]
    z = int(size.removesuffix("chn")) if levels is None else len(levels)
    arch = _arch(spec, causal=causal, long=long, z=z, levels=levels)
    factor = 2 ** len(arch["spatial_downsample_levels"])
    what = f"{z} channels" if levels is None else f"{8**z} codes"
    clips = f"30 test videos of MCL-JCV, 30 frames a second, clips of {17 if causal else 16} x 256 x 256"
    videos = "MCL-JCV, every whole video, 30 frames a second, 256 x 256"
    protocol = Conditions(videos if long else clips, dataset="MCL-JCV", size=256, other=(_OF_CLIPS,))
    what += f", factor {arch['time_downsample']} x {factor}" + ("" if causal else ", not causal")
    note = (
        "A picture is a clip of one frame, which the encoder repeats; the published results are of clips."
        if causal
        else "Not causal: it takes clips of a multiple of its frames and no single picture, which is refused."
    )
    return Card(
        name=file.replace("_", "-"),
        family="vidtok",
        kind="continuous" if levels is None else "discrete",
        title=f"VidTok {arch['version']}, {what}",
        sizes=Multiple(of=factor, at_least=factor),
        licence="MIT",
        paper="https://arxiv.org/abs/2412.13061",
        code="https://github.com/microsoft/VidTok",
        sources=_SOURCES,
        weights=(
            Weights(
                file=f"checkpoints/{'vidtok_v1_1/' if long else ''}{file}.ckpt",
                hub="microsoft/VidTok",
                key=("state_dict",),
                licence="MIT",
            ),
        ),
        tokens_at_256=(256 // factor) ** 2,
        alphabets=() if levels is None else (8**z,),
        latent_channels=z,
        downsample=factor,
        value_range=(-1.0, 1.0),
        options={"posterior": "mode", "latent_dtype": "float16"} if levels is None else {},
        published=tuple(
            Published(metric, value, _README, protocol, _OF_CLIPS)
            for metric, value in zip(("psnr", "ssim", "lpips", "fvd"), results, strict=False)
        ),
        arch=arch,
        aliases=(file,),
        note=f"{note} The repository does not name its training videos."
        + (" Upstream draws from the posterior; here its mean, unless posterior=sample." if levels is None else ""),
    )


CARDS = (
    _card("vidtok_kl_causal_488_16chn_v1_1", (35.13, 0.941, 0.049, 87.4)),
    _card("vidtok_kl_causal_488_4chn_v1_1"),
    _card("vidtok_kl_causal_41616_16chn_v1_1", (29.61, 0.854, 0.113, 162.7)),
    _card("vidtok_kl_causal_288_8chn_v1_1", (34.59, 0.935, 0.051, 78.2)),
    _card("vidtok_fsq_causal_488_32768_v1_1", (29.39, 0.856, 0.114, 168.5)),
    _card("vidtok_fsq_causal_888_32768_v1_1", (27.95, 0.817, 0.142, 293.2)),
    _card("vidtok_fsq_causal_41616_262144_v1_1"),
    _card("vidtok_kl_causal_488_4chn", (29.64, 0.852, 0.114, 194.2)),
    _card("vidtok_kl_causal_488_8chn", (31.83, 0.897, 0.083, 109.3)),
    _card("vidtok_kl_causal_488_16chn", (35.04, 0.942, 0.047, 78.9)),
    _card("vidtok_kl_causal_288_8chn", (33.86, 0.928, 0.057, 80.7)),
    _card("vidtok_kl_causal_444_4chn", (34.78, 0.941, 0.051, 87.2)),
    _card("vidtok_kl_causal_41616_4chn", (25.05, 0.711, 0.228, 549.1)),
    _card("vidtok_kl_noncausal_488_4chn", (30.60, 0.876, 0.098, 157.9)),
    _card("vidtok_kl_noncausal_488_16chn", (36.13, 0.950, 0.044, 60.5)),
    _card("vidtok_kl_noncausal_41616_4chn", (26.06, 0.751, 0.190, 423.2)),
    _card("vidtok_kl_noncausal_41616_16chn", (30.69, 0.878, 0.095, 147.1)),
    _card("vidtok_fsq_causal_488_262144", (29.82, 0.867, 0.106, 160.1)),
    _card("vidtok_fsq_causal_488_32768", (29.16, 0.854, 0.117, 196.9)),
    _card("vidtok_fsq_causal_488_4096", (28.36, 0.832, 0.133, 218.1)),
    _card("vidtok_fsq_causal_41616_262144", (25.38, 0.738, 0.206, 430.1)),
    _card("vidtok_fsq_noncausal_488_262144", (30.78, 0.889, 0.091, 132.1)),
    _card("vidtok_fsq_noncausal_41616_262144", (26.37, 0.772, 0.171, 357.0)),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="vidtok",
    title="VidTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.vidtok:VidTok",
    fixtures=("vidtok",),
)
