"""Post-training quantization over any continuous tokenizer: `tokenbridge:NAME`.

Every scalar of the latent becomes one index: dimension-wise bins of equal probability under a standard normal,
nothing is learned. YuqingWang1029/TokenBridge at 3ede2818, reconstruction.py:55-131 and models/tokenbridge.py:434-545
(https://arxiv.org/abs/2503.16430). A discrete tokenizer from every VAE, at several bit widths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtbench.adapter import Tokenizer
from vtbench.cards import Card, Family, Fixed
from vtbench.errors import VtbenchError
from vtbench.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import numpy as np
    import torch

OPTIONS: Mapping[str, Any] = {"bits": 6, "range": 5.0, "std_range": 3.0, "scale": 1.0, "shift": 0.0}
"""bits: of a scalar, 1 to 12 (released: 6). range: the scaled latent is clamped to +-range (released: 5).
std_range: standard deviations of the normal that this range stands for (released: 3).
scale, shift: scaled latent = (latent of the base - shift) * scale; 1 and 0 where the base's latents are counted in the
scale of its generators, which is about unit deviation (every base here; MAR's KL-16 with raw latents: 0.2325)."""
BITS = (2, 3, 4, 5, 6, 7, 8)


def boundaries(bits: int, std_range: float) -> np.ndarray[Any, Any]:
    """Edges of 2^bits bins of equal probability under the standard normal, the infinite ones at +-std_range.

    float64, (2^bits + 1,).
    """
    import numpy as np
    from scipy.stats import norm

    edges = norm.ppf(np.linspace(0, 1, 2**bits + 1))
    edges[0], edges[-1] = -std_range, std_range
    return np.asarray(edges)


def table(bits: int, std_range: float) -> torch.Tensor:
    """Value of every index, float32 (2^bits,), increasing: the mean of the standard normal truncated to its bin.

    In float32 throughout, as upstream: in float64 the values differ in the fifth decimal.
    """
    import torch

    edges = torch.from_numpy(boundaries(bits, std_range)).float()
    density = torch.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + torch.erf(edges / math.sqrt(2)))
    return (density[:-1] - density[1:]) / (below[1:] - below[:-1])


class Quantizer:
    """float32 latents <-> indices; the same for every channel and position."""

    def __init__(self, bits: int, limit: float, std_range: float) -> None:
        if not 1 <= bits <= 12:
            raise VtbenchError(f"bits={bits}: give 1 to 12 bits a scalar")
        if not limit > 0 or not std_range > 0:
            raise VtbenchError(f"range={limit} and std_range={std_range}: both must be above 0")
        if bits > 1 and boundaries(bits, std_range)[-2] >= std_range:
            raise VtbenchError(f"std_range={std_range} leaves no room for {2**bits} bins: give more, or fewer bits")
        self.limit, self.std_range = limit, std_range
        self.table = table(bits, std_range)

    def indices(self, x: torch.Tensor) -> torch.Tensor:
        """int64 of the nearest table value, the lower index where two are equally near."""
        import torch

        s = self.std_range
        y = (x.float().cpu() + self.limit) / (2 * self.limit) * 2 * s - s
        y = y.clamp(-s, s).contiguous()
        above = torch.searchsorted(self.table, y).clamp(max=len(self.table) - 1)
        below = (above - 1).clamp(min=0)
        nearer = (y - self.table[below]).abs() <= (y - self.table[above]).abs()
        return torch.where(nearer, below, above)

    def values(self, indices: torch.Tensor) -> torch.Tensor:
        """float32 in [-range, range]."""
        s = self.std_range
        return (self.table[indices] + s) / (2 * s) * (2 * self.limit) - self.limit


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
        paper="https://arxiv.org/abs/2503.16430",
        code="https://github.com/YuqingWang1029/TokenBridge",
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
        self.quantizer = Quantizer(int(o["bits"]), float(o["range"]), float(o["std_range"]))
        books = base.card.latent_channels
        self.card = replace(card, alphabets=(2 ** int(o["bits"]),) * (books or 0))
        self._layout: tuple[int, int] | None = None

    def parameter_count(self) -> int | None:
        return self.base.parameter_count()

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        made = self.base.encode(images, seeds)
        if not isinstance(made, Latents):
            raise VtbenchError(f"{self.base.card.name} gave {type(made).__name__}; only latents can be quantized")
        values = made.values.movedim(made.channel_axis, -1)
        self._layout = (made.values.ndim, made.channel_axis)
        scaled = (values.float() - float(self.options["shift"])) * float(self.options["scale"])
        channels = values.shape[-1]
        grids = ((int(values.shape[1]), int(values.shape[2])),) if values.ndim == 4 else ()
        indices = self.quantizer.indices(scaled).reshape(len(made), -1, channels)
        return Codes(indices, (2 ** int(self.options["bits"]),) * channels, made.size, grids)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        if not isinstance(tokens, Codes):
            raise VtbenchError(f"{self.card.name} decodes codes, not {type(tokens).__name__}")
        values = self.quantizer.values(tokens.indices) / float(self.options["scale"]) + float(self.options["shift"])
        _, axis = self._layout = self._layout or self._ask()
        if tokens.grids:
            values = values.view(len(tokens), *tokens.grids[0], -1)
        values = values.movedim(-1, axis).contiguous()
        return self.base.decode(Latents(values, tokens.size, axis), seeds)

    def _ask(self) -> tuple[int, int]:
        """(dimensions, channel axis) of the base's latents, from a grey image: a fact of the base alone."""
        import torch

        sizes = self.base.card.sizes
        side = sizes.size if isinstance(sizes, Fixed) else sizes.of * -(-sizes.at_least // sizes.of)
        made = self.base.encode(torch.full((1, 3, side, side), 0.5), [0])
        if not isinstance(made, Latents):
            raise VtbenchError(f"{self.base.card.name} gave {type(made).__name__}; only latents can be quantized")
        return made.values.ndim, made.channel_axis


def _build(card: Card, options: Mapping[str, Any]) -> Tokenizer:
    raise VtbenchError("tokenbridge needs a base: name it as tokenbridge:NAME, such as tokenbridge:taef2")


FAMILY = Family("tokenbridge", "Post-training quantization of continuous tokenizers (TokenBridge)", (), _build)
