"""Protocols: the conventions that a number was made under, as data with a name.

A protocol = view (filter, antialias, crop) + rounding + reference set + the metric that a paper's name stands for. This
is the one table of them; `vtbench.scoring.fingerprint` gives 16 digits over all that decides a number. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vtbench.images.fits import Fit, fit
from vtbench.types.conditions import Rounding
from vtbench.types.errors import VtbenchError, near

ORIGINALS = "the originals of the same images at the same view"


@dataclass(frozen=True)
class Protocol:
    """`crop` makes the square that is scored (None: pictures stay as they are); `metrics` says which of our metrics a
    plain name means there."""

    name: str
    title: str
    crop: Fit | None
    source: str
    rounding: Rounding = "round"
    reference: str = ORIGINALS
    metrics: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def fit(self) -> str:
        """The name by which `View.parse` finds the fit."""
        return self.name

    def means(self, metric: str) -> str:
        """The metric of ours that this protocol's `metric` is."""
        return self.metrics.get(metric, metric)


_LSUN = "CompVis/latent-diffusion ldm/data/lsun.py: the centre square of the shorter side, then Pillow's resize"


def _view(name: str, title: str, source: str) -> Protocol:
    """A way to make the square that no one project stands for; all else as in the default."""
    return Protocol(name, title, fit(name, source), source)


_ALL = (
    Protocol(
        "vtbench",
        "vtbench's default",
        fit("vtbench", "openai/guided-diffusion guided_diffusion/image_datasets.py, center_crop_arr"),
        "ADM's centre crop (guided-diffusion image_datasets.py, center_crop_arr), one rounding, canonical metrics",
    ),
    Protocol(
        "titok",
        "1d-tokenizer, One-D-Piece, MaskBit's lineage",
        fit("titok", "bytedance/1d-tokenizer data/webdataset_reader.py: Resize(BICUBIC), CenterCrop"),
        "bytedance/1d-tokenizer 942a96f: Resize(BICUBIC), CenterCrop; evaluator/evaluator.py, TF1-like Inception",
    ),
    Protocol(
        "llamagen",
        "LlamaGen and papers that copied its evaluator",
        fit("llamagen", "FoundationVision/LlamaGen tokenizer/tokenizer_image/reconstruction_vq_ddp.py: ADM's crop"),
        "FoundationVision/LlamaGen ce98ec4 tokenizer/tokenizer_image/reconstruction_vq_ddp.py:142-146",
        reference="ImageNet validation at the same view (val_ddp.py); 4.28 instead of 2.19 against the training set",
        metrics={"ssim": "ssim-range2"},
        note="skimage's 7 x 7 window with data_range=2.0 on [0, 1] images; ADM's TensorFlow evaluator for rFID",
    ),
    Protocol(
        "var",
        "VAR",
        fit("var", "FoundationVision/VAR utils/data.py:23-25: Resize(1.125 size, LANCZOS), CenterCrop"),
        "FoundationVision/VAR utils/data.py:23-25: Resize(1.125 size, LANCZOS), CenterCrop; rFID code not published",
        note="the scored picture is the inner 79 % of the other crops: a different picture, not only a filter",
    ),
    Protocol(
        "magvit2",
        "Open-MAGVIT2, IBQ (SEED-Voken), WeTok",
        fit(
            "magvit2",
            "TencentARC/SEED-Voken src/Open_MAGVIT2/data/base.py:33-37: Resize(bilinear), CenterCrop; "
            "evaluation_image.py:239",
        ),
        "TencentARC/SEED-Voken b9a17ea Open_MAGVIT2/data/base.py:33-37; evaluation_image.py:230-251",
        rounding="truncate-both",
        metrics={"ssim": "ssim-uniform7", "rfid": "rfid-bilinear"},
        note="rFID there is taken on unrounded floats, means are means of batch means: neither is repeated here",
    ),
    Protocol(
        "clean",
        "clean-fid",
        fit("clean", "GaParmar/clean-fid cleanfid/resize.py: PIL bicubic; CenterCrop as torchvision"),
        "GaParmar/clean-fid e88c4d6 cleanfid/resize.py, mode clean: Pillow bicubic on floats",
        metrics={"rfid": "rfid-clean", "fid": "fid-clean"},
    ),
    _view("lanczos", "LANCZOS, then centre crop", "torchvision Resize(LANCZOS), CenterCrop on Pillow images"),
    _view(
        "torch-bicubic",
        "bicubic without antialias, then centre crop",
        "torch.nn.functional.interpolate(mode='bicubic', align_corners=False, antialias=False); torchvision's Resize "
        "of tensors before 0.17",
    ),
    _view(
        "torch-bilinear",
        "bilinear without antialias, then centre crop",
        "torch.nn.functional.interpolate(mode='bilinear', align_corners=False, antialias=False); torchvision's Resize "
        "of tensors before 0.17",
    ),
    _view("crop-bicubic", "centre crop before the resize, bicubic", _LSUN),
    _view("crop-bilinear", "centre crop before the resize, bilinear", _LSUN),
    _view("crop-lanczos", "centre crop before the resize, LANCZOS", _LSUN),
    _view("stretch-bicubic", "no crop: squeezed into the square, bicubic", "torchvision Resize((size, size), BICUBIC)"),
    Protocol("native", "pictures as they are", None, "no resize, no crop; multiples are reached by padding"),
)

PROTOCOLS: Mapping[str, Protocol] = {p.name: p for p in _ALL}


def get(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise VtbenchError(f"there is no protocol {name!r}{near(name, PROTOCOLS)}: choose {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
