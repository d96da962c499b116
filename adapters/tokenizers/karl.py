"""KARL: one pass says how many of up to 256 tokens an image needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Weights, stated
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import torch

_SOURCES = stated(
    "ShivamDuggal4/karl@5c1a569",
    licence="has no licence file",
    trained_on="README.md:77-83",
    arch="kolmogorov_tokenizers/configs/karl_*.yaml",
    weights="pretrained_models/download.py, README.md:77-83",
)

_DROPBOX = "https://www.dropbox.com/scl/fi/"
_LICENCE = "none stated"
_DATA = {"imagenet": "ImageNet-1k", "imagenet100": "ImageNet-100"}
# karl_vqgan.py:69: the errors between which conditions are told apart.
_BINS = (0.005, *(i / 100 for i in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 38)))


def _card(base: str, latents: str, data: str, folder: str, key: str) -> Card:
    """`folder` and `key` of Dropbox's address (pretrained_models/download.py)."""
    model = f"karl_small_{base}_{latents}_latents"
    half, discrete = {"width": 1024, "layers": 8, "heads": 8}, latents == "quantized"
    weights = Weights(
        file=f"{model}.pth",
        url=f"{_DROPBOX}{folder}/{model}.pth?rlkey={key}&dl=1",
        # evaluate.py:255 takes the averaged copy.
        key=("ema", "model"),
        licence=_LICENCE,
        ema=True,
    )
    return Card(
        name=f"{model}_{data}".replace("_", "-"),
        family="karl",
        kind="discrete" if discrete else "continuous",
        title=f"KARL small, {latents} latents over a {'VQGAN' if base == 'vqgan' else 'KL-16'}, {_DATA[data]}",
        sizes=Fixed(256),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2507.07995",
        code="https://github.com/ShivamDuggal4/karl",
        sources=_SOURCES,
        weights=(weights,),
        tokens_at_256=256,
        alphabets=(4097,) if discrete else (),
        latent_channels=12,
        downsample=16,
        trained_on=(_DATA[data],),
        options={"budget": 256, "quality": 0.05, **({} if discrete else {"latent_dtype": "float16"})},
        knob="budget",
        knob_values=tuple(range(32, 257, 32)),
        arch={
            "image_size": 256,
            "patch_size": 16,
            "encoder": half,
            "decoder": dict(half),
            "base": archs.distilled_base(base),
            "factorize_latent": True,
            "quantize_latent": discrete,
            "quantizer": archs.vq(4096, 12, l2_norm=True),
            "max_grid_tokens": 64,
            "max_tokens": 512,
            "halting_probability": 0.75,
            "loss_bins": list(_BINS),
        },
        aliases=(f"{model}_{data}",),
        note="budget: tokens that may be kept; quality: the mean absolute error to be reached, 0 for the best. "
        + (
            "A token that halts before the last one kept is the 4097th symbol; behind it there are none. "
            if discrete
            else "Halted tokens are sent as zeros, and counted. "
        )
        + "The repository states no results.",
    )


CARDS = (
    _card("vqgan", "quantized", "imagenet", "4a2zwpceavl92ij56ja3m", "lc49wt2igsdhzfrqwvl62q30z"),
    _card("vqgan", "quantized", "imagenet100", "60plmx9s1jsu5axqb1frj", "v0y3fsureyfijy5m28ba4vpl7"),
    _card("vqgan", "continuous", "imagenet100", "ipvxil7ubb41wxs25du5p", "opmua15uarn2yt60yo9j7v5uo"),
    _card("vae", "quantized", "imagenet100", "gynbn6onb5tm1t8pmca0x", "93nz1j334ex57myea0qdxu7y5"),
    _card("vae", "continuous", "imagenet100", "v5t6trgczpaprvoow58zk", "0tldlcy8ir0lrectdk1o42tch"),
)


class KarlTokenizer(NetworkTokenizer):
    """Codes end with the last token kept; a halted one before it is a symbol of its own, the alphabet's last.

    Halted tokens need not be the last ones: their places are part of the code, and are paid for.
    """

    takes_budget = True

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        wanted = float(self.options.get("budget", 256) if budget is None else budget)
        if not wanted.is_integer():
            raise VtbenchError(f"{self.card.name}: budget is {wanted:g}: give a whole number of tokens")
        pixels = images.to(device=self.device, dtype=getattr(torch, self.dtype))
        settings = {"quality": float(self.options["quality"])} if "quality" in self.options else {}
        with torch.inference_mode():
            encoded = self.network.encode(pixels, budget=int(wanted), **settings)
        size = (int(images.shape[2]), int(images.shape[3]))
        if encoded.tokens is None:
            counted = getattr(torch, str(self.options.get("latent_dtype", "float16")))
            return Latents(encoded.latent_mean.to(counted).cpu(), size, self.network.channel_axis, variable=True)
        tokens, halted = encoded.tokens.cpu(), self.network.alphabets[0] - 1
        kept = tokens >= 0
        # True up to the last kept token of an image.
        reached = kept.flip(1).cumsum(dim=1).flip(1) > 0
        spelt = tokens.masked_fill(~kept, halted).masked_fill(~reached, -1)
        return Codes(spelt[:, : int(reached.sum(dim=1).max())], self.network.alphabets, size, variable=True)

    def spelt(self, codes: Codes) -> torch.Tensor:
        # The network's own word for a halted token, wherever it stands, is -1.
        halted = self.network.alphabets[0] - 1
        return codes.indices.masked_fill(codes.indices == halted, -1)


def _build(card: Card, options: Mapping[str, Any]) -> KarlTokenizer:
    return KarlTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="karl",
    title="KARL",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.karl:Karl",
    fixtures=("karl",),
)
