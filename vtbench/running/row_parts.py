"""Parts of an image's row and of what lies beside it: its rate, its times, what a model understood, its picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from vtbench.models.outputs import Output
from vtbench.types.reading import Reading
from vtbench.types.tokens import Tokens

if TYPE_CHECKING:
    import numpy as np
    import torch


def read_of(reading: Reading, index: int) -> dict[str, Any]:
    """What an image's row says of its reading beside the metrics' values."""
    rate = reading.rates[index]
    name = reading.classes[index] if reading.classes else None
    return {
        "of": rate.of,
        **({"class": name} if name is not None else {}),
        **({"by_layer": list(rate.by_layer)} if rate.by_layer else {}),
        **({"prefill": rate.prefill} if rate.prefill is not None else {}),
        **({"fallbacks": list(rate.fallbacks)} if rate.fallbacks else {}),
        **({"answer": reading.answers[index].as_dict()} if reading.answers else {}),
        **({"why": dict(reading.why)} if reading.why else {}),
    }


def bits_of(tokens: Tokens | None, images: int) -> np.ndarray[Any, Any] | None:
    """Bits an image, float64 (B,); the tiles of one image add up. None where nothing is sent."""
    if tokens is None:
        return None
    bits: np.ndarray[Any, Any] = tokens.bits().reshape(images, -1).sum(axis=1)
    return bits


def seconds_of(output: Output, images: int, warm_up: bool) -> dict[str, Any]:
    """An image's share of the batch's seconds; nothing for pictures that were made elsewhere."""
    if output.encode_seconds is None and output.decode_seconds is None:
        return {}
    out: dict[str, Any] = {
        "encode": None if output.encode_seconds is None else float(output.encode_seconds) / images,
        "decode": None if output.decode_seconds is None else float(output.decode_seconds) / images,
    }
    return {**out, "warm_up": True} if warm_up else out


def png(image: torch.Tensor) -> bytes:
    """uint8 (3, H, W) as the bytes of a PNG file."""
    from PIL import Image

    encoded = io.BytesIO()
    # A third of the time of the default level for a tenth more bytes: the model waits for these cores.
    Image.fromarray(image.cpu().permute(1, 2, 0).numpy()).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
