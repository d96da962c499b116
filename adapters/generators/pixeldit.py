"""PixelDiT's generators, of classes and of text: pixels, no tokenizer."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build, hidden_states
from vtbench.types.adapter import Prompt
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import Conditions, samples

# A public copy of NVlabs/PixelDiT, as it could be read.
_SOURCES = stated(
    "gcy-hub/PixelDiT@91d45ab",
    licence="LICENSE",
    trained_on="c2i/README.md:1-17; of the text model it names none",
    arch="c2i/configs, t2i",
    weights="c2i/README.md:9-12, t2i/README.md",
    tokenizer="README.md: it draws pixels, there is none",
    options="c2i/README.md",
)

_CODE = "https://github.com/NVlabs/PixelDiT"
_LICENCE = "NVIDIA License (NSCLv1), non-commercial"
INSTRUCTION = "\n".join(
    (
        'Given a user prompt, generate an "Enhanced prompt" that provides detailed visual descriptions suitable for '
        "image generation. Evaluate the level of detail in the user prompt:",
        "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial "
        "relationships to create vivid and concrete scenes.",
        "- If the prompt is already detailed, refine and enhance the existing details slightly without "
        "overcomplicating.",
        "Here are examples of how to transform or refine prompts:",
        "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping "
        "peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.",
        "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing "
        "street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by towering "
        "glass skyscrapers.",
        "Please generate only the enhanced description for the prompt below and avoid including any additional "
        "commentary or evaluations:",
        "User Prompt: ",
    )
)
"""What the text model reads before a prompt; its tokens are cut off (the stage-3 configuration, t2i/inference.py)."""


def _card(name: str, size: int, file: str, hub: str, **more: Any) -> Card:
    return Card(
        name=f"pixeldit-{name.replace('_', '-')}",
        family="pixeldit",
        kind="generator",
        sizes=Fixed(size),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2511.20645",
        code=_CODE,
        sources=_SOURCES,
        weights=(
            Weights(
                file=file,
                hub=hub,
                key=("state_dict",),
                prefix="core." if more["conditioning"] == "text" else "ema_denoiser.",
                licence=_LICENCE,
            ),
        ),
        aliases=(f"pixeldit_{name}",),
        stochastic=True,
        **more,
    )


def _of_class(
    name: str, size: int, file: str, *, fid: float, guidance: float, shift: float = 1.0, until: float = 1.0
) -> Card:
    return _card(
        name,
        size,
        file,
        "nvidia/PixelDiT-ImageNet",
        title=f"PixelDiT-XL, {size} x {size}" + (f", {name.rsplit('ep', 1)[1]} epochs" if "ep" in name else ""),
        trained_on=("ImageNet-1k",),
        options={
            "sampler": "flow_dpm",
            "num_steps": 100,
            "guidance": guidance,
            "timeshift": shift,
            "guidance_interval_min": 0.1,
            "guidance_interval_max": until,
        },
        published=(Published("fid", fid, "PixelDiT c2i/README.md", samples("ADM", 50_000, f"{size} px", size=size)),),
        arch={
            "in_channels": 3,
            "num_groups": 16,
            "hidden_size": 1152,
            "pixel_hidden_size": 16,
            "patch_depth": 26,
            "pixel_depth": 4,
            "patch_size": 16,
            "num_classes": 1000,
            "use_pixel_abs_pos": True,
            "pit_adaln_post_modulation": False,
        },
        conditioning="class",
    )


CARDS = (
    _of_class("xl_256_ep80", 256, "imagenet256_pixeldit_xl_epoch80.ckpt", fid=2.36, guidance=3.25),
    _of_class("xl_256_ep160", 256, "imagenet256_pixeldit_xl_epoch160.ckpt", fid=1.97, guidance=3.25),
    _of_class("xl_256_ep320", 256, "imagenet256_pixeldit_xl_epoch320.ckpt", fid=1.61, guidance=2.75, until=0.9),
    _of_class("xl_512", 512, "imagenet512_pixeldit_xl.ckpt", fid=1.81, guidance=3.5, shift=2.0),
    _card(
        "t2i_1024",
        1024,
        "pixeldit_t2i_v1.pth",
        "nvidia/PixelDiT-1300M-1024px",
        title="PixelDiT, text, 1024 x 1024",
        options={
            "steps": 50,
            "order": 2,
            "cfg_scale": 3.5,
            "flow_shift": 4.0,
            "interval_min": 0.0,
            "interval_max": 1.0,
            "text_encoder": "google/gemma-2-2b-it",
        },
        published=(
            Published("geneval", 0.74, "abstract of arXiv:2511.20645", Conditions("GenEval, 1024 x 1024", size=1024)),
        ),
        arch={
            "in_channels": 3,
            "num_groups": 24,
            "hidden_size": 1536,
            "pixel_hidden_size": 16,
            "pixel_attn_hidden_size": 1152,
            "pixel_num_groups": 16,
            "patch_depth": 14,
            "pixel_depth": 2,
            "num_text_blocks": 4,
            "patch_size": 16,
            "txt_embed_dim": 2304,
            "txt_max_length": 300,
            "use_text_rope": True,
            "text_rope_theta": 10000.0,
            "repa_encoder_index": 6,
            "use_pixel_abs_pos": True,
            "pit_adaln_post_modulation": False,
        },
        conditioning="text",
    ),
)


def _sample(generator: NativeGenerator, conditions: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    network, side = generator.network, generator.card.sizes.size  # type: ignore[union-attr]
    options = {k: v for k, v in generator.options.items() if k != "text_encoder"}
    start = noise.normal(network.channels, side, side).to(next(network.parameters()).dtype)
    if generator.card.conditioning == "text":
        length = network.text_length
        text = hidden_states(generator, conditions, length=length, before=INSTRUCTION)
        null = hidden_states(generator, [Prompt(id="empty", text="")], length=length)
        solved = network.generate(text, null, start, **options)
    else:
        solved = network.generate(conditions, start, **options)
    return network.to_image(solved.x), {"nfe": float(solved.evaluations)}


FAMILY: Family = Family(
    name="pixeldit",
    title="PixelDiT pixel-space diffusion transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.pixeldit:PixelDit",
    fixtures=("pixeldit",),
)
