"""HART's hybrid autoencoder: VAR's network, with or without what its codes leave over (arXiv:2410.10812).

mit-han-lab/hart @ e28a41f: hart/modules/models/autoencoder/{hart_autoencoder, quantize/hart_hybrid_quantize}.py.
Upstream's forward adds the whole rest unless a random number falls below skip_continuous_prob, which is 0 by default
(hart_hybrid_quantize.py:101-107): what it decodes then is the encoder's own latent. Here the two are two modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from vtbench.adapters.networks.parts.quantizers import Grid
from vtbench.adapters.networks.var import Var
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_PLAIN = "multi-scale residual vq"
_WITH_REST = f"{_PLAIN} with continuous rest"


class Hart(Var):
    """arch: VAR's (networks.var), quantizer.type as either of the two above, and mode.

    mode: "discrete" (or left out) sends the codes; "hybrid" codes and rest, whose sum is the latent (B, C, h, w).
    """

    quantizer_types = (_PLAIN, _WITH_REST)
    arch_defaults: ClassVar[Mapping[str, Any]] = {"mode": "discrete"}

    def __init__(self, arch: Mapping[str, Any]) -> None:
        mode = arch.get("mode") or self.arch_defaults["mode"]
        if mode not in ("discrete", "hybrid"):
            raise VtbenchError(f"arch.mode is {mode!r}, but must be 'discrete' or 'hybrid'")
        super().__init__({key: value for key, value in arch.items() if key != "mode"})
        self.takes_rest = arch["quantizer"]["type"] == _WITH_REST
        self.hybrid = mode == "hybrid"
        if self.hybrid:
            self._check_rest()
            self.alphabets = ()

    def _check_rest(self) -> None:
        if not self.takes_rest:
            raise VtbenchError(
                f"arch.quantizer.type is {_PLAIN!r}, whose decoder knows no continuous rest: decode the codes alone"
            )

    def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        """Of the codes, scale-major; of a hybrid's latent its one grid."""
        grids = super().grids(size)
        return grids[-1:] if self.hybrid else grids

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, C, H, W) in [-1, 1]."""
        if not self.hybrid:
            return super().encode(x)
        self.grids((x.shape[2], x.shape[3]))
        return Encoded(latent_mean=self.quant_conv(self.encoder(x)))

    def decode(self, latent: Tensor, *, size: tuple[int, int], residual: Tensor | None = None) -> Tensor:
        """latent: tokens, or a hybrid's (B, C, h, w). residual (B, C, h, w): what tokens leave over, added to them."""
        if not self.hybrid:
            if residual is None:
                return super().decode(latent, size=size)
            self._check_rest()
            latent = self.looked_up(latent, size) + residual
        cells = self.cells(size)
        if tuple(latent.shape[2:]) != cells:
            raise VtbenchError(
                f"the latent has {tuple(latent.shape[2:])} cells, but an image of {size[0]} x {size[1]} needs {cells}"
            )
        out: Tensor = self.decoder(self.post_quant_conv(latent))
        return out
