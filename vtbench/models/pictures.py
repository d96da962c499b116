"""`folder:DIR`: pictures that someone already has, as a folder or its manifest, in place of a model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.opening import is_folder_or_manifest, open_path
from vtbench.images.pairing import check_pairs, pair_names, stem
from vtbench.models.outputs import Output
from vtbench.models.system import System
from vtbench.types.cards import Card, Multiple
from vtbench.types.errors import VtbenchError, near
from vtbench.types.item import Item
from vtbench.types.readable import readable
from vtbench.types.shortage import refuse_shortage

if TYPE_CHECKING:
    import torch

    from vtbench.images.reading import Picture
    from vtbench.images.suite import Suite
    from vtbench.images.views import View


class SavedPictures(System):
    """Pictures of a folder, paired with the originals by relative path without suffix."""

    icc = ""
    """As `read_picture` takes it."""

    def __init__(self, folder: Path, *, partial: bool = False, within: Path | None = None) -> None:
        """partial: pictures that are missing are named in the rows (those of a run of which some images failed).
        within: where links may lead. A run may come from anywhere: what its links lead to would stand on a page."""
        if not is_folder_or_manifest(folder):
            raise VtbenchError(
                f"folder:{folder} is not a folder: give the folder of the reconstructed images, or its manifest"
            )
        self.suite = open_path(folder)
        if within is not None:
            self.suite.within = within
        self.items = pair_names(self.suite.items, str(folder))
        self.folder, self.partial = folder, partial
        self.card = Card(
            name=readable(f"folder:{folder.name}"),
            family="folder",
            kind="closed",
            title=readable(f"Images in {folder.name}"),
            sizes=Multiple(1),
            note="images that somebody made elsewhere; their rate is unknown",
        )
        self.options: dict[str, Any] = {}
        self.notes = [f"{folder}: {note}" for note in self.suite.notes]

    def converted(self, icc: str) -> SavedPictures:
        """The same pictures, read with `icc`."""
        other = copy.copy(self)
        other.icc = icc
        return other

    def facts(self, items: Sequence[Item]) -> dict[str, str]:
        names = (stem(item.id) for item in items)
        return {"pictures": self.suite.hash_of([self.items[n] for n in names if n in self.items]), "icc": self.icc}

    def check(self, items: Sequence[Item], suite: Suite, view: View) -> None:
        """Refuses folders that do not pair; sizes are read from headers alone."""
        size = None if view.size is None else (view.size, view.size)
        check_pairs(suite, self.suite, str(self.folder), items=items, size_wanted=size, partial=self.partial)

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        """uint8 pictures as they lie in the folder; what is missing, damaged or of another size is in `failed`."""
        import numpy as np
        import torch

        pictures, failed, flags = [], {}, {}
        height, width = int(images.shape[2]), int(images.shape[3])
        for position, item in enumerate(items):
            try:
                picture = self._load(item, height, width)
                rgb = picture.rgb
                if picture.flags:
                    flags[position] = picture.flags
            except VtbenchError as bad:
                refuse_shortage(bad, item.id)
                failed[position] = str(bad)
                rgb = np.zeros((height, width, 3), np.uint8)
            pictures.append(rgb)
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
        return Output(batch, failed=failed, flags=flags, kind=self.card.kind)

    def _load(self, item: Item, height: int, width: int) -> Picture:
        """The picture of `item`."""
        picture = self.items.get(stem(item.id))
        if picture is None:
            raise VtbenchError(f"no image for {item.id}{near(stem(item.id), self.items)}")
        read = self.suite.picture(picture, self.icc)
        tall, wide = read.rgb.shape[:2]
        if (tall, wide) != (height, width):
            raise VtbenchError(f"{picture.id} is {wide}x{tall}, the original {width}x{height}")
        return read
