"""ICC profiles by hand (ICC.1:2001-04, matrix and curve), for tests that must not take a library's word for it."""

from __future__ import annotations

import struct

import numpy as np

P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
"""Columns of Display P3's matrix to XYZ at D50, as Apple's own profile has them."""
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""The same of sRGB (IEC 61966-2.1), as Hewlett-Packard's profile has them."""
ADOBE = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))


def linear(values: np.ndarray) -> np.ndarray:
    """sRGB's curve: 0..1 as stored to 0..1 of light."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def profile(name: str, columns: tuple[tuple[float, float, float], ...], gamma: float | None = None) -> bytes:
    """A display profile called `name`; gamma None is sRGB's curve."""
    if gamma is None:
        table = (linear(np.linspace(0, 1, 1024)) * 65535).round().astype(">u2").tobytes()
        curve = b"curv" + bytes(4) + struct.pack(">I", 1024) + table
    else:
        curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    text = name.encode("ascii") + b"\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    parts = [
        (b"desc", desc),
        (b"cprt", b"text" + bytes(4) + b"none\0"),
        (b"wtpt", _xyz((0.9642, 1.0, 0.8249))),
        *((tag, _xyz(column)) for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)),
        *((tag, curve) for tag in (b"rTRC", b"gTRC", b"bTRC")),
    ]
    place = 128 + 4 + 12 * len(parts)
    table, body = struct.pack(">I", len(parts)), b""
    for tag, data in parts:
        table += tag + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = place + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *_fixed((0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + table + body


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *_fixed(values))


def _fixed(values: tuple[float, float, float]) -> list[int]:
    return [round(v * 65536) for v in values]


def in_colours(rgb: np.ndarray, columns: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """uint8 of sRGB (H, W, 3) -> the same colours in the numbers of another space with sRGB's curve; numpy alone."""
    light = linear(rgb.astype(np.float64) / 255) @ np.array(SRGB) @ np.linalg.inv(np.array(columns))
    light = light.clip(0, 1)
    stored = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (stored * 255).round().astype(np.uint8)
