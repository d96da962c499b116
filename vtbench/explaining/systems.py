"""What is explained: a model, saved pictures, or a run, with the originals and the views that it can be scored at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vtbench.images.opening import open_of_task, open_suite
from vtbench.images.pairing import check_pairs, size_of
from vtbench.images.protocols import PROTOCOLS
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.models.again import again, originals
from vtbench.models.load import Loaded, load
from vtbench.models.pictures import SavedPictures
from vtbench.models.system import System
from vtbench.reporting.runs import protocol, view_name
from vtbench.results.record import read_run
from vtbench.types.cards import Card, Fixed
from vtbench.types.conditions import ORIGINAL, Rounding
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

OF_MODELS: tuple[Rounding, ...] = ("round", "truncate", "truncate-both")
LARGEST = 4096
"""A claim of a larger view is tried at the default's size: its pictures would not fit."""
OF_PICTURES: tuple[Rounding, ...] = ("round", "truncate-both")
"""Roundings that can be tried: pictures are whole numbers already, so cutting the candidate alone changes nothing."""


@dataclass(frozen=True)
class Explained:
    """A system with its originals, and the ways in which it can be scored."""

    name: str
    system: System
    suite: Suite
    size: int | None
    """Side of the view in pixels, None = as the pictures are."""
    views: Mapping[str, str]
    """Protocol of the view -> "" if it can be made here, else why not."""
    default: str
    """The protocol that every other one is compared with."""
    roundings: Sequence[Rounding]
    card: Card
    loaded: Loaded
    """What identifies the system."""
    notes: Sequence[str] = ()
    icc: str = ""
    """ "srgb" where pictures are converted by their colour profiles, whatever the view."""
    saved: bool = False
    """Pictures, or a run's tokens, that exist at one size."""

    @property
    def possible(self) -> list[str]:
        """The protocols whose view can be made here."""
        return [name for name, why in self.views.items() if not why]

    def identity(self, items: Sequence[Item]) -> dict[str, Any] | None:
        """What decides the system's pictures of these items; None where nothing says it: an object of a process."""
        facts = self.system.facts(items)
        if self.loaded.identity.get("adapter") is None and "pictures" not in facts:
            return None
        return {**self.loaded.identity, "dtype": self.loaded.dtype, "facts": facts}

    def view(self, protocol: str, size: Any = None) -> View:
        """The view by a protocol. size: the side that a claim states, which a model of no one size is tried at."""
        if protocol == "native" or (size == ORIGINAL and self._takes_any):
            return View("native", None, self.icc)
        if self.size is None:
            return View(protocol, None, self.icc)
        return View(protocol, size if isinstance(size, int) and self._takes(size) else self.size, self.icc)

    @property
    def _takes_any(self) -> bool:
        return not self.saved and not isinstance(self.card.sizes, Fixed)

    def _takes(self, size: int) -> bool:
        return self._takes_any and 1 <= size <= LARGEST


def open_system(
    model: str,
    images: str | None,
    checkpoint: Path | str | None,
    options: Mapping[str, str],
    device: str,
    prefix: str | None = None,
    icc: str | None = None,
    code: str | None = None,
) -> Explained:
    """model: a name, `folder:DIR`, or a run's folder. images: the originals; by default the run's own, or a suite. icc:
    "srgb" converts pictures by their profiles; a run states its own. code: by which the user names the code of a run's
    model himself."""
    if (Path(model) / "run.json").is_file():
        if options or checkpoint or prefix is not None or icc is not None:
            raise VtbenchError(f"{model} is a run: it takes no --option, --checkpoint, --prefix or --icc")
        return _of_run(Path(model), images, device, code)
    if code is not None:
        raise VtbenchError(f"--code {code} is for runs, and {model} is none: leave it out")
    if model.startswith("folder:") and images is None:
        raise VtbenchError(f"{model} needs its originals: give --images FOLDER")
    path = Path(checkpoint).expanduser() if checkpoint is not None else None
    loaded = load(model, options, checkpoint=path, prefix=prefix, device=device, generator=False)
    suite = open_suite(images) if images else open_of_task("starter-natural")
    chosen = View.parse("native", icc=icc).icc
    system = loaded.system
    if isinstance(system, SavedPictures):
        return _of_folder(model, loaded, system.converted(chosen), suite)
    return replace(_of_model(loaded, suite), icc=chosen)


