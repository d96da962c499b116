"""LlamaGen's autoregressive generators, class- and text-conditional."""

from __future__ import annotations

from typing import Any

from vtbench.adapters.networks import generating
from vtbench.cards import Card, Family, Fixed, Published, Weights

_README = "LlamaGen README.md:54-61"
_SIZES = {"B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1280, 36, 20), "XXL": (1536, 48, 24), "3B": (3200, 24, 32)}
"""Preset: width, layers, heads (gpt.py:406-447)."""


def _arch(size: str, pixels: int, kind: str) -> dict[str, Any]:
    dim, depth, heads = _SIZES[size]
    condition = (
        {"num_classes": 1000, "cls_token_num": 1} if kind == "c2i" else {"caption_dim": 2048, "cls_token_num": 120}
    )
    return {
        "dim": dim,
        "n_layer": depth,
        "n_head": heads,
        "multiple_of": 256,
        "model_type": kind,
        "vocab_size": 16384,
        "block_size": (pixels // 16) ** 2,
        **condition,
    }


def _card(size: str, pixels: int, fid: float | None = None, *, stage: int | None = None) -> Card:
    kind = "c2i" if stage is None else "t2i"
    file = f"c2i_{size}_{pixels}" if stage is None else f"t2i_{size}_stage{stage}_{pixels}"
    options: dict[str, Any] = {
        "cfg_scale": 4.0 if kind == "c2i" else 7.5,
        "cfg_interval": -1,
        "temperature": 1.0,
        "top_k": 2000 if kind == "c2i" else 1000,
        "top_p": 1.0,
        "cache": True,
    }
    if kind == "t2i":
        options["text_encoder"] = "google/flan-t5-xl"
    return Card(
        name=f"llamagen-{file.replace('_', '-').lower()}",
        family="llamagen-gpt",
        kind="generator",
        title=f"LlamaGen {size}, {pixels} x {pixels}, {'classes' if kind == 'c2i' else f'text, stage {stage}'}",
        sizes=Fixed(pixels),
        licence="MIT",
        paper="https://arxiv.org/abs/2406.06525",
        code="https://github.com/FoundationVision/LlamaGen",
        weights=(
            Weights(
                file=f"{file}.pt",
                hub="FoundationVision/LlamaGen" if kind == "c2i" else "peizesun/llamagen_t2i",
                key=("model", "module", "state_dict"),
                licence="MIT",
            ),
        ),
        options=options,
        published=()
        if fid is None
        else (Published("fid", fid, _README, "ADM, 50k samples" + (", resized to 256" if pixels == 384 else "")),),
        arch=_arch(size, pixels, kind),
        aliases=(f"llamagen_{file}",),
        tokenizer=f"llamagen-vq-ds16-{kind}",
        conditioning="class" if kind == "c2i" else "text",
        stochastic=True,
    )


CARDS = (
    _card("B", 256, 5.46),
    _card("B", 384, 6.09),
    _card("L", 256, 3.80),
    _card("L", 384, 3.07),
    _card("XL", 384, 2.62),
    _card("XXL", 384, 2.34),
    _card("3B", 384, 2.18),
    _card("XL", 256, stage=1),
    _card("XL", 512, stage=2),
)


def _sample(self: generating.NativeGenerator, given: Any, noise: Any) -> Any:
    options = {k: v for k, v in self.options.items() if k != "text_encoder"}
    mask = None
    if self.card.conditioning == "text":
        given, mask = generating.text_features(self, given, length=self.network.prefix, left=True)
    tokens = self.network.generate(given, noise, text_mask=mask, **options)
    self.spent = {"nfe": float(self.network.length)}
    return self.of_codes(tokens, self.network.grid * 16, len(tokens))


FAMILY = Family(
    name="llamagen-gpt",
    title="LlamaGen autoregressive transformer",
    cards=CARDS,
    build=generating.build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.llamagen_gpt:LlamaGenGpt",
    fixtures=("llamagen-gpt",),
)
