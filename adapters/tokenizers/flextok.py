"""FlexTok: 1 to 256 nested tokens, decoded by a rectified flow in the latents of its own VAE."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtbench.models.native import PrefixTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import Conditions

_SOURCES = stated(
    "apple/ml-flextok@87d00cc",
    licence="README.md:148, LICENSE_WEIGHTS",
    trained_on='README.md:67-72 ("IN1K", "DFN")',
    arch="flextok/",
    weights="README.md:67-72",
)

_256 = Conditions(
    "ImageNet validation 50k, 256 x 256, 256 tokens",
    dataset="ImageNet",
    split="validation",
    images=50_000,
    size=256,
    options=(("tokens", 256),),
)
LICENCE = "Apple Machine Learning Research Model License (research only)"
_HEADER = 2**27
"""No header of a safetensors file is longer than 100 MB (huggingface/safetensors)."""


def _trunk(depth: int) -> dict[str, Any]:
    """Widths follow the depth: 64 channels a layer."""
    return {"width": 64 * depth, "depth": depth, "head_dim": 64}


def _card(encoder: int, decoder: int, data: str, trained_on: str, published: tuple[Published, ...] = ()) -> Card:
    name = f"flextok_d{encoder}_d{decoder}_{data}"
    return Card(
        name=name.replace("_", "-"),
        family="flextok",
        kind="discrete",
        title=f"FlexTok d{encoder}-d{decoder}, {trained_on}",
        sizes=Fixed(256),
        licence=LICENCE,
        paper="https://arxiv.org/abs/2502.13967",
        code="https://github.com/apple/ml-flextok",
        sources=_SOURCES,
        weights=(Weights(file="model.safetensors", hub=f"EPFL-VILAB/{name}", licence=LICENCE),),
        tokens_at_256=256,
        alphabets=(64000,),
        latent_channels=6,
        downsample=8,
        value_range=(-1.0, 1.0),
        trained_on=(trained_on,),
        stochastic=True,
        # README "detokenize"; scaling_factor 0 takes the file's own.
        options={
            "tokens": 256,
            "steps": 20,
            "guidance": 7.5,
            "guidance_kind": "apg",
            "scaling_factor": 0.0,
            "posterior": "mode",
        },
        knob="tokens",
        knob_values=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        published=published,
        arch={
            "in_channels": 3,
            "vae": {
                "block_out_channels": [128, 256, 512, 512],
                "layers_per_block": 2,
                "norm_groups": 32,
                "latent_channels": 16,
                "scaling_factor": None,
            },
            "patch_size": 2,
            "latent_grid": [16, 16],
            "num_registers": 256,
            "encoder": _trunk(encoder),
            "decoder": _trunk(decoder),
            "attention_scale": "8/head_dim",
            "adaln_sets": 2,
            "time": {"width": 256, "max_period": 256, "max_timestep": 1000.0},
            "register_positions": "learnable_sum",
            "quantizer": {"type": "fsq", "levels": [8, 8, 8, 5, 5, 5]},
        },
        aliases=(name,),
        note="tokens: how many leading ones are sent. Upstream samples the VAE's posterior; here its mean, unless "
        "posterior=sample.",
    )


_PUBLISHED = tuple(
    Published(metric, value, source, _256, note)
    for source, note, values in (
        ("Selftok README", "disagrees with GPSToken's table", (1.45, 18.53, 0.465, 0.222)),
        ("GPSToken README", "disagrees with Selftok's table", (4.02, 17.69, 0.475, 0.257)),
    )
    for metric, value in zip(("rfid", "psnr", "ssim", "lpips"), values, strict=True)
)
CARDS = (
    _card(12, 12, "in1k", "ImageNet-1k"),
    _card(18, 18, "in1k", "ImageNet-1k"),
    # The tables do not say which of the two d18-d28 they measured; ImageNet is what they measure on.
    _card(18, 28, "in1k", "ImageNet-1k", _PUBLISHED),
    _card(18, 28, "dfn", "DFN"),
)


class _FlexTok(PrefixTokenizer):
    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        super().load(files, device, dtype)
        stated = configuration(files["model"])
        scale = float(self.options["scaling_factor"]) or stated.get("scaling_factor", self.network.scale)
        self.network.configure(scaling_factor=scale, max_timestep=stated.get("max_timestep"))
        if not self.options["scaling_factor"] and "scaling_factor" not in stated:
            self.notes = (
                f"{files['model'].name} does not state the factor of its VAE's latents, which counts as {scale:g}: "
                "check the configuration beside it, and give --option scaling_factor=NUMBER",
            )


def configuration(path: Path) -> dict[str, Any]:
    """scaling_factor and max_timestep where the metadata of a safetensors file, upstream's configuration, has them.

    Each entry is a Python literal (flextok/utils/checkpoint.py); what is none, or of another form, states nothing.
    """
    out: dict[str, Any] = {}
    places = {"scaling_factor": ("vae",), "max_timestep": ("decoder", "module_dict", "dec_time_embedder")}
    try:
        with path.open("rb") as source:
            length = int.from_bytes(source.read(8), "little")
            metadata = json.loads(source.read(min(length, _HEADER))).get("__metadata__", {})
        for key, (first, *rest) in places.items():
            level = ast.literal_eval(metadata.get(first, "{}"))
            for step in rest:
                level = level.get(step, {})
            if isinstance(level.get(key), int | float) and not isinstance(level[key], bool):
                out[key] = float(level[key])
    except (OSError, ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError):
        pass
    return out


def _build(card: Card, options: Mapping[str, Any]) -> PrefixTokenizer:
    return _FlexTok(card, options, family=FAMILY)


FAMILY = Family(
    name="flextok",
    title="FlexTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.flextok:FlexTok",
    fixtures=("flextok",),
)
