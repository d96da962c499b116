"""TA-TiTok: TiTok whose decoder also reads a caption of the image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.fill import fill
from vtbench.models.made_weights import fill_
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "bytedance/1d-tokenizer@942a96f",
    licence="LICENSE",
    trained_on="configs/training/TA-TiTok/*.yaml (train_shards_path_or_url)",
    arch="configs/infer/TA-TiTok/*.yaml",
    weights="README_MaskGen.md:35-42",
)

_README = "README_MaskGen.md (arXiv:2501.07730)"
_NAMED = 'every image with the caption "A photo of a CLASS.", which is 10 bits that nobody counts'
_256 = validation("ImageNet", 256, 50_000, other=(_NAMED,))
_SHA256 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
_CLIP = Weights(
    file="ViT-L-14-336px.pt",
    role="text_encoder",
    url=f"https://openaipublic.azureedge.net/clip/models/{_SHA256}/ViT-L-14-336px.pt",
    sha256=_SHA256,
    licence="MIT",
)
"""CLIP ViT-L/14 at 336 pixels, whose text encoder alone is read (1d-tokenizer utils/train_utils.py:91)."""


def _card(variant: str, encoder: str, tokens: int, rfid: float, score: float) -> Card:
    codes = 8192 if variant.endswith("_vq") else None
    channels = 16 if codes is None else 64
    text = {"context_length": 77, "width": 768}
    kind = "KL" if codes is None else f"{codes} codes"
    return Card(
        name=f"tatitok-{variant.replace('_', '-')}",
        family="ta-titok",
        kind="continuous" if codes is None else "discrete",
        title=f"TA-TiTok, {tokens} tokens, {kind}",
        sizes=Fixed(256),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2501.07730",
        code="https://github.com/bytedance/1d-tokenizer",
        sources=_SOURCES,
        # PyTorchModelHubMixin's default name.
        weights=(
            Weights(file="model.safetensors", hub=f"turkeyju/tokenizer_tatitok_{variant}", licence="Apache-2.0"),
            _CLIP,
        ),
        tokens_at_256=tokens,
        alphabets=() if codes is None else (codes,),
        latent_channels=channels,
        value_range=(0.0, 1.0),
        # configs/training/TA-TiTok
        trained_on=("DataComp-1B",),
        options={"caption": "", **({"posterior": "mode", "latent_dtype": "float16"} if codes is None else {})},
        published=(Published("rfid", rfid, _README, _256, _NAMED), Published("is", score, _README, _256, _NAMED)),
        arch=archs.titok(encoder, "large", tokens=tokens, channels=channels, codes=codes, text=text),
        aliases=(f"tatitok_{variant}",),
        note=(
            "caption: what the decoder reads beside the tokens, the same for every image, so that it costs no image "
            "any bits; empty by default. Upstream's own numbers tell the decoder each image's class."
        ),
    )


CARDS = (
    _card("bl32_vq", "base", 32, 3.95, 219.6),
    _card("bl64_vq", "base", 64, 2.43, 218.8),
    _card("bl128_vq", "base", 128, 1.53, 222.8),
    _card("bl32_vae", "base", 32, 1.53, 222.0),
    _card("bl64_vae", "base", 64, 1.47, 220.7),
    _card("sl128_vae", "small", 128, 0.90, 227.7),
)


class CaptionedTokenizer(NetworkTokenizer):
    """The decoder gets the features of the option `caption`, which are made once, when the weights are loaded."""

    _text: Any = None

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        network = build_network(self.family, self.arch, random=False)
        text = {role: path for role, path in files.items() if role == _CLIP.role}
        own = {role: path for role, path in files.items() if role != _CLIP.role}
        self._read(fill(network.text_encoder(), self.card, text))
        self.place(fill(network, self.card, own), device, dtype)

    def place(self, network: Any, device: str, dtype: str) -> None:
        super().place(network, device, dtype)
        if self._text is None:
            # A network whose weights are made from their names: so are its text encoder's.
            self._read(fill_(network.text_encoder()))

    @contextlib.contextmanager
    def reading(self, features: Any) -> Iterator[None]:
        """Inside, `decode` gets these features (B, n, width), an image each, as a generator's captions are."""
        kept, self._text = self._text, features
        try:
            yield
        finally:
            self._text = kept

    def _read(self, encoder: Any) -> None:
        import torch

        with torch.inference_mode():
            self._text = encoder.eval().read([str(self.options.get("caption", ""))])

    def decode_settings(self, size: tuple[int, int], seeds: Sequence[int]) -> dict[str, Any]:
        import torch

        text = self._text.to(device=self.device, dtype=getattr(torch, self.dtype))
        return {**super().decode_settings(size, seeds), "text_guidance": text.expand(len(seeds), -1, -1)}


def _build(card: Card, options: Mapping[str, Any]) -> CaptionedTokenizer:
    return CaptionedTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="ta-titok",
    title="TA-TiTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.titok:TaTiTok",
    fixtures=("ta-titok",),
)
