"""Post-training quantization over any continuous tokenizer: `tokenbridge:NAME`.

Every scalar of the latent becomes one index: dimension-wise bins of equal probability under a standard normal,
nothing is learned. YuqingWang1029/TokenBridge at 3ede2818, reconstruction.py:55-131 and models/tokenbridge.py:434-545
(https://arxiv.org/abs/2503.16430). A discrete tokenizer from every VAE, at several bit widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import load_class
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Fixed, Multiple, Published, Weights, Wrapping, stated
from vtbench.types.conditions import Conditions, validation
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import torch

_PAPER, _CODE = "https://arxiv.org/abs/2503.16430", "https://github.com/YuqingWang1029/TokenBridge"

OPTIONS: Mapping[str, Any] = {"bits": 6, "range": 5.0, "std_range": 3.0, "scale": 1.0, "shift": 0.0}
"""bits: of a scalar, 1 to 12 (released: 6). range: the scaled latent is clamped to +-range (released: 5).
std_range: standard deviations of the normal that this range stands for (released: 3).
scale, shift: scaled latent = (latent of the base - shift) * scale; 1 and 0 where the base's latents are counted in the
scale of its generators, which is about unit deviation (every base here)."""
BITS = (2, 3, 4, 5, 6, 7, 8)


def card_for(base: Card) -> Card:
    """The card of `tokenbridge:BASE`, by default options; `wrap` states the alphabets of the chosen ones."""
    if base.kind != "continuous":
        raise VtbenchError(
            f"tokenbridge:{base.name}: {base.name} is {base.kind}; it quantizes continuous tokenizers only"
        )
    return Card(
        name=f"tokenbridge:{base.name}",
        family="tokenbridge",
        kind="discrete",
        title=f"{base.title}, quantized after training",
        sizes=base.sizes,
        licence=base.licence,
        paper=_PAPER,
        code=_CODE,
        sources=base.sources,
        tokens_at_256=base.tokens_at_256,
        alphabets=(2 ** int(OPTIONS["bits"]),) * (base.latent_channels or 0),
        latent_channels=base.latent_channels,
        downsample=base.downsample,
        trained_on=base.trained_on,
        stochastic=base.stochastic,
        value_range=base.value_range,
        options=OPTIONS,
        knob="bits",
        knob_values=BITS,
        extra=base.extra,
        note=f"Weights of {base.name}; scaled latent = (latent - shift) * scale, clamped to +-range.",
    )


def wrap(base: Tokenizer, options: Mapping[str, Any]) -> TokenBridge:
    """The quantizing tokenizer over `base`, which is loaded already."""
    return TokenBridge(card_for(base.card), options, base)


class TokenBridge(Tokenizer):
    """A continuous tokenizer whose latents are quantized, one book a channel.

    Tokens: Codes (B, positions, channels). The base's latents are not rounded to its `latent_dtype` before they are
    quantized, since they are no tokens here. The decoder needs the tokens and the options only.
    """

    def __init__(self, card: Card, options: Mapping[str, Any], base: Tokenizer) -> None:
        super().__init__(card, options)
        if not isinstance(base, Tokenizer):
            raise VtbenchError(f"{card.name}: {type(base).__name__} has no tokens to quantize")
        self.base = base
        if "latent_dtype" in base.options:
            base.options = {**base.options, "latent_dtype": "float32"}
        self.device, self.dtype = base.device, base.dtype
        o = self.options
        if not float(o["scale"]) > 0:
            raise VtbenchError(f"scale={o['scale']}: give a number above 0")
        rule = load_class("vtbench.adapters.networks.parts.normal_bins:NormalBins")
        self.quantizer = rule.symmetric(int(o["bits"]), float(o["range"]), float(o["std_range"]))
        books = base.card.latent_channels
        self.card = replace(card, alphabets=(2 ** int(o["bits"]),) * (books or 0))
        self._layout: tuple[int, int] | None = None

    def parameter_count(self) -> int | None:
        return self.base.parameter_count()

    def cost(self) -> Mapping[str, float]:
        return self.base.cost()

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        latents = self._latents(images, seeds)
        values = latents.values.movedim(latents.channel_axis, -1)
        self._layout = (latents.values.ndim, latents.channel_axis)
        scaled = (values.float() - float(self.options["shift"])) * float(self.options["scale"])
        channels = values.shape[-1]
        grids = ((int(values.shape[1]), int(values.shape[2])),) if values.ndim == 4 else ()
        indices = self.quantizer.indices(scaled.cpu()).reshape(len(latents), -1, channels)
        return Codes(indices, (2 ** int(self.options["bits"]),) * channels, latents.size, grids)

    def _latents(self, images: torch.Tensor, seeds: Sequence[int]) -> Latents:
        tokens = self.base.encode(images, seeds)
        if not isinstance(tokens, Latents):
            raise VtbenchError(f"{self.base.card.name} gave {type(tokens).__name__}; only latents can be quantized")
        return tokens

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        if not isinstance(tokens, Codes):
            raise VtbenchError(f"{self.card.name} decodes codes, not {type(tokens).__name__}")
        values = self.quantizer.values(tokens.indices) / float(self.options["scale"]) + float(self.options["shift"])
        _, axis = self._layout = self._layout or self._ask_layout()
        if tokens.grids:
            values = values.view(len(tokens), *tokens.grids[0], -1)
        values = values.movedim(-1, axis).contiguous()
        return self.base.decode(Latents(values, tokens.size, axis), seeds)

    def _ask_layout(self) -> tuple[int, int]:
        """(dimensions, channel axis) of the base's latents, from a grey image: a fact of the base alone."""
        import torch

        sizes = self.base.card.sizes
        side = sizes.size if isinstance(sizes, Fixed) else sizes.of * -(-sizes.at_least // sizes.of)
        latents = self._latents(torch.full((1, 3, side, side), 0.5), [0])
        return latents.values.ndim, latents.channel_axis


CARDS = (
    Card(
        name="tokenbridge-mar-kl16",
        family="tokenbridge",
        kind="discrete",
        title="TokenBridge: KL-16 of MAR, every scalar in 6 bits",
        sizes=Multiple(of=16, at_least=16),
        licence="MIT",
        paper=_PAPER,
        code=_CODE,
        sources=stated(
            "YuqingWang1029/TokenBridge@3ede281",
            licence="LICENSE",
            trained_on="README.md names the generators' alone; the autoencoder is MAR's: arXiv:2406.11838",
            arch="README.md (--bits 6 --range 5.0), reconstruction.py",
            weights='README.md ("Preparation")',
        ),
        # Upstream's copy of MAR's file; the quantizer has no parameters.
        weights=(
            Weights(file="pretrained_models/vae/kl16.ckpt", hub="Epiphqny/TokenBridge", key=("model",), licence="MIT"),
        ),
        tokens_at_256=256,
        alphabets=(64,) * 16,
        latent_channels=16,
        downsample=16,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        published=(
            Published("rfid", 0.53, "TokenBridge README", validation("ImageNet", 256)),
            Published(
                "rfid",
                1.11,
                "TokenBridge README",
                Conditions("ImageNet training set, 256 x 256", dataset="ImageNet", split="training", size=256),
            ),
        ),
        arch={
            **archs.mar_kl16(),
            "quantizer": {
                "type": "per-element normal-quantile",
                "bits": 6,
                "levels": 64,
                "min": -5.0,
                "max": 5.0,
                "std_range": 3.0,
            },
        },
        aliases=("tokenbridge_mar_kl16",),
        note="Upstream quantizes a sample of the posterior; here its mean. tokenbridge:NAME takes any other base.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> Tokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="tokenbridge",
    title="Post-training quantization of continuous tokenizers (TokenBridge)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.kl:KlAutoencoder",
    fixtures=("tokenbridge",),
    wraps=Wrapping("tokenbridge", card_for, wrap),
)
