"""MaskGen's generators: text to TA-TiTok's tokens, whose decoder reads the caption too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtbench.models.fill import fill
from vtbench.models.native_generator import NativeGenerator
from vtbench.models.network import load_class
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import Conditions
from vtbench.types.errors import VtbenchError

_SOURCES = stated(
    "bytedance/1d-tokenizer@942a96f",
    licence="LICENSE",
    trained_on="configs/training/MaskGen/*_stage1.yaml and _stage2.yaml (train_shards_path_or_url)",
    arch="configs/infer/MaskGen/*.yaml",
    weights="README_MaskGen.md:49-52",
    tokenizer="configs/infer/MaskGen/*.yaml",
    options="configs/infer/MaskGen/*.yaml",
)

_README = "README_MaskGen.md:49-52"
_DATA = ("DataComp-1B", "CC12M", "LAION-Aesthetics", "LAION-Art", "LAION-Pop", "JourneyDB", "pictures by DALL-E 3")
"""Of both stages."""
_MJHQ = Conditions("MJHQ-30K, 30000 images, 256 x 256", dataset="MJHQ-30K", images=30_000, size=256)
_SHA256 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
_CLIP = Weights(
    file="ViT-L-14-336px.pt",
    role="text_encoder",
    url=f"https://openaipublic.azureedge.net/clip/models/{_SHA256}/ViT-L-14-336px.pt",
    sha256=_SHA256,
    licence="MIT",
)


def _card(
    kind: str, size: str, model: dict[str, Any], *, tokens: int, tokenizer: str, fid: float, geneval: float, **more: Any
) -> Card:
    dim, depth = (1024, 16) if size == "l" else (1280, 20)
    return Card(
        name=f"maskgen-{kind}-{size}",
        family="maskgen",
        kind="generator",
        title=f"MaskGen-{size.upper()}, {'codes' if kind == 'vq' else 'continuous tokens'}",
        sizes=Fixed(256),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2501.07730",
        code="https://github.com/bytedance/1d-tokenizer",
        sources=_SOURCES,
        weights=(
            Weights(file="model.safetensors", hub=f"turkeyju/generator_maskgen_{kind}_{size}", licence="Apache-2.0"),
            _CLIP,
        ),
        trained_on=_DATA,
        published=(
            Published("fid_mjhq30k", fid, _README, _MJHQ),
            Published("geneval", geneval, _README, Conditions("GenEval, 256 x 256", size=256)),
        ),
        arch={
            "model": {
                "vq_model": {**model, "num_latent_tokens": tokens, "text_embed_dim": 768},
                "maskgen": {
                    "decoder_embed_dim": dim,
                    "decoder_depth": depth,
                    "decoder_num_heads": 16,
                    "micro_condition": True,
                    "micro_condition_embed_dim": 256,
                    "sample_aesthetic_score": 6.5,
                    **({"condition_num_classes": 1000} if kind == "vq" else {}),
                },
            },
            **({} if kind == "vq" else {"losses": {"diffloss_d": 8, "diffloss_w": dim}}),
        },
        aliases=(f"gen_maskgen_{kind}_{size}",),
        tokenizer=tokenizer,
        conditioning="text",
        stochastic=True,
        **more,
    )


def _vq(size: str, fid: float, geneval: float) -> Card:
    return _card(
        "vq",
        size,
        {"quantize_mode": "vq", "codebook_size": 8192},
        tokens=128,
        tokenizer="tatitok-bl128-vq",
        fid=fid,
        geneval=geneval,
        options={
            "guidance_scale": 12.0,
            "guidance_decay": "cosine",
            "guidance_decay_scale_pow": 1.0,
            "randomize_temperature": 2.0,
            "num_sample_steps": 16,
            "prob_sorting": True,
            "aesthetic_score": 6.5,
        },
    )


def _kl(size: str, fid: float, geneval: float) -> Card:
    return _card(
        "kl",
        size,
        {"quantize_mode": "vae", "token_size": 16, "scale_factor": 0.7525},
        tokens=32,
        tokenizer="tatitok-bl32-vae",
        fid=fid,
        geneval=geneval,
        options={
            "num_iter": 32,
            "cfg": 3.0,
            "cfg_schedule": "linear",
            "temperature": 1.0,
            "aesthetic_score": 6.5,
        },
    )


CARDS = (_vq("l", 7.74, 0.53), _vq("xl", 7.51, 0.57), _kl("l", 7.24, 0.52), _kl("xl", 6.53, 0.55))


class MaskGenGenerator(NativeGenerator):
    """Reads CLIP's text encoder beside its own weights."""

    captions: Any = None

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        import torch

        if _CLIP.role not in files:
            raise VtbenchError(f"{self.card.name} reads captions by CLIP: give its file as {_CLIP.role}")
        super().load({role: path for role, path in files.items() if role != _CLIP.role}, device, dtype)
        width = self.network.text_width
        tower = load_class("vtbench.adapters.networks.parts.captions:PooledTextTower")
        # 12 layers, heads of 64 channels: those of ViT-L/14's text encoder.
        encoder = tower(width=width, layers=12, heads=width // 64 or 1)
        fill(encoder, self.card, {_CLIP.role: files[_CLIP.role]})
        self.captions = encoder.to(device=device, dtype=getattr(torch, dtype)).eval().requires_grad_(False)


def _sample(generator: NativeGenerator, prompts: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    assert isinstance(generator, MaskGenGenerator)
    textless = [p.id for p in prompts if p.text is None]
    if textless:
        raise VtbenchError(f"{generator.card.name} is text-conditional, but the prompt {textless[0]} has no text")
    options, network, tokenizer = dict(generator.options), generator.network, generator.attached()
    features, text = generator.captions.captions([p.text for p in prompts])
    _, null = generator.captions.captions([""])
    tokens = network.generate(text, null, noise, **options)
    # TA-TiTok's decoder reads the caption of each image.
    reading = getattr(tokenizer, "reading", None)
    if reading is None:
        raise VtbenchError(f"{tokenizer.card.name} reads no captions: MaskGen's tokens are TA-TiTok's, attach one")
    with reading(features):
        if tokens.is_floating_point():
            images = generator.of_latents(tokens, 256)
        else:
            images = generator.of_codes(tokens, 256, len(tokens))
    return images, {"nfe": float(options.get("num_sample_steps") or options["num_iter"])}


def _build(card: Card, options: Mapping[str, Any]) -> MaskGenGenerator:
    return MaskGenGenerator(card, options, family=FAMILY, sample=_sample)


FAMILY: Family = Family(
    name="maskgen",
    title="MaskGen masked generation from text",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.maskgen:MaskGen",
    fixtures=("maskgen",),
)