def _of_model(loaded: Loaded, suite: Suite) -> Explained:
    system, card, weights = loaded.system, loaded.system.card, loaded.weights
    fixed = isinstance(card.sizes, Fixed)
    views = {name: "" for name in PROTOCOLS if name != "native" or not fixed}
    size = card.sizes.size if isinstance(card.sizes, Fixed) else 256
    # The numbers are of these weights, whichever the claim is of.
    notes = [f"weights: {weights['note']}"] if weights.get("note") else []
    if weights.get("status") == "unverified":
        notes.append(f"unverified weights ({weights.get('why') or 'made for a test'})")
    return Explained(card.name, system, suite, size, views, "vtbench", OF_MODELS, card, loaded, notes)


def _of_folder(model: str, loaded: Loaded, system: SavedPictures, suite: Suite) -> Explained:
    """Saved pictures: the originals are taken as they are where sizes agree, else cropped to the pictures' size."""
    pairs = check_pairs(suite, system.suite, model, partial=True)
    if not pairs:
        raise VtbenchError(f"no name of {model} is a name of {suite.name}: give the originals of these pictures")
    # What cannot be read has no size here; it is named, and left out, when it is to be scored.
    both = [(size_of(suite, original), size_of(system.suite, picture)) for original, picture in pairs]
    sizes = [(original, picture) for original, picture in both if original is not None and picture is not None]
    if all(original == picture for original, picture in sizes):
        why = "saved pictures exist at one view: another crop needs the model"
        native = _views("native", why)
        card, icc = system.card, system.icc
        return Explained(model, system, suite, None, native, "native", OF_PICTURES, card, loaded, icc=icc, saved=True)
    side = _side(model, sizes)
    views = {name: "" for name in PROTOCOLS if name != "native"}
    note = f"the originals were cropped to {side} x {side} by each named crop; the pictures stay as they were saved"
    return Explained(
        model, system, suite, side, views, "vtbench", OF_PICTURES, system.card, loaded, [note], system.icc, saved=True
    )


def _side(model: str, sizes: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> int:
    """The side in pixels of pictures that are all squares of one size; `sizes`: (width, height) of both of each pair"""
    pictures = {picture for _, picture in sizes}
    if len(pictures) > 1 or len(set(next(iter(pictures)))) > 1:
        original, picture = next((a, b) for a, b in sizes if a != b)
        raise VtbenchError(
            f"{model} holds pictures of {picture[0]} x {picture[1]} for originals of {original[0]} x {original[1]}: "
            "give originals of their size, or pictures that are all squares of one size"
        )
    return next(iter(pictures))[0]


def _of_run(path: Path, images: str | None, device: str, code: str | None) -> Explained:
    run = read_run(path)
    suite = originals(run, images)
    loaded = again(run, device=device, suite=suite, code=code)
    system, own = loaded.system, str(protocol(run))
    views = _views(own, "a run's pictures or tokens exist at one view: explain the model itself to try another")
    roundings = OF_PICTURES if isinstance(system, SavedPictures) else OF_MODELS
    view = View.parse(view_name(run), own)
    system = system.converted(view.icc) if isinstance(system, SavedPictures) else system
    card = system.card
    return Explained(run.name, system, suite, view.size, views, own, roundings, card, loaded, icc=view.icc, saved=True)


def _views(only: str, why: str) -> dict[str, str]:
    """The one view that exists, and why the others do not."""
    return {name: why for name in PROTOCOLS if name != only} | {only: ""}
