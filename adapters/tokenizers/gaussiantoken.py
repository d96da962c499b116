"""GaussianToken: Gaussians whose features have codes; where they stand and how they lie is counted beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch

_SOURCES = stated(
    "ChrisDong-THU/GaussianToken@8337223",
    licence="has no licence file",
    trained_on="README.md:111-112",
    arch="configs/in-gqgan-1.yaml, configs/cifar-gqgan-1.yaml",
    weights="README.md:111-112",
)

_README = "GaussianToken README (arXiv:2501.15619)"
_LICENCE = "none stated (the repository has no licence file)"
_HALF = 2**16
"""Values of 16 bits: the alphabet of a book that holds a number of the geometry, or half of one."""
_NUMBERS = {"means": 2, "scales": 2, "rotations": 1}
"""Numbers of a Gaussian's geometry, in the order of the books; `opacities` (1) follow where a network has them."""
_BOOKS = {"float16": 1, "bfloat16": 1, "float32": 2}
"""Books of 16 bits that a number takes in each dtype."""


class GaussianTokenizer(NetworkTokenizer):
    """Book 0 is the feature's code; the others are the bits of the geometry's floats, 16 a book, low half first.

    Option `geometry_dtype`: float16 (default), bfloat16 or float32 (upstream's). Each image is encoded alone: the bits
    of a float show the rounding of a sum, and that depends on the size of a batch.
    """

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None, *, family: Family) -> None:
        dtype = {**card.options, **(options or {})}.get("geometry_dtype", "float16")
        if dtype not in _BOOKS:
            raise VtbenchError(f"geometry_dtype={dtype!r} is not known: give {', '.join(_BOOKS)}")
        if card.alphabets:
            numbers = sum(_NUMBERS.values()) + bool((card.arch or {}).get("opacity"))
            card = replace(card, alphabets=(card.alphabets[0], *[_HALF] * (numbers * _BOOKS[dtype])))
        super().__init__(card, options, family=family)
        self.geometry_dtype = str(dtype)

    @property
    def numbers(self) -> Mapping[str, int]:
        return {**_NUMBERS, **({"opacities": 1} if self.network.opacity else {})}

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        return Codes.join([self._encode_one(images[i : i + 1]) for i in range(len(images))])

    def _encode_one(self, image: torch.Tensor) -> Codes:
        import torch

        low, high = self.network.value_range
        pixels = (image * (high - low) + low).to(device=self.device, dtype=getattr(torch, self.dtype))
        with torch.inference_mode():
            encoded = self.network.encode(pixels)
        geometry = torch.cat([getattr(encoded.geometry, name) for name in self.numbers], dim=2)
        codes = encoded.tokens.long()[..., None].cpu()
        books = torch.cat([codes, to_books(geometry.cpu(), self.geometry_dtype)], dim=2)
        sets = (*self.network.alphabets, *[_HALF] * (books.shape[2] - 1))
        return Codes(books, sets, (int(image.shape[2]), int(image.shape[3])))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        wanted = 1 + sum(self.numbers.values()) * _BOOKS[self.geometry_dtype]
        if not isinstance(tokens, Codes) or tokens.indices.shape[2] != wanted:
            raise VtbenchError(
                f"{self.card.name} decodes codes of {wanted} books (geometry in {self.geometry_dtype}): give tokens "
                "that it made with the same geometry_dtype"
            )
        geometry = from_books(tokens.indices[..., 1:], self.geometry_dtype)
        parts = geometry.to(self.device).split(list(self.numbers.values()), 2)
        settings = dict(zip(self.numbers, parts, strict=True))
        low, high = self.network.value_range
        with torch.inference_mode():
            out = self.network.decode(tokens.indices[..., 0].to(self.device), size=tokens.size, **settings)
        images: torch.Tensor = (out.float() - low) / (high - low)
        return images


