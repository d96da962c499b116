"""A 2-D autoencoder with a quantizer in the middle: what its families share."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from vtbench.adapters.networks.parts.conv import check_size
from vtbench.adapters.networks.parts.quantizers import Grid, Quantizer
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError


class VQAutoencoder(nn.Module):
    """encoder -> quant_conv -> quantizer -> post_quant_conv -> decoder.

    Keys: encoder., decoder., `quantizer_name`., and quant_conv., post_quant_conv. where a family has them.
    """

    value_range: tuple[float, float] = (-1.0, 1.0)
    fixed_size: int | None = None
    optional: tuple[str, ...] = ()
    channel_axis: int = 1

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: Quantizer,
        *,
        downsample: int,
        convs: tuple[nn.Module, nn.Module] | None = None,
        quantizer_name: str = "quantize",
        latent_layout: Literal["NCHW", "NHWC"] = "NCHW",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.quant_conv, self.post_quant_conv = convs or (nn.Identity(), nn.Identity())
        self.add_module(quantizer_name, quantizer)
        self._quantizer_name = quantizer_name
        self.latent_layout = latent_layout
        self.downsample = downsample
        self.alphabets = quantizer.alphabets

    @property
    def bottleneck(self) -> Any:
        """The quantizer, whatever the checkpoint calls it."""
        return self.get_submodule(self._quantizer_name)

    def cells(self, size: tuple[int, int]) -> Grid:
        """(h, w) of the latent of an image of `size` pixels; raises VtbenchError if the network cannot take it."""
        check_size(*size, self.downsample)
        return size[0] // self.downsample, size[1] // self.downsample

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        """The raster grids of the positions of an image of `size` pixels."""
        grids: tuple[Grid, ...] = self.bottleneck.grids(self.cells(size))
        return grids

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, C, H, W) in `value_range`."""
        self.grids((x.shape[2], x.shape[3]))
        latent = self.quant_conv(self.encoder(x))
        tokens, quantized = self.bottleneck(latent)
        if self.latent_layout == "NHWC":
            latent, quantized = latent.permute(0, 2, 3, 1), quantized.permute(0, 2, 3, 1)
        return Encoded(tokens=tokens, pre_quant=latent, quantized=quantized)

    def looked_up(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """The latent (B, C, h, w) that tokens stand for, in the dtype of the decoder."""
        wanted = sum(h * w for h, w in self.grids(size))
        if tokens.shape[1] != wanted:
            raise VtbenchError(
                f"there are {tokens.shape[1]} tokens for an image of {size[0]} x {size[1]}, which needs {wanted}"
            )
        quantized: Tensor = self.bottleneck.lookup(tokens, self.cells(size))
        return quantized.to(next(self.decoder.parameters()).dtype)

    def decode(self, latent: Tensor, *, size: tuple[int, int]) -> Tensor:
        """latent: the tokens; returns (B, C, *size), unclamped."""
        out: Tensor = self.decoder(self.post_quant_conv(self.looked_up(latent, size)))
        return out
