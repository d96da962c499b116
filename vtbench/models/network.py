"""Native networks: what one is, and how it is built from an `arch`.

A network is an `nn.Module` built from an `arch` alone (the configuration of the parity fixtures), whose parameter
names are upstream's. It speaks the value range and the latent layout of upstream; everything else (ranges, tokens as
`Codes` or `Latents`, loading, dtype) is done once, by `native.NetworkTokenizer`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vtbench.types.cards import Family
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch


@dataclass
class Encoded:
    """A batch as a network's encoder gives it.

    tokens: int64 (B, positions), (B, positions, books), or (B, positions, bits) of 0/1 for binary codes; None if
    continuous. pre_quant, quantized, latent_mean: as upstream has them, in upstream's layout; None where a family does
    not have them.
    """

    tokens: torch.Tensor | None = None
    pre_quant: torch.Tensor | None = None
    quantized: torch.Tensor | None = None
    latent_mean: torch.Tensor | None = None


class Network(Protocol):
    """The attributes and methods of a native network besides those of `nn.Module`."""

    value_range: tuple[float, float]
    """What `encode` takes and `decode` gives, e.g. (-1.0, 1.0)."""
    downsample: int | None
    """Image pixels per latent cell along a side: input sides must be multiples of it. None where tokens have no grid:
    then `positions` is their number, and `multiple`, if it is there, divides the sides."""
    fixed_size: int | None
    """The only image side that the network takes, or None."""
    # Only where the decoder is a sampler: `sampler_options` names the card's options that `decode` takes,
    # `noise_shape(size)` is the shape of an image's noise, `noise_each_step` says that `decode` draws more of it by
    # calling `step_noise`, and `evaluations(**settings)` is how often the decoder's network runs for an image.
    # Only where an arch may leave entries out: `arch_defaults` is what then stands for them, by name.
    # Only where `decode` gives features instead of pixels: `no_pixels` is the card's sentence on that.
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


def on_meta(family: Family, arch: Mapping[str, Any]) -> Any:
    """The family's network for `arch` on torch's meta device: names, shapes and facts without their memory."""
    import torch

    with torch.device("meta"):
        return build_network(family, arch, random=False)


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