def to_books(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """Floats (B, N, numbers) as int64 (B, N, books), the 16 bits of a half of each number's `dtype` in a book."""
    import torch

    bits = values.to(getattr(torch, dtype)).contiguous().view(torch.int16)
    return bits.long() % _HALF


def from_books(books: torch.Tensor, dtype: str) -> torch.Tensor:
    """The inverse of `to_books`, in float32; raises VtbenchError if the bits are no finite numbers."""
    import torch

    signed = torch.where(books >= _HALF // 2, books - _HALF, books).to(torch.int16)
    values = signed.contiguous().view(getattr(torch, dtype)).float()
    if not bool(torch.isfinite(values).all()):
        raise VtbenchError("the geometry in these tokens holds NaN or infinity: they are damaged")
    return values


def _conv(multipliers: Sequence[int], channels: int) -> dict[str, Any]:
    return {"ch": 128, "ch_mult": list(multipliers), "num_res_blocks": 4, "z_channels": channels, "resolution": 128}


def _arch(grid: int, multipliers: Sequence[int], count: int, channels: int) -> dict[str, Any]:
    """`grid`: side of the map that is drawn."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "feature_grid": [grid, grid],
        "z_channels": channels,
        "embed_dim": 64,
        "num_gaussians": count,
        "xy_range": [-1, 1],
        "initial_scale_range": [0.1, 4.0],
        "final_scale_range": [0.1, 3.0],
        "opacity": False,
        "encoder": _conv(multipliers, 64),
        "decoder": _conv(multipliers, channels),
        "attention": {
            "heads": 4,
            "points": 4,
            "levels": 1,
            "activation": "relu",
            "encoder_layers": 2,
            "decoder_layers": 2,
            "residual": "cat",
        },
        "ffn": {"layers": 2, "pre_norm": True},
        "refine_state": [0, 1],
        "operation_order": ["cross_attn", "ffn", "refine"] * 3,
        "share_layers": False,
        "quantizer": {"type": "vq", "codebook_size": 1024, "embed_dim": channels, "l2_norm": False},
    }


def _card(
    name: str, title: str, side: int, grid: int, multipliers: Sequence[int], *, count: int, channels: int, **card: Any
) -> Card:
    """`name` is the folder of the hub; `side` of the pictures, `grid` of the map that is drawn."""
    kind, rest = name.split("-gqgan-")
    return Card(
        name=f"gaussiantoken-{kind}-{rest}",
        family="gaussiantoken",
        kind="discrete",
        title=title,
        sizes=Fixed(side),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2501.15619",
        code="https://github.com/ChrisDong-THU/GaussianToken",
        sources=_SOURCES,
        # The hub's folder of this name holds one Lightning checkpoint, under a name that is stated nowhere: it comes
        # with --checkpoint. Upstream evaluates the averaged copies (gqgan.py:193).
        weights=(
            Weights(
                file=f"{name}.ckpt",
                hub="McNu1ty/GaussianToken",
                key=("state_dict",),
                licence=_LICENCE,
                ema=True,
            ),
        ),
        tokens_at_256=count,
        alphabets=(1024, *[_HALF] * sum(_NUMBERS.values())),
        latent_channels=channels,
        value_range=(-1.0, 1.0),
        options={"geometry_dtype": "float16"},
        arch=_arch(grid, multipliers, count, channels),
        aliases=(f"gaussiantoken_{kind}_{rest.replace('-', '_')}",),
        note=(
            "Only the feature of a Gaussian is quantized: mean, scales and rotation are five floats beside the code, "
            "counted in geometry_dtype (upstream: float32)."
        ),
        **card,
    )


CARDS = (
    _card(
        "in-gqgan-gs256-cb1024",
        "GaussianToken, 256 Gaussians, ImageNet",
        256,
        32,
        (1, 2, 2, 4),
        count=256,
        channels=8,
        trained_on=("ImageNet-1k",),
        published=(Published("rfid", 1.61, _README, validation("ImageNet", 256, 50_000)),),
    ),
    _card(
        "cifar-gqgan-gs64-cb1024",
        "GaussianToken, 64 Gaussians, CIFAR-100",
        32,
        16,
        (1, 2),
        count=64,
        channels=3,
        trained_on=("CIFAR-100",),
        published=(Published("rfid", 12.94, _README, validation("CIFAR-100", 32, split="test")),),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return GaussianTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="gaussiantoken",
    title="GaussianToken",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.gaussiantoken:GaussianToken",
    fixtures=("gaussiantoken",),
)
