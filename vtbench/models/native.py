"""The one tokenizer that wraps every native network: tokens and ranges by the card, weights strictly by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models.fill import fill
from vtbench.models.network import build_network
from vtbench.models.noise import Seeded
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import torch


class NetworkTokenizer(Tokenizer):
    """A tokenizer whose network is native.

    Options: `latent_dtype` (continuous: the dtype in which latents are counted, default float16); `posterior` (mode, or
    sample: drawn with the image's seed, where the network has a posterior). A network's `latent_scale` brings its
    latents to the scale of its generators, in which they are counted. A decoder that takes noise says its
    `noise_shape`; it is drawn from the image's seed.
    """

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None, *, family: Family) -> None:
        super().__init__(card, options)
        if self.options.get("posterior", "mode") not in ("mode", "sample"):
            raise VtbenchError(f"posterior={self.options['posterior']!r} is not known: give mode or sample")
        self.family = family
        self.network: Any = None
        self._evaluations: float | None = None

    @property
    def arch(self) -> Mapping[str, Any]:
        if self.card.arch is None:
            raise VtbenchError(f"the card {self.card.name} states no arch")
        return self.card.arch

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        network = build_network(self.family, self.arch, random=False)
        self.place(fill(network, self.card, files), device, dtype)

    def place(self, network: Any, device: str, dtype: str) -> None:
        """Takes a filled network as this tokenizer's, on `device` in `dtype`, for inference."""
        import torch

        self.network = network.to(device=device, dtype=getattr(torch, dtype)).eval()
        self.network.requires_grad_(False)
        self.device, self.dtype = device, dtype

    def parameter_count(self) -> int | None:
        return None if self.network is None else sum(p.numel() for p in self.network.parameters())

    def cost(self) -> Mapping[str, float]:
        return {} if self._evaluations is None else {"nfe": self._evaluations}

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        low, high = self.network.value_range
        size = (int(images.shape[2]), int(images.shape[3]))
        pixels = (images * (high - low) + low).to(device=self.device, dtype=getattr(torch, self.dtype))
        with torch.inference_mode():
            encoded = self.network.encode(pixels, **self.encode_settings(size, seeds))
        if encoded.tokens is not None:
            grids = getattr(self.network, "grids", lambda size: ())(size)
            unordered = bool(getattr(self.network, "unordered", False))
            codes = encoded.tokens.long().cpu()
            return Codes(codes, tuple(self.network.alphabets), size, tuple(grids), unordered=unordered)
        latent = encoded.latent_mean if encoded.latent_mean is not None else encoded.quantized
        latent = latent * getattr(self.network, "latent_scale", 1.0)
        counted = getattr(torch, str(self.options.get("latent_dtype", "float16")))
        return Latents(latent.to(counted).cpu(), size, channel_axis=getattr(self.network, "channel_axis", 1))

    def encode_settings(self, size: tuple[int, int], seeds: Sequence[int]) -> dict[str, Any]:
        """What the network's `encode` gets beside pixels, for images of (height, width) `size`."""
        if self.options.get("posterior") != "sample":
            return {}
        shape, source = self.network.posterior_shape(size), Seeded(seeds)
        if hasattr(self.network, "noise_shape"):
            # The decoder's noise is what the seed gives first; the posterior's must not be the same.
            self._noise(shape, source)
        return {"noise": self._noise(shape, source)}

    def spelt(self, codes: Codes) -> torch.Tensor:
        """Indices (B, positions, books) in the network's own words."""
        return codes.indices

    def decode_settings(self, size: tuple[int, int], seeds: Sequence[int]) -> dict[str, Any]:
        """What the network's `decode` gets beside tokens: options of a sampler, and noise from the seeds.

        A family whose decoder takes further things (a text) adds them here.
        """
        settings = {n: self.options[n] for n in getattr(self.network, "sampler_options", ()) if n in self.options}
        shape, source = getattr(self.network, "noise_shape", lambda size: None)(size), Seeded(seeds)
        if shape is not None:
            settings["noise"] = self._noise(shape, source)
            if getattr(self.network, "noise_each_step", False):
                settings["step_noise"] = lambda: self._noise(shape, source)
        return settings

    def _noise(self, shape: tuple[int, ...], source: Seeded) -> torch.Tensor:
        """Standard normal (B, *shape), every image's from its own seed."""
        import torch

        return source.normal(*shape).to(device=self.device, dtype=getattr(torch, self.dtype))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        dtype = getattr(torch, self.dtype)
        if isinstance(tokens, Codes):
            latent = self.spelt(tokens).to(self.device)
            if latent.shape[2] == 1:
                latent = latent[..., 0]
        elif isinstance(tokens, Latents):
            latent = tokens.on(self.device, dtype) / getattr(self.network, "latent_scale", 1.0)
        else:
            raise VtbenchError(f"{self.card.name} decodes codes or latents, not {type(tokens).__name__}")
        settings = self.decode_settings(tokens.size, seeds)
        if hasattr(self.network, "evaluations"):
            self._evaluations = float(self.network.evaluations(**settings))
        low, high = self.network.value_range
        with torch.inference_mode():
            out = self.network.decode(latent, size=tokens.size, **settings)
        if getattr(self.network, "no_pixels", None) is not None:
            features: torch.Tensor = out.float()
            return features
        images: torch.Tensor = (out.float() - low) / (high - low)
        return images


class PrefixTokenizer(NetworkTokenizer):
    """A tokenizer whose leading positions decode without the others.

    The card's knob says how many an image keeps. They are paid for, and so is their number; the network gets them
    alone, tokens (B, kept[, books]) or latents with positions on axis 1, and knows what stands for the rest.
    """

    takes_budget = True

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        whole = super().encode(images, seeds)
        kept = self._kept(budget, whole.positions[0] or 0)
        if isinstance(whole, Codes):
            return replace(whole, indices=whole.indices[:, :kept].contiguous(), grids=(), variable=True)
        if isinstance(whole, Latents):
            return replace(whole, values=whole.values[:, :kept].contiguous(), variable=True)
        return whole

    def _kept(self, budget: float | None, most: int) -> int:
        wanted = float(self.options.get(self.card.knob or "", most) if budget is None else budget)
        if not (wanted.is_integer() and 1 <= wanted <= most):
            raise VtbenchError(
                f"{self.card.name}: {self.card.knob} is {wanted:g}, but an image has {most} tokens: "
                f"give a whole number from 1 to {most}"
            )
        return int(wanted)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        if len(set(tokens.positions)) > 1:
            # Each image as long as it is: the network knows no absent tokens.
            return torch.cat([self.decode(tokens[i], [seed]) for i, seed in enumerate(seeds)])
        return super().decode(tokens, seeds)
