"""Conditions: how a published number was made, as far as its source states it, field by field. Standard library only.

Two numbers may stand side by side where one's conditions are met by the other; what a source leaves open is None, and
is never filled in by a guess. The same fields say how a run's own number was made (vtbench.reporting.claims) and which
of them a choice decides (vtbench.explaining.choices), so that the three can be compared.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["training", "validation", "test"]
Order = Literal["resize first", "crop first", "no crop"]
"""Which comes first: the resize of the shorter side, or the cut to a square. "no crop": the whole picture is squeezed
into the square, and its aspect ratio is lost."""
Resampling = Literal["adm", "bicubic", "bilinear", "lanczos"]
"""The filter of the resize; "adm": halvings by BOX, then bicubic (guided-diffusion's image_datasets.py)."""
Rounding = Literal["round", "truncate", "truncate-both"]
ORIGINAL: Literal["original"] = "original"
"""The size of pictures that stay as they are."""


@dataclass(frozen=True)
class Square:
    """How a picture becomes the square that is scored. antialias: the filter grows with the reduction, as Pillow's
    does; without, it reads its few samples however far apart they lie (torch's F.interpolate). enlargement: the
    shorter side is made so many times the square's before the cut."""

    order: Order
    resampling: Resampling
    antialias: bool = True
    enlargement: float = 1.0


SQUARES: Mapping[str, Square] = {
    "vtbench": Square("resize first", "adm"),
    "titok": Square("resize first", "bicubic"),
    "llamagen": Square("resize first", "adm"),
    "var": Square("resize first", "lanczos", enlargement=1.125),
    "magvit2": Square("resize first", "bilinear"),
    "clean": Square("resize first", "bicubic"),
    "lanczos": Square("resize first", "lanczos"),
    "torch-bicubic": Square("resize first", "bicubic", antialias=False),
    "torch-bilinear": Square("resize first", "bilinear", antialias=False),
    "crop-bicubic": Square("crop first", "bicubic"),
    "crop-bilinear": Square("crop first", "bilinear"),
    "crop-lanczos": Square("crop first", "lanczos"),
    "stretch-bicubic": Square("no crop", "bicubic"),
}
"""By the name of the protocol; `native` has none. The functions stand in vtbench.images.fits."""


@dataclass(frozen=True)
class Conditions:
    """What is stated of a number's making. `text` is the source's statement in words; every other field is read from
    it (or from the claim's note) and is None where it says nothing."""

    text: str | None = None
    dataset: str | None = None
    """The images that were reconstructed, or that a generator was trained to draw: "ImageNet", "COCO 2017"."""
    split: Split | None = None
    images: int | None = None
    """How many images were scored (or drawn)."""
    size: int | Literal["original"] | None = None
    """Side in pixels of the square that was scored; "original": pictures as they are."""
    model_size: int | None = None
    """Side in pixels of what the model was given, where it was resized there and back."""
    order: Order | None = None
    resampling: Resampling | None = None
    antialias: bool | None = None
    enlargement: float | None = None
    rounding: Rounding | None = None
    data_range: float | None = None
    """The peak of the formula over the true range of the values: 1 is right; 2 is `data_range=2` on values in [0, 1];
    0.5 is `data_range=1` on values in [-1, 1]."""
    window: Literal["gaussian", "uniform"] | None = None
    """SSIM's: Gaussian 11 x 11, or uniform 7 x 7 with sample covariance."""
    colour: Literal["rgb", "luma"] | None = None
    reduction: Literal["mean", "pooled"] | None = None
    """PSNR's: the mean of the images' values, or one value of the pooled squared error."""
    network: str | None = None
    """LPIPS's backbone: alex, vgg, squeeze."""
    inception_resize: Literal["tf1", "clean", "bilinear"] | None = None
    """How pictures reach 299 x 299 before Inception."""
    evaluator: str | None = None
    """The program that gave the number, by name: "ADM", "clean-fid"."""
    reference: str | None = None
    """The set that a distance of sets is taken against: "ImageNet validation", "ImageNet training"."""
    reference_images: int | None = None
    averaged: bool | None = None
    """Weights: the averaged copy (EMA), or the raw one."""
    options: tuple[tuple[str, Any], ...] = ()
    """Options of the model, by our names."""
    named: str | None = None
    """A protocol of vtbench's by its name, which states the square, the rounding and what plain names mean."""
    other: tuple[str, ...] = ()
    """What is stated and has no field here: no run can show that it meets it."""

    def stated(self) -> dict[str, Any]:
        """{field: what it says} of all that is not open, the words aside."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if name != "text" and value not in (None, ())}

    def contradicted_by(self, facts: Mapping[str, Any]) -> list[str]:
        """The stated fields of which `facts` says something else; what either leaves open contradicts nothing."""
        return [name for name, value in self.stated().items() if facts.get(name) not in (None, (), value)]

    def in_common(self, other: Conditions) -> Conditions:
        """What both state alike; the rest is open."""
        mine, theirs = ({f.name: getattr(c, f.name) for f in dataclasses.fields(c)} for c in (self, other))
        alike: dict[str, Any] = {name: fact for name, fact in mine.items() if theirs[name] == fact}
        return Conditions(**alike)


EVALUATORS: Mapping[str, str] = {"ADM": "tf1", "clean-fid": "clean"}
"""Programs whose resize before Inception is known: guided-diffusion's evaluator.py (the TensorFlow graph itself) and
cleanfid/resize.py."""
OPEN_IN_WORDS: Mapping[str, str] = {
    "dataset": "the images",
    "split": "the split",
    "images": "how many images",
    "size": "the size",
    "order": "crop or resize first",
    "resampling": "the filter of the resize",
    "antialias": "antialiasing",
    "rounding": "the rounding",
    "data_range": "the data range",
    "window": "SSIM's window",
    "colour": "colour or luma",
    "reduction": "mean or pooled",
    "network": "LPIPS's network",
    "inception_resize": "the resize before Inception",
    "reference": "the reference set",
    "averaged": "which copy of the weights",
}
"""Fields that a reader looks for, as a sentence names them."""
PLAIN_NAMES: Mapping[str, str] = {"lpips": "lpips-alex", "fid": "rfid"}
"""Names that papers use of tokenizers for metrics of ours."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def validation(
    dataset: str,
    size: int | Literal["original"],
    images: int | None = None,
    *,
    split: Split = "validation",
    model_size: int | None = None,
    **stated: Any,
) -> Conditions:
    """The conditions of most tables: a split of a data set at a size, in the words that cards share."""
    count = "" if images is None else f" {images // 1000}k" if images % 1000 == 0 else f" {images}"
    side = "original resolution" if size == ORIGINAL else f"{size} x {size}"
    back = "" if model_size is None else f"{model_size} x {model_size} resized back to "
    text = f"{dataset} {split}{count}, {back}{side}"
    return Conditions(text, dataset, split, images, size, model_size, **stated)


