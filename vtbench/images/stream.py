"""THE reader: items become pictures at a view, read ahead by threads or processes, in order, in batches.

One suite at a view: `originals(suite, view, items, size)` gives lists of `Original`.
A reference with K candidates: `batches([source, …], items, size)` gives lists of tuples, one `Original` a source.
A set of images without any pairing: `vtbench.images.sets`, over the same `Original`.

At most three batches are in memory, or one image a reader where those are more, however many items there are. A bad
image is never raised: its `Original` says why there are no pixels, so that the others go on. What this process or its
machine lacks is raised as `Short`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from vtbench.images.ahead import in_batches, read_ahead, readers
from vtbench.images.processes import READING, Processes
from vtbench.images.profiles import Profile, differ, named
from vtbench.images.reading import rgb_sha256
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.shortage import refuse_shortage, wants_memory

if TYPE_CHECKING:
    import torch

    from vtbench.images.reading import RGB, Picture

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
"""From an item of the reference to one side's picture of it. A source never raises for a bad image; it raises Short
where files cannot be opened, or memory is used up."""


def read_original(suite: Suite, view: View, item: Item, *, hashed: bool = True) -> Original:
    """Reads, verifies and views one image; a bad one is named, not raised. Raises Short for what is no fault of it."""
    try:
        picture, rgb, flags = _at_view(suite, view, item)
    except VtbenchError as bad:
        refuse_shortage(bad, item.id)
        return Original(item, None, why=str(bad))
    except Exception as bad:
        refuse_shortage(bad, item.id)
        # A disk, a decoder or a library of data sets may raise anything; one image must not end a run of thousands.
        text = (str(bad).strip().splitlines() or [""])[0][:160]
        return Original(item, None, why=f"{item.id} cannot be read ({type(bad).__name__}: {text})")
    profile = None if picture.converted else picture.profile
    return Original(item, rgb, rgb_sha256(rgb) if hashed else "", {**picture.flags, **flags}, profile=profile)


def _at_view(suite: Suite, view: View, item: Item) -> tuple[Picture, RGB, Mapping[str, Any]]:
    """The picture as read, its pixels at the view, and what the view says of it. Where memory is refused and there is
    room afterwards, others had it at that moment: the image is read once more."""
    for last in (False, True):
        try:
            picture = suite.picture(item, view.icc)
            return (picture, *view.apply(picture.rgb))
        except Exception as bad:
            if last or not wants_memory(bad):
                raise
            refuse_shortage(bad, item.id)
    raise AssertionError


@dataclass(frozen=True)
class _OfSuite:
    """A source that another process can be given."""

    suite: Suite
    view: View
    hashed: bool

    def __call__(self, item: Item) -> Original:
        return read_original(self.suite, self.view, item, hashed=self.hashed)

    def __reduce__(self) -> tuple[type[_OfSuite], tuple[Suite, View, bool]]:
        return _OfSuite, (self.suite.without_items(), self.view, self.hashed)


def source_of(suite: Suite, view: View, *, hashed: bool = True) -> Source:
    """The suite's own items at the view."""
    return _OfSuite(suite, view, hashed)


def originals(
    suite: Suite, view: View, items: Sequence[Item], size: int, *, hashed: bool = True
) -> Iterator[list[Original]]:
    """Batches of one suite's items at a view, `size` a batch, read ahead."""
    for batch in batches([source_of(suite, view, hashed=hashed)], items, size):
        yield [sides[0] for sides in batch]


@dataclass(frozen=True)
class _Sides:
    """Reads one item for all sources, the reference first."""

    sources: Sequence[Source]

    def __call__(self, item: Item) -> tuple[Original, ...]:
        reference, *candidates = self.sources
        original = reference(item)
        if original.rgb is None:
            return self.failed(item, original.why or "it has no pixels", original)
        return (original, *(_beside(candidate(item), original) for candidate in candidates))

    def failed(self, item: Item, why: str, original: Original | None = None) -> tuple[Original, ...]:
        """No pixels of any side, for one reason."""
        return (original or Original(item, None, why=why), *(Original(item, None, why=why) for _ in self.sources[1:]))


def batches(
    sources: Sequence[Source], items: Iterable[Item], size: int, *, threads: int | None = None
) -> Iterator[list[tuple[Original, ...]]]:
    """Batches of `size` items; of each item one Original a source, the reference first. threads: how many read at a
    time, by default `ahead.readers()`; where that pays, each with a process of its own.

    Where the reference has no pixels the candidates are not read, and have its reason as theirs: so the row fails for
    all. Where only a candidate has none, or has another size than the reference, its own Original says why. An image
    that takes longer than `ahead.PATIENCE` is one that could not be read.
    """
    read, count = _Sides(tuple(sources)), readers() if threads is None else threads
    apart = Processes(read, read.failed, len(items) if isinstance(items, Sized) else 0, count)
    try:
        done = read_ahead(
            apart,
            items,
            most=max(BATCHES_AHEAD * size, count),
            threads=count,
            late=lambda item: read.failed(item, READING.late(item)),
        )
        yield from in_batches(done, size)
    finally:
        apart.close()


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
