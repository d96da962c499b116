"""MingTok: a continuous latent of 32 channels that is expanded to meaning first and to pixels from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtbench.models import checkpoint
from vtbench.models.arch import own_card
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import load_class
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "inclusionAI/Ming-UniVision@3bbdd2f",
    licence="LICENSE",
    trained_on="README.md names none",
    arch="README.md:64-190, mingtok/modeling_mingtok.py",
    weights="README.md:712",
)

_README = "Ming-UniVision README (arXiv:2510.06590)"
_512 = validation("ImageNet", 512, 50_000)


class MingTokTokenizer(NetworkTokenizer):
    """Takes its sizes from the file that it loads: the released ones stand in no repository, only on the hub."""

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        self.card = self._sized(files["model"])
        super().load(files, device, dtype)

    def _sized(self, path: Path) -> Card:
        """The card with the arch of a file; as it is where the file's names are another network's."""
        infer = load_class(self.family.network or "").infer_arch
        for inventory in checkpoint.inventories(path):
            for root in inventory.roots(["low_level_encoder.cls_token"]):
                shapes = {name: leaves[0].shape for name, leaves in inventory.under(root).items()}
                arch = infer(shapes, self.arch)
                if arch is not None:
                    return own_card(self.card, self.family, arch)
        return self.card


_FFN = {"width": 1024, "heads": 16, "ffn": "mlp", "ffn_hidden": 4096}
CARDS = (
    Card(
        name="mingtok-vision",
        family="mingtok",
        kind="continuous",
        title="MingTok-Vision, 32 channels, 512 x 512",
        sizes=Fixed(512),
        licence="MIT",
        paper="https://arxiv.org/abs/2510.06590",
        code="https://github.com/inclusionAI/Ming-UniVision",
        sources=_SOURCES,
        weights=(Weights(file="model.safetensors", hub="inclusionAI/MingTok-Vision", licence="MIT"),),
        # 256 patches (README) and the class token, which the decoder reads too.
        tokens_at_256=257,
        latent_channels=32,
        value_range=(-1.0, 1.0),
        published=(
            Published("rfid", 0.54, _README, _512),
            Published("psnr", 30.77, _README, _512),
            Published("ssim", 0.62, _README, _512),
            Published("lpips", 0.14, _README, _512),
        ),
        # Image, patch and latent are the README's; the rest are the defaults of upstream's builders.
        arch={
            "in_channels": 3,
            "out_channels": 3,
            "image_size": 512,
            "latent_dim": 32,
            "scaling_factor": 1.0,
            "mean": 0.0,
            "norm_eps": 1e-6,
            "head_dim": 64,
            "qkv_bias": True,
            "encoder": {"patch_size": 32, **_FFN, "layers": 24},
            "semantic_decoder": {**_FFN, "layers": 1, "in_projection": True, "causal": True},
            "pixel_decoder": {"patch_size": 16, **_FFN, "layers": 1, "causal": False},
        },
        aliases=("mingtok",),
        note=(
            "Sizes are read off the file that is loaded. The factor and mean by which generators see latents stand in "
            "the hub's config.json: they move no picture and no rate."
        ),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return MingTokTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="mingtok",
    title="MingTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.mingtok:MingTok",
    fixtures=("mingtok",),
)
