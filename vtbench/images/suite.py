"""Suites: images with hashes, lazy, verified on loading.

Nothing is decoded before it is asked for, and an item is a few hundred bytes: memory does not grow with the images.
"""

from __future__ import annotations

import copy
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.images.ahead import read_ahead
from vtbench.images.identity import THREADS, UNREADABLE
from vtbench.images.limits import BadImage, inside, read_regular
from vtbench.images.reading import Picture, read_picture, rgb_sha256
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.readable import readable
from vtbench.types.shortage import refuse_shortage, shortage

if TYPE_CHECKING:
    from vtbench.images.reading import RGB

SAME_FILE = "its file is the same, so Pillow decodes it otherwise here: install a release of Pillow with libjpeg-turbo"


class Suite:
    """A named list of images, whose identity is its content.

    `hash` is 64 hexadecimal digits over the relative name and the bytes of every item, in order. It knows neither the
    suite's own name nor its place nor any time: byte-identical copies are one suite. Opening reads no file; the bytes
    are read when the hash is first asked for, or beforehand by `identify`.
    """

    remedy = "restore the image that the manifest was written for"
    """What to do about an image that is not the one that its manifest states."""

    def __init__(
        self,
        name: str,
        items: Sequence[Item],
        hash_: str | None = None,
        *,
        version: str = "1",
        licence: str | None = None,
    ) -> None:
        """`hash_`: where it is known without reading the files (a manifest's hashes, a commit of the hub)."""
        self.name, self.items, self.version, self.licence = readable(name), items, version, licence
        self.left_out: Mapping[str, int] = {}
        """{suffix or another reason: files} that are or may hold pictures, and are no items."""
        self.within: Path | None = None
        """Where files must lie, links followed: set where somebody else may have chosen them."""
        self.notes: list[str] = []
        """Sentences that a user should read: what was left out, and that a name has two meanings."""
        self.identity_seconds = 0.0
        """What reading the bytes for the hash took; no part of any model's time."""
        self._hash = hash_

    @property
    def hash(self) -> str:
        return self.identify()

    def identify(self, progress: Callable[[int, int], None] | None = None) -> str:
        """The hash; reads every file the first time, and tells `progress` (items done, items in all)."""
        if self._hash is None:
            began = time.perf_counter()
            digest = hashlib.sha256()
            for done, (item, content) in enumerate(zip(self.items, self.contents(), strict=True), 1):
                digest.update(f"{item.id}\0{content}\n".encode(errors="surrogateescape"))
                if progress is not None:
                    progress(done, len(self.items))
            self._hash = digest.hexdigest()
            self.identity_seconds = time.perf_counter() - began
        return self._hash

    def hash_of(self, items: Sequence[Item]) -> str:
        """64 hexadecimal digits over these of its items, the hash itself where they are all or where it is known; only
        their own bytes are read."""
        if self._hash is not None or len(items) == len(self.items):
            return self.hash
        part = self.without_items()
        part.items = items
        return part.identify()

    def contents(self) -> Iterator[str]:
        """sha256 of every item's bytes, in order, as hexadecimal digits; UNREADABLE for those that cannot be read."""

        def content(item: Item) -> str:
            try:
                return hashlib.sha256(self.read(item)).hexdigest()
            except (OSError, VtbenchError) as bad:
                refuse_shortage(bad, item.id)
                return UNREADABLE

        return read_ahead(
            content, self.items, most=4 * THREADS, threads=THREADS, name="hash", late=lambda _: UNREADABLE
        )

    def without_items(self) -> Suite:
        """The same suite for a process that is told which items to read: 50,000 of them are none of its memory."""
        reading = copy.copy(self)
        reading.items = ()
        return reading

    def path(self, item: Item) -> Path:
        """The item's file, where it has one of its own."""
        return Path(item.place)

    def lies_within(self, item: Item) -> bool:
        """Whether the item's file, links followed, lies where this suite's files must."""
        return self.within is None or inside(self.path(item), [self.within])

    def read(self, item: Item) -> bytes:
        """The bytes of the item's file; BadImage if there are none, Short if this process can open no file."""
        path = self.path(item)
        try:
            if path.exists() and not self.lies_within(item):
                raise BadImage(
                    f"{item.id} is a link that leads out of {self.within}, and is not followed: copy the file"
                )
            return read_regular(path, item.id)
        except OSError as bad:
            raise gone(item, path, bad) from bad

    def load(self, item: Item) -> RGB:
        """uint8 RGB (H, W, 3) of `picture`."""
        return self.picture(item).rgb

    def picture(self, item: Item, icc: str = "") -> Picture:
        """The item as read; BadImage if it cannot be, VtbenchError by name if it is not the image it was. icc: as
        `read_picture` takes it; a manifest states the pixels before."""
        data = self.read(item)
        if item.sha256_file is None and item.sha256_rgb is None:
            return read_picture(data, item.id, icc)
        return self._verified(item, data, icc)

    def _verified(self, item: Item, data: bytes, icc: str) -> Picture:
        """`picture`, where the manifest states a hash. Pixels decide; the same pixels in another file are flagged."""
        file, differs = hashlib.sha256(data).hexdigest(), ""
        if item.sha256_file not in (None, file):
            differs = _differs("file", file, item.sha256_file)
        if item.sha256_rgb is None:
            if differs:
                unknown = "; whether its pixels do is not known, since no sha256_rgb is stated"
                raise self._other_image(item, differs + unknown, self.remedy)
            return read_picture(data, item.id, icc)
        try:
            picture = read_picture(data, item.id)
        except BadImage as bad:
            if not differs:
                raise
            raise BadImage(f"{self._other_image(item, differs, self.remedy)}; as it is, {bad}") from bad
        pixels = rgb_sha256(picture.rgb)
        if pixels != item.sha256_rgb:
            changed = _differs("pixels", pixels, item.sha256_rgb)
            if differs:
                raise self._other_image(item, f"{changed}; that of the file differs too", self.remedy)
            raise self._other_image(item, changed, self.remedy if item.sha256_file is None else SAME_FILE)
        if differs and icc:
            same = "; its pixels are the same, but --icc applies the profile of the file, which may be another"
            raise self._other_image(item, differs + same, self.remedy)
        if differs:
            return replace(picture, reencoded=f"{differs}; its pixels are those that the manifest states")
        return read_picture(data, item.id, icc) if icc and picture.profile is not None else picture

    def _other_image(self, item: Item, differs: str, advice: str) -> VtbenchError:
        return VtbenchError(f"{item.id} of {self.name} is not the image that its manifest states ({differs}): {advice}")


def _differs(part: str, actual: str, stated: str | None) -> str:
    """Which hash, what was read and what was stated, by the first 16 of 64 digits."""
    return f"sha256 of the {part} differs: it is {actual[:16]}…, stated {(stated or '')[:16]}…"


def gone(item: Item, path: Path, bad: OSError) -> VtbenchError:
    """The sentence for an item whose bytes cannot be had."""
    short = shortage(bad, item.id)
    if short is not None:
        return short
    # A name that is too long is no link, and asking for it is refused as reading it was.
    if os.path.islink(path):
        return BadImage(f"{item.id} is a link that leads to no file that can be read ({bad.strerror or bad}): mend it")
    advice = "was it removed?" if isinstance(bad, FileNotFoundError) else "mend its rights"
    return BadImage(f"{item.id} cannot be read ({bad.strerror or bad}): {advice}")
