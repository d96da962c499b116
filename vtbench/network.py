"""Native networks and the one tokenizer that wraps them all.

A network is an `nn.Module` built from an `arch` alone (the configuration of the parity fixtures), whose parameter
names are upstream's. It speaks the value range and the latent layout of upstream; everything else (ranges, tokens as
`Codes` or `Latents`, loading, dtype) is done once, here.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import torch


@dataclass
class Encoded:
    """What a network's encoder made of a batch.

    tokens: int64 (B, positions), (B, positions, books), or (B, positions, bits) of 0/1 for binary codes; None if
    continuous. pre_quant, quantized, latent_mean: as upstream has them, in upstream's layout; None where a family has
    no such thing. side: further arrays that decoding needs and that are therefore part of the tokens (counted as
    float16 latents by the adapter that has them).
    """

    tokens: torch.Tensor | None = None
    pre_quant: torch.Tensor | None = None
    quantized: torch.Tensor | None = None
    latent_mean: torch.Tensor | None = None


class Network(Protocol):
    """The attributes and methods of a native network besides those of `nn.Module`."""

    value_range: tuple[float, float]
    """What `encode` takes and `decode` gives, e.g. (-1.0, 1.0)."""
    downsample: int
    """Image pixels per latent cell along a side: input sides must be multiples of it."""
    fixed_size: int | None
    """The only image side that the network takes, or None."""
    alphabets: tuple[int, ...]
    """Alphabet of every book (2 for every bit of a binary code); () if continuous."""
    optional: tuple[str, ...]
    """Entries of official files that inference does not need: exact names, or prefixes that end in a dot."""

    def __init__(self, arch: Mapping[str, Any]) -> None: ...

    def encode(self, x: torch.Tensor, **settings: Any) -> Encoded:
        """x: float32 (B, 3, H, W) in `value_range`."""

    def decode(self, latent: torch.Tensor, *, size: tuple[int, int], **settings: Any) -> torch.Tensor:
        """From `tokens` (discrete, binary) or `latent_mean` (continuous) alone, to (B, 3, *size), unclamped.

        Settings are those of a fixture's `decode` entry that are not null: noise (array), steps, guidance, schedule, …
        """


def load_class(path: str) -> Any:
    """The object that "package.module:Name" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def build_network(family: Family, arch: Mapping[str, Any], *, random: bool = True) -> Any:
    """The family's network for `arch`, in eval mode, unfilled.

    random=False leaves out the random initialisation, which takes longer than loading and is overwritten.
    """
    if family.network is None:
        raise VtbenchError(f"the family {family.name} has no native network: its models come through a library")
    with contextlib.nullcontext() if random else _no_initialisation():
        return load_class(family.network)(arch).eval()


@contextlib.contextmanager
def _no_initialisation() -> Iterator[None]:
    """Layers are made as usual, with memory but without random numbers; buffers are computed as always."""
    from torch import nn

    layers = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Embedding)
    kept = {layer: layer.reset_parameters for layer in layers}
    try:
        for layer in layers:
            layer.reset_parameters = lambda self: None  # type: ignore[method-assign]
        yield
    finally:
        for layer, method in kept.items():
            layer.reset_parameters = method  # type: ignore[method-assign]


class NetworkTokenizer(Tokenizer):
    """A tokenizer whose network is native: tokens and ranges by the card, weights loaded strictly by name.

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

    @property
    def arch(self) -> Mapping[str, Any]:
        if self.card.arch is None:
            raise VtbenchError(f"the card {self.card.name} states no arch")
        return self.card.arch

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        import torch

        from vtbench import weights

        network = build_network(self.family, self.arch, random=False)
        self.network = weights.fill(network, self.card, files).to(device=device, dtype=getattr(torch, dtype)).eval()
        self.network.requires_grad_(False)
        self.device, self.dtype = device, dtype

    def parameter_count(self) -> int | None:
        return None if self.network is None else sum(p.numel() for p in self.network.parameters())

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        low, high = self.network.value_range
        size = (int(images.shape[2]), int(images.shape[3]))
        x = (images * (high - low) + low).to(device=self.device, dtype=getattr(torch, self.dtype))
        settings: dict[str, Any] = {}
        if self.options.get("posterior") == "sample":
            settings["noise"] = self._noise(self.network.posterior_shape(size), seeds)
        with torch.inference_mode():
            made = self.network.encode(x, **settings)
        if made.tokens is not None:
            grids = getattr(self.network, "grids", lambda size: ())(size)
            return Codes(made.tokens.long().cpu(), tuple(self.network.alphabets), size, tuple(grids))
        latent = made.latent_mean if made.latent_mean is not None else made.quantized
        latent = latent * getattr(self.network, "latent_scale", 1.0)
        counted = getattr(torch, str(self.options.get("latent_dtype", "float16")))
        return Latents(latent.to(counted).cpu(), size, channel_axis=getattr(self.network, "channel_axis", 1))

    def _noise(self, shape: tuple[int, ...], seeds: Sequence[int]) -> torch.Tensor:
        """Standard normal (B, *shape), every image's from its own seed."""
        import torch

        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(drawn).to(device=self.device, dtype=getattr(torch, self.dtype))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        dtype = getattr(torch, self.dtype)
        if isinstance(tokens, Codes):
            given = tokens.indices.to(self.device)
            if given.shape[2] == 1:
                given = given[..., 0]
        elif isinstance(tokens, Latents):
            given = tokens.values.to(device=self.device, dtype=dtype) / getattr(self.network, "latent_scale", 1.0)
        else:
            raise VtbenchError(f"{self.card.name} decodes codes or latents, not {type(tokens).__name__}")
        settings: dict[str, Any] = {}
        shape = getattr(self.network, "noise_shape", lambda size: None)(tokens.size)
        if shape is not None:
            settings["noise"] = self._noise(shape, seeds)
        low, high = self.network.value_range
        with torch.inference_mode():
            out = self.network.decode(given, size=tokens.size, **settings)
        images: torch.Tensor = (out.float() - low) / (high - low)
        return images
