"""Protocols: the conventions that a number was made under, as data with a name and a fingerprint.

A protocol = view (filter, antialias, crop) + rounding + reference set + the metric that a paper's name stands for. The
views themselves are functions of `vtbench.images.FITS`; here stands what else differs. Standard library and cards only:
nothing imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vtbench.types.errors import VtbenchError, near

if TYPE_CHECKING:
    import torch

Rounding = Literal["round", "truncate", "truncate-both"]

ROUNDINGS: Mapping[Rounding, str] = {
    "round": "clamp, times 255, to the nearest integer: once, for the candidate alone",
    "truncate": "candidate times 255, cut to an integer (VTBench src/data_processing.py:80 for models in [0, 1])",
    "truncate-both": "candidate and original through float32 [-1, 1], times 255, cut to an integer: 95 of 256 grey "
    "levels of the original fall by one (SEED-Voken evaluation_image.py:239-240)",
}

ORIGINALS = "the originals of the same images at the same view"


@dataclass(frozen=True)
class Protocol:
    """`fit` is a name of images.FITS or "native"; `metrics` says which of our metrics a plain name means there."""

    name: str
    title: str
    fit: str
    source: str
    rounding: Rounding = "round"
    reference: str = ORIGINALS
    metrics: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def means(self, metric: str) -> str:
        """The metric of ours that this protocol's `metric` is."""
        return self.metrics.get(metric, metric)

    def fingerprint(self, size: int | None, metric: str) -> str:
        """16 hexadecimal digits over all that decides a number of `metric` at a view of `size` (None: native)."""
        from vtbench import registry
        from vtbench.images import View

        used = self.means(metric)
        view = View.parse("native" if size is None else str(size), self.fit)
        version = registry.card_of(registry.metrics().get(used)).version
        return fingerprint(view.fingerprint(), used, version, self.rounding, self.reference)


def fingerprint(view: str, metric: str, version: int, rounding: Rounding = "round", reference: str = ORIGINALS) -> str:
    """16 hexadecimal digits over a view's fingerprint, rounding, reference set, metric and its version."""
    text = json.dumps(
        {"view": view, "rounding": rounding, "reference": reference, "metric": metric, "version": version},
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_ALL = (
    Protocol(
        "vtbench",
        "vtbench's default",
        "vtbench",
        "ADM's centre crop (guided-diffusion image_datasets.py, center_crop_arr), one rounding, canonical metrics",
    ),
    Protocol(
        "titok",
        "1d-tokenizer, One-D-Piece, MaskBit's lineage",
        "titok",
        "bytedance/1d-tokenizer 942a96f: Resize(BICUBIC), CenterCrop; evaluator/evaluator.py, TF1-like Inception",
    ),
    Protocol(
        "llamagen",
        "LlamaGen and papers that copied its evaluator",
        "llamagen",
        "FoundationVision/LlamaGen ce98ec4 tokenizer/tokenizer_image/reconstruction_vq_ddp.py:142-146",
        reference="ImageNet validation at the same view (val_ddp.py); 4.28 instead of 2.19 against the training set",
        metrics={"ssim": "ssim-range2"},
        note="skimage's 7 x 7 window with data_range=2.0 on [0, 1] images; ADM's TensorFlow evaluator for rFID",
    ),
    Protocol(
        "var",
        "VAR",
        "var",
        "FoundationVision/VAR utils/data.py:23-25: Resize(1.125 size, LANCZOS), CenterCrop; rFID code not published",
        note="the scored picture is the inner 79 % of the other crops: a different picture, not only a filter",
    ),
    Protocol(
        "magvit2",
        "Open-MAGVIT2, IBQ (SEED-Voken), WeTok",
        "magvit2",
        "TencentARC/SEED-Voken b9a17ea Open_MAGVIT2/data/base.py:33-37; evaluation_image.py:230-251",
        rounding="truncate-both",
        metrics={"ssim": "ssim-uniform7", "rfid": "rfid-bilinear"},
        note="rFID there is taken on unrounded floats, means are means of batch means: neither is repeated here",
    ),
    Protocol(
        "clean",
        "clean-fid",
        "clean",
        "GaParmar/clean-fid e88c4d6 cleanfid/resize.py, mode clean: Pillow bicubic on floats",
        metrics={"rfid": "rfid-clean", "fid": "rfid-clean"},
    ),
    Protocol("native", "pictures as they are", "native", "no resize, no crop; multiples are reached by padding"),
)

PROTOCOLS: Mapping[str, Protocol] = {p.name: p for p in _ALL}


def get(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise VtbenchError(f"there is no protocol {name!r}{near(name, PROTOCOLS)}: choose {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def truncate(images: torch.Tensor) -> torch.Tensor:
    """float (…) in [0, 1] or uint8 -> uint8, cut instead of rounded; uint8 comes back as it is."""
    import torch

    return images if images.dtype == torch.uint8 else (images.float().clamp(0, 1) * 255).to(torch.uint8)


def truncate_through_range(images: torch.Tensor) -> torch.Tensor:
    """uint8 or float in [0, 1] -> uint8 by way of float32 in [-1, 1], cut instead of rounded.

    uint8 goes in as SEED-Voken reads it (IBQ/data/base.py: image / 127.5 - 1 in float64, then float32).
    """
    import torch

    if images.dtype == torch.uint8:
        ranged = (images.double() / 127.5 - 1).float()
    else:
        ranged = images.float().clamp(0, 1) * 2 - 1
    return ((ranged + 1) / 2 * 255).to(torch.uint8)


def rounded(original: torch.Tensor, candidate: Any, rounding: Rounding) -> tuple[torch.Tensor, torch.Tensor]:
    """(original, candidate) as the uint8 pixels that `rounding` compares; original uint8, candidate float or uint8."""
    import torch

    from vtbench.images import to_uint8

    if rounding == "truncate-both":
        return truncate_through_range(original), truncate_through_range(candidate)
    if rounding == "truncate":
        return original, truncate(candidate)
    return original, candidate if candidate.dtype == torch.uint8 else to_uint8(candidate)
