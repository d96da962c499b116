"""`folder:DIR`: pictures that someone already has, in place of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.opening import open_suite
from vtbench.models.outputs import Output
from vtbench.models.system import System
from vtbench.types.cards import Card, Multiple
from vtbench.types.errors import VtbenchError, near
from vtbench.types.item import Item

if TYPE_CHECKING:
    import torch

    from vtbench.images.suite import Suite
    from vtbench.images.views import View


class SavedPictures(System):
    """Pictures of a folder, paired with the originals by relative path without suffix."""

    def __init__(self, folder: Path, *, partial: bool = False) -> None:
        """partial: pictures that are missing are named in the rows (those of a run of which some images failed)."""
        if not folder.is_dir():
            raise VtbenchError(f"folder:{folder} is not a folder: give the folder of the reconstructed images")
        self.suite = open_suite(str(folder))
        self.items = pair_names(self.suite.items, str(folder))
        self.folder, self.partial = folder, partial
        self.card = Card(
            name=f"folder:{folder.name}",
            family="folder",
            kind="closed",
            title=f"Images in {folder.name}",
            sizes=Multiple(1),
            note="images that somebody made elsewhere; their rate is unknown",
        )
        self.options: dict[str, Any] = {}

    def check(self, items: Sequence[Item], suite: Suite, view: View) -> None:
        """Refuses folders that do not pair; sizes are read from headers alone."""
        from vtbench.folders import size_of

        if self.partial:
            return
        wanted = pair_names(items, suite.name)
        whole = wanted if len(items) == len(suite.items) else pair_names(suite.items, suite.name)
        missing = [i.id for k, i in wanted.items() if k not in self.items]
        extra = [i.id for k, i in self.items.items() if k not in whole]
        other = []
        for key, item in wanted.items():
            if missing or extra:
                break
            theirs = size_of(self.suite, self.items[key])
            ours = size_of(suite, item) if view.size is None else (view.size, view.size)
            if theirs is not None and ours is not None and theirs != ours:
                other.append(f"{self.items[key].id} ({theirs[0]}x{theirs[1]}, wanted {ours[0]}x{ours[1]})")
        problems = [
            f"{len(names)} {what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            for what, names in (
                (f"missing from {self.folder}", missing),
                (f"in {self.folder} without an original", extra),
                (f"of another size than the view {view.name} in {self.folder}", other),
            )
            if names
        ]
        if problems:
            raise VtbenchError(
                f"{self.folder} does not pair with {suite.name} ({'; '.join(problems)}): give one picture an original, "
                "of the same relative path without suffix and the view's size"
            )

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        """uint8 pictures as they lie in the folder; what is missing, damaged or of another size is in `failed`."""
        import numpy as np
        import torch

        pictures, failed = [], {}
        height, width = int(images.shape[2]), int(images.shape[3])
        for position, item in enumerate(items):
            try:
                rgb = self._load(item, height, width)
            except VtbenchError as bad:
                failed[position] = str(bad)
                rgb = np.zeros((height, width, 3), np.uint8)
            pictures.append(rgb)
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
        return Output(batch, failed=failed, kind=self.card.kind)

    def _load(self, item: Item, height: int, width: int) -> Any:
        """uint8 (H, W, 3) of the picture of `item`."""
        picture = self.items.get(stem(item.id))
        if picture is None:
            raise VtbenchError(f"no image for {item.id}{near(stem(item.id), self.items)}")
        rgb = self.suite.load(picture)
        if rgb.shape[:2] != (height, width):
            raise VtbenchError(f"{picture.id} is {rgb.shape[1]}x{rgb.shape[0]}, the original {width}x{height}")
        return rgb


# Until images/pairing and images/seeds are there.


def image_seed(seed: int, sha256: str) -> int:
    """One seed an image, from the run's seed and the sha256 of its pixels: 63 bits."""
    digest = hashlib.sha256(f"{seed}:{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stem(name: str) -> str:
    """The relative path without its suffix."""
    return str(Path(name).with_suffix("")) if Path(name).suffix else name


def pair_names(items: Sequence[Item], what: str) -> dict[str, Item]:
    """Items by relative path without suffix; two files of one name are refused."""
    out: dict[str, Item] = {}
    for item in items:
        key = stem(item.id)
        if key in out:
            raise VtbenchError(f"{what} has both {out[key].id} and {item.id}, which pair with one original: remove one")
        out[key] = item
    return out
