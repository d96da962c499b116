"""ALIT: 32 to 256 tokens an image, 32 more with every rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import PrefixTokenizer
from vtbench.models.noise import Seeded
from vtbench.types.cards import Card, Family, Fixed, Weights, stated
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import torch

_SOURCES = stated(
    "ShivamDuggal4/adaptive-length-tokenizer@8c0b4ec",
    licence="has no licence file",
    trained_on="README.md:76-84",
    arch="adaptive_tokenizers/configs/adaptive_*.yaml",
    weights="pretrained_models/download.py, README.md:76-84",
)

_DROPBOX = "https://www.dropbox.com/scl/fi/"
_LICENCE = "none stated"
_SIZES = {"small": (1024, 8, 8), "base": (768, 12, 12), "semilarge": (1024, 16, 16)}
"""Width, layers and heads of both halves (adaptive_tokenizers/__init__.py)."""


def _card(size: str, base: str, latents: str, data: str, link: str, file: str | None = None) -> Card:
    """`link`: what follows Dropbox's address (pretrained_models/download.py); `file` where it is not the model's."""
    model = f"alit_{size}_{base}_{latents}_latents"
    width, layers, heads = _SIZES[size]
    half = {"width": width, "layers": layers, "heads": heads}
    discrete, halts = latents == "quantized", base == "vqgan"
    name = f"{model}_{data}"
    weights = Weights(
        file=file or f"{model}.pth",
        url=f"{_DROPBOX}{link}&dl=1",
        # evaluate_rfid.py:201 takes the averaged copy.
        key=("ema", "model"),
        licence=_LICENCE,
        ema=True,
    )
    return Card(
        name=name.replace("_", "-"),
        family="alit",
        kind="discrete" if discrete else "continuous",
        title=f"ALIT {size}, {latents} latents over a {'VQGAN' if halts else 'KL-16'}, {_DATA[data]}",
        sizes=Fixed(256),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2411.02393",
        code="https://github.com/ShivamDuggal4/adaptive-length-tokenizer",
        sources=_SOURCES,
        weights=(weights,),
        tokens_at_256=256,
        alphabets=(4096,) if discrete else (),
        latent_channels=12,
        downsample=16,
        trained_on=(_DATA[data],),
        options={
            "budget": 256,
            **({"halting": "mode"} if halts else {}),
            **({"max_error": 0.0} if discrete else {"latent_dtype": "float16"}),
        },
        knob="budget",
        knob_values=tuple(range(32, 257, 32)),
        arch={
            "image_size": 256,
            "patch_size": 16,
            "encoder": half,
            "decoder": dict(half),
            "base": archs.distilled_base(base),
            "num_init_latent_tokens": 32,
            "max_rollout_iters": 8,
            "dynamic_halting": True,
            "dynamic_halting_threshold": 0.55,
            "factorize_latent": True,
            "quantize_latent": discrete,
            "quantizer": archs.vq(4096, 12, l2_norm=True),
        },
        aliases=(name,),
        note="budget: tokens, a multiple of 32, all encoded anew. halting: cells explained give way where that "
        "is likelier than not (mode), or as often as upstream draws (sample). max_error: 0, or the mean absolute error "
        "in [0, 1] at which an image stops below its budget (upstream's encode: 0.07). No results are stated.",
    )


_DATA = {"imagenet": "ImageNet-1k", "imagenet100": "ImageNet-100"}
CARDS = (
    _card(
        "small",
        "vqgan",
        "quantized",
        "imagenet",
        "u8jyro5wysttp5mvs6gir/alit_vqgan_small_quantized_latent.pth?rlkey=1py1s9755gjhdyw5ifd9h2wff",
        "alit_vqgan_small_quantized_latent.pth",
    ),
    *(
        _card(size, base, latents, "imagenet100", f"{folder}/alit_{size}_{base}_{latents}_latents.pth?rlkey={key}")
        for size, base, latents, folder, key in (
            ("small", "vqgan", "quantized", "iszluhiop09z3afo2gw5f", "klt0zgeunb60l1snuzhjdzdq2"),
            ("base", "vqgan", "quantized", "6cygifz37knpqtkxgfj81", "r8hn0d4d8j8eg2wjorzl9c67s"),
            ("semilarge", "vqgan", "quantized", "wcp7s6w86slh1yy4m3egc", "cf2s13c6ah3ru4ly9tb911gi7"),
            ("small", "vqgan", "continuous", "twbxjch2hutxjsy3sd85y", "68ycbjp6upkrxt22w5rm58cjv"),
            ("small", "vae", "quantized", "svykasoyyoapfzlghjuz2", "dtvyj74zq593zc7c63miwkhs3"),
            ("small", "vae", "continuous", "bq2yzr7dufvrpnycb856b", "hjx6jpr6vvfzhtgkp1cc1rnrs"),
        )
    ),
)


class AlitTokenizer(PrefixTokenizer):
    """As many rollouts as the budget allows; fewer tokens are other tokens, not the first of more."""

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None, *, family: Family) -> None:
        super().__init__(card, options, family=family)
        if self.options.get("halting", "mode") not in ("sample", "mode"):
            raise VtbenchError(f"halting={self.options['halting']!r} is not known: give sample or mode")

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        network, size = self.network, (int(images.shape[2]), int(images.shape[3]))
        kept = self._kept(budget, network.positions)
        pixels = images.to(device=self.device, dtype=getattr(torch, self.dtype))
        noise = None
        if self.options.get("halting") == "sample":
            noise = Seeded(seeds, self.device).uniform(network.most, network.cells)
        limit = float(self.options.get("max_error", 0.0))
        with torch.inference_mode():
            if limit > 0:
                return Codes(self._shortest(pixels, kept, noise, limit), network.alphabets, size, variable=True)
            encoded = network.encode(pixels, budget=kept, noise=noise)
        if encoded.tokens is not None:
            return Codes(encoded.tokens.cpu(), network.alphabets, size, variable=True)
        counted = getattr(torch, str(self.options.get("latent_dtype", "float16")))
        return Latents(encoded.latent_mean.to(counted).cpu(), size, network.channel_axis, variable=True)

    def _shortest(self, pixels: torch.Tensor, kept: int, noise: torch.Tensor | None, limit: float) -> torch.Tensor:
        """int64 (B, longest), -1 behind an image's end: the first rollout with an error below `limit`, else the best
        (adaptive_vqgan.py:140-181; upstream decides for a batch as a whole, here each image does)."""
        import torch

        best = torch.full((len(pixels),), torch.inf, device=self.device)
        out = torch.full((len(pixels), kept), -1, device=self.device)
        for latent in self.network.unroll(pixels, kept // self.network.each, noise=noise):
            tokens = self.network.encoded(latent).tokens
            picture = self.network.decode(tokens, size=(pixels.shape[2], pixels.shape[3]))
            error = (picture - pixels).abs().mean(dim=(1, 2, 3)).float()
            better = (best >= limit) & (error < best)
            out[better] = torch.nn.functional.pad(tokens[better], (0, kept - tokens.shape[1]), value=-1)
            best = torch.where(better, error, best)
            if bool((best < limit).all()):
                break
        return out[:, : int((out >= 0).sum(dim=1).max())].cpu()


def _build(card: Card, options: Mapping[str, Any]) -> AlitTokenizer:
    return AlitTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="alit",
    title="ALIT",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.alit:Alit",
    fixtures=("alit",),
)
