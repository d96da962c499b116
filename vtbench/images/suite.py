"""Suites: images with hashes, lazy, verified on loading.

Nothing is decoded before it is asked for, and an item is a few hundred bytes: memory does not grow with the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtbench.images.reading import BadImage, decode, rgb_sha256
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

if TYPE_CHECKING:
    from vtbench.images.reading import RGB


class Suite:
    """A named list of images. `hash` identifies it in the question: contents for manifests, names, sizes and times of
    change for folders (whose contents are hashed as they are read, into every row)."""

    def __init__(
        self, name: str, items: Sequence[Item], hash_: str, *, version: str = "1", licence: str | None = None
    ) -> None:
        self.name, self.items, self.hash, self.version, self.licence = name, items, hash_, version, licence

    def path(self, item: Item) -> Path:
        """The item's file, where it has one of its own."""
        return Path(item.place)

    def read(self, item: Item) -> bytes:
        """The bytes of the item's file; BadImage if there are none."""
        try:
            return self.path(item).read_bytes()
        except OSError as bad:
            raise BadImage(f"{item.id} cannot be read ({bad.strerror or bad}): was it removed?") from bad

    def load(self, item: Item) -> RGB:
        """uint8 RGB (H, W, 3); BadImage if it cannot be read, VtbenchError by name if it is not the image it was."""
        data = self.read(item)
        rgb = decode(data, item.id)
        if item.sha256_rgb is not None and rgb_sha256(rgb) != item.sha256_rgb:
            same_file = item.sha256_file is not None and hashlib.sha256(data).hexdigest() == item.sha256_file
            advice = (
                "its file is the same, so Pillow decodes it otherwise here: install a release of Pillow with "
                "libjpeg-turbo"
                if same_file
                else "reinstall the package that carries it"
            )
            raise VtbenchError(
                f"{item.id} of {self.name} is not the image that its manifest states (sha256 of the pixels differs): "
                f"{advice}"
            )
        return rgb
