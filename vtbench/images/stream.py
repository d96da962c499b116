"""THE reader: items become pictures at a view, read ahead by threads, in order, in batches.

One suite at a view: `originals(suite, view, items, size)` gives lists of `Original`.
A reference with K candidates: `batches([source, …], items, size)` gives lists of tuples, one `Original` a source.
A set of images without any pairing: `vtbench.images.sets`, over the same `Original`.

At most three batches are in memory, however many items there are. A bad image is never raised: its `Original` says why
there are no pixels, so that the others go on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from vtbench.images.ahead import THREADS, in_batches, read_ahead
from vtbench.images.profiles import Profile, differ, named
from vtbench.images.reading import rgb_sha256
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

if TYPE_CHECKING:
    import torch

    from vtbench.images.reading import RGB

T = TypeVar("T")
PROFILES_DIFFER = "profiles_differ"
"""The flag of a candidate that states other colours than its original: which."""
BATCHES_AHEAD = 2
"""So many batches are read or being read while the caller works on another."""


@dataclass(frozen=True, eq=False)
class Original:
    """One item as read: uint8 RGB (H, W, 3) of the view and the sha256 of its shape and pixels ("" where nobody asked
    for it); or, where `rgb` is None, the sentence `why`. `flags`: what its row says of it beside, as {"enlarged": True}
    of the view or {"profile": "Display P3"} of the file, whose profile `profile` is where it was not applied."""

    item: Item
    rgb: RGB | None
    sha256: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)
    why: str | None = None
    profile: Profile | None = None


Source = Callable[[Item], Original]
"""From an item of the reference to one side's picture of it. A source never raises for a bad image."""


def read_original(suite: Suite, view: View, item: Item, *, hashed: bool = True) -> Original:
    """Reads, verifies and views one image; a bad one is named, not raised."""
    try:
        picture = suite.picture(item, view.icc)
        rgb, flags = view.apply(picture.rgb)
    except VtbenchError as bad:
        return Original(item, None, why=str(bad))
    except Exception as bad:
        # A disk, a decoder or a library of data sets may raise anything; one image must not end a run of thousands.
        text = (str(bad).strip().splitlines() or [""])[0][:160]
        return Original(item, None, why=f"{item.id} cannot be read ({type(bad).__name__}: {text})")
    profile = None if picture.converted else picture.profile
    return Original(item, rgb, rgb_sha256(rgb) if hashed else "", {**picture.flags, **flags}, profile=profile)


def source_of(suite: Suite, view: View, *, hashed: bool = True) -> Source:
    """The suite's own items at the view."""
    return lambda item: read_original(suite, view, item, hashed=hashed)


def originals(
    suite: Suite, view: View, items: Sequence[Item], size: int, *, hashed: bool = True
) -> Iterator[list[Original]]:
    """Batches of one suite's items at a view, `size` a batch, read ahead by two threads."""
    for batch in batches([source_of(suite, view, hashed=hashed)], items, size):
        yield [sides[0] for sides in batch]


def batches(
    sources: Sequence[Source], items: Iterable[Item], size: int, *, threads: int = THREADS
) -> Iterator[list[tuple[Original, ...]]]:
    """Batches of `size` items; of each item one Original a source, the reference first.

    Where the reference has no pixels the candidates are not read, and have its reason as theirs: so the row fails for
    all. Where only a candidate has none, or has another size than the reference, its own Original says why.
    """
    reference, *candidates = sources

    def read(item: Item) -> tuple[Original, ...]:
        original = reference(item)
        if original.rgb is None:
            return (original, *(Original(item, None, why=original.why) for _ in candidates))
        return (original, *(_beside(candidate(item), original) for candidate in candidates))

    yield from in_batches(read_ahead(read, items, most=BATCHES_AHEAD * size, threads=threads), size)


def _beside(candidate: Original, original: Original) -> Original:
    """The candidate, if it has its original's size; flagged where the two state different colours."""
    if candidate.rgb is None or original.rgb is None:
        return candidate
    if candidate.rgb.shape == original.rgb.shape:
        if not differ(candidate.profile, original.profile):
            return candidate
        both = f"{named(original.profile)} and {named(candidate.profile)}"
        return replace(candidate, flags={**candidate.flags, PROFILES_DIFFER: both})
    theirs, ours = candidate.rgb.shape, original.rgb.shape
    why = f"{candidate.item.id} is {theirs[1]}x{theirs[0]}, the original {ours[1]}x{ours[0]}"
    return Original(candidate.item, None, why=why)


@dataclass(frozen=True, eq=False)
class Group:
    """The pictures of one size out of a batch: their positions in it, and uint8 (N, 3, H, W).

    The tensor's memory is as the pictures were read, channels last, which convolutions like best; `.contiguous()` gives
    the other layout. Values are the same, sums of floats over them need not be: keep to one layout for one number.
    """

    positions: list[int]
    images: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def of(self, values: Sequence[T]) -> list[T]:
        """The values of a whole batch at this group's positions."""
        return [values[p] for p in self.positions]


def by_size(pictures: Sequence[Original]) -> list[Group]:
    """Groups of equal (H, W), in the order in which their sizes first appear; those without pixels are left out."""
    positions: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, picture in enumerate(pictures):
        if picture.rgb is not None:
            positions[picture.rgb.shape[0], picture.rgb.shape[1]].append(position)
    return [Group(places, stacked([pictures[p] for p in places])[0]) for places in positions.values()]


def stacked(pictures: Sequence[Original], size: tuple[int, int] | None = None) -> tuple[torch.Tensor, dict[int, str]]:
    """uint8 (N, 3, H, W), channels last in memory, and {position: why} of those without pixels, which are black.

    size: (height, width) of them all; without it that of the first picture that has pixels.
    """
    import numpy as np
    import torch

    if size is None:
        size = next((p.rgb.shape[0], p.rgb.shape[1]) for p in pictures if p.rgb is not None)
    pixels = [np.zeros((*size, 3), np.uint8) if p.rgb is None else p.rgb for p in pictures]
    failed = {k: p.why or "it has no pixels" for k, p in enumerate(pictures) if p.rgb is None}
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), failed
