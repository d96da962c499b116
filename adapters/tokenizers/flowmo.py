"""FlowMo's tokenizers: binary 1-D codes and a rectified flow in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "kylesargent/FlowMo@d15029f",
    licence="LICENSE",
    trained_on="README.md:25-31",
    arch="flowmo/configs/base.yaml, README.md:36-75",
    weights="README.md:115-116",
)

_TABLE = "FlowMo table 1 (arXiv:2503.11056)"
_256 = validation("ImageNet", 256, 50_000)
_BEFORE = "before post-training"
_EARLIER = validation("ImageNet", 256, 50_000, other=(_BEFORE,))


def _published(rfid: float, psnr: float, ssim: float, lpips: float, before: tuple[float, ...]) -> tuple[Published, ...]:
    """before: rFID, PSNR and LPIPS of the model that is post-trained."""
    named = (("rfid", rfid), ("psnr", psnr), ("ssim", ssim), ("lpips", lpips))
    earlier = zip(("rfid", "psnr", "lpips"), before, strict=True)
    return (
        *(Published(metric, value, _TABLE, _256) for metric, value in named),
        *(Published(metric, value, _TABLE, _EARLIER, _BEFORE) for metric, value in earlier),
    )


def _flux(hidden: int, depth: int) -> dict[str, Any]:
    """DIT_ZOO["dit_b_4"] of models.py, 768 wide with rotary axes (8, 28, 28), scaled by muP's width."""
    axes = [8, 28, 28]
    return {
        "hidden_size": hidden,
        "depth": depth,
        "heads": 12,
        "mlp_ratio": 4.0,
        "rope_axes": [a // 4 * (hidden // 192) for a in axes],
        "theta": 10000,
        "qkv_bias": True,
    }


def _card(size: str, title: str, bits: int, ids: int, published: tuple[Published, ...]) -> Card:
    """bits a position, which upstream writes as `ids` numbers."""
    return Card(
        name=f"flowmo-{size}",
        family="flowmo",
        kind="discrete",
        title=title,
        sizes=Fixed(256),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2503.11056",
        code="https://github.com/kylesargent/FlowMo",
        sources=_SOURCES,
        # configs/base.yaml eval.state_dict_key: the averaged weights.
        weights=(
            Weights(
                file=f"flowmo_{size}.pth", hub="ksarge/FlowMo", key=("model_ema_state_dict",), licence="Apache-2.0"
            ),
        ),
        tokens_at_256=256,
        alphabets=(2,) * bits,
        latent_channels=bits,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        stochastic=True,
        # configs/base.yaml eval.sampling.
        options={"steps": 25, "guidance": 1.5, "schedule": "pow_0.25"},
        published=published,
        arch={
            "image_size": 256,
            "in_channels": 3,
            "patch_size": 4,
            "code_length": 256,
            "context_dim": bits,
            "encoder": _flux(768, 8),
            "decoder": _flux(1152, 16),
            "attention_scale": "8/head_dim",
            "quantizer": {"type": "lfq", "bits": bits, "bits_per_id": bits // ids, "ids_per_position": ids},
            "sampler": {"schedule": "pow_0.25", "steps": 25, "cfg_interval": [0.17, 1.02]},
        },
        aliases=(f"flowmo_{size}",),
        note="Guidance holds for noise levels of 0.17 to 1.02. Upstream samples in bfloat16; here in the run's dtype.",
    )


CARDS = (
    _card("lo", "FlowMo-Lo, 18 bits a token", 18, 2, _published(0.95, 22.07, 0.649, 0.113, (1.10, 21.38, 0.134))),
    _card("hi", "FlowMo-Hi, 56 bits a token", 56, 4, _published(0.56, 24.93, 0.785, 0.073, (0.73, 24.02, 0.086))),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="flowmo",
    title="FlowMo",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.flowmo:FlowMo",
    fixtures=("flowmo",),
)
