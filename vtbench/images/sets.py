"""Sets of images: no pairing, only the images, streaming in their order; and how they become tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vtbench.images.stream import Original, originals, read_original, stacked
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.types.item import Item

if TYPE_CHECKING:
    import torch

BATCH = 32
"""Images a tensor, at most: features are the same bit for bit only where batches are."""


@dataclass
class ImageSet:
    """A set of images that streams: `read` yields uint8 (B, 3, H, W); `bad` names files that could not be read, `black`
    those that are all black, once they have been read."""

    name: str
    n: int
    read: Callable[[], Iterator[torch.Tensor]]
    labels: Sequence[int] | None = None
    bad: dict[str, str] = field(default_factory=dict)
    black: list[str] = field(default_factory=list)
    items: Sequence[Item] = ()
    """With each image's prompt in its meta, where samples.jsonl stands beside; empty for an .npz."""
    load: Callable[[Item], Any] | None = None
    """uint8 RGB (H, W, 3) of an item, or why it cannot be read."""
    profiles: Counter[str] = field(default_factory=Counter)
    """Colour profiles that were not applied, and of how many images, once they have been read."""
    remarks: list[str] = field(default_factory=list)
    """What keeps numbers of the set from being compared, said beside them."""
    notes: Sequence[str] = ()
    """What was left out, and what else its name may mean."""
    batches: Callable[[int], Iterator[list[Original]]] | None = None
    """The images as read, in lists of so many; those that could not be read say why, the
    others have the sha256 of their pixels."""


def streaming_set(
    name: str,
    n: int,
    batches: Callable[[int], Iterator[list[Original]]],
    labels: Sequence[int] | None = None,
    **facts: Any,
) -> ImageSet:
    """The set whose images come from `batches`; `facts` are the further fields of ImageSet."""
    bad: dict[str, str] = {}
    black: list[str] = []

    def read() -> Iterator[torch.Tensor]:
        for batch in batches(BATCH):
            yield from runs_of_one_size(batch, bad, black)

    return ImageSet(name, n, read, labels, bad, black, batches=batches, **facts)


def set_of_suite(suite: Suite, items: Sequence[Item], view: View | None = None, **facts: Any) -> ImageSet:
    """The suite's images at the view, by default as they are, read ahead."""
    native = View.parse("native") if view is None else view

    def load(item: Item) -> Any:
        original = read_original(suite, native, item, hashed=False)
        return original.why if original.rgb is None else original.rgb

    def batches(size: int) -> Iterator[list[Original]]:
        return originals(suite, native, items, size)

    return streaming_set(suite.name, len(items), batches, items=items, load=load, **facts)


def runs_of_one_size(pictures: Iterable[Original], bad: dict[str, str], black: list[str]) -> Iterator[torch.Tensor]:
    """Neighbours of one size as uint8 (N, 3, H, W), contiguous, in order; unreadable ones are noted in `bad` with their
    reason, black ones in `black`."""
    run: list[Original] = []
    for picture in pictures:
        if picture.rgb is None:
            bad[picture.item.id] = picture.why or "it has no pixels"
            continue
        if not picture.rgb.any():
            black.append(picture.item.id)
        if run and run[0].rgb is not None and run[0].rgb.shape != picture.rgb.shape:
            yield stacked(run)[0].contiguous()
            run = []
        run.append(picture)
    if run:
        yield stacked(run)[0].contiguous()