def against(dataset: str, split: Split, size: int) -> Conditions:
    """The conditions of an rFID whose source names the set that it is taken against, and not what was reconstructed."""
    return Conditions(
        f"rFID against the {dataset} {split} set, {size} x {size}", size=size, reference=f"{dataset} {split}"
    )


def samples(evaluator: str, images: int, *further: str, **stated: Any) -> Conditions:
    """The conditions of most numbers of generators: a program's, of so many drawn images. further: what else the source
    says in words, of which `stated` holds the fields; without any, it has none."""
    text = ", ".join([evaluator, f"{images // 1000}k samples", *further])
    stated = stated or {"other": further}
    return Conditions(text, images=images, evaluator=evaluator, **stated)


def conditions_of(stated: Any) -> Conditions | None:
    """From a card or a record: the record itself, its JSON, or the free text of older cards, of which a single word is
    a protocol of vtbench's by name and a sentence is only its own words. Unknown keys of a newer record are dropped."""
    if stated is None or isinstance(stated, Conditions):
        return stated
    if isinstance(stated, str):
        return _of_text(stated)
    if not isinstance(stated, Mapping):
        return None
    known = {f.name for f in dataclasses.fields(Conditions)}
    fields = {name: value for name, value in stated.items() if name in known}
    pairs, others = (_sequence(fields.get(name)) for name in ("options", "other"))
    fields["options"] = tuple((str(p[0]), p[1]) for p in pairs if isinstance(p, list | tuple) and len(p) == 2)
    fields["other"] = tuple(map(str, others))
    return Conditions(**fields)


def _of_text(text: str) -> Conditions:
    """The words alone; with fields where they are, word for word, what `validation`, `against` or `samples` writes."""
    if _NAME.fullmatch(text):
        return Conditions(text, named=text)
    for form, read in _FORMS:
        parts = form.fullmatch(text)
        if parts is not None and (conditions := read(parts.groupdict())).text == text:
            return conditions
    return Conditions(text)


def _whole(digits: str | None) -> int | None:
    """50k, 5000 -> a number; None stays None."""
    return None if digits is None else int(digits.removesuffix("k")) * (1000 if digits.endswith("k") else 1)


_FORMS: tuple[tuple[re.Pattern[str], Callable[[dict[str, Any]], Conditions]], ...] = (
    (
        re.compile(
            r"(?P<dataset>[\w -]+?) (?P<split>training|validation|test)(?: (?P<images>\d{1,9}k?))?, "
            r"(?:(?P<model>\d{1,5}) x \d+ resized back to )?(?:(?P<size>\d{1,5}) x \d+|original resolution)"
        ),
        lambda p: validation(
            p["dataset"],
            ORIGINAL if p["size"] is None else int(p["size"]),
            _whole(p["images"]),
            split=p["split"],
            model_size=_whole(p["model"]),
        ),
    ),
    (
        re.compile(
            r"rFID against the (?P<dataset>[\w -]+) (?P<split>training|validation|test) set, (?P<size>\d{1,5}) x .*"
        ),
        lambda p: against(p["dataset"], p["split"], int(p["size"])),
    ),
    (
        re.compile(r"(?P<evaluator>ADM), (?P<images>\d{1,6}k) samples"),
        lambda p: samples(p["evaluator"], _whole(p["images"]) or 0),
    ),
)


def _sequence(stated: Any) -> Sequence[Any]:
    return stated if isinstance(stated, list | tuple) else ()
