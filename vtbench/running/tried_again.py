"""Images that an earlier try left out, looked at once more: a mount that did not answer is no fault of a picture."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vtbench.images.ahead import in_batches
from vtbench.images.stream import Original, batches
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.models.system import System
from vtbench.running import pipeline
from vtbench.running.engine import lane_of, sources_of
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.readable import readable
from vtbench.types.shortage import Short

AT_ONCE = 64
"""Batches that are looked at before their images are compared."""


class Seen(NamedTuple):
    """What a row says of an image: why it was left out, None if it was not; the sha256 of its original's pixels, None
    where that could not be read."""

    item: str
    why: str | None
    sha256: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Seen:
        """Of a row as rows.jsonl holds it."""
        return cls(str(row.get("item")), row.get("why", {}).get("*"), row.get("sha256"))


@dataclass(frozen=True)
class Again:
    """A system that can be asked for the same pictures of the same originals: `batch` at a time, in the same batches,
    its noise by `seed`; nothing is measured of them. `name`: what a failure calls it."""

    name: str
    system: System
    suite: Suite
    view: View
    items: Sequence[Item]
    batch: int
    seed: int
    device: str

    def first_changed(self, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> int | None:
        """The first of the rows' images that is not what its row says, of the batches that hold an image that was left
        out; None if all of them are. `rows`: those of whole batches, from the first on, as often as it is called."""
        seen = (Seen.of(row) for row in rows())
        left_out = array("q", dict.fromkeys(k // self.batch for k, one in enumerate(seen) if one.why is not None))
        chosen = {*left_out}
        known = (Seen.of(row) for k, row in enumerate(rows()) if k // self.batch in chosen)
        for numbers in in_batches(left_out, AT_ONCE):
            places = [k for number in numbers for k in range(len(self.items))[number * self.batch :][: self.batch]]
            for place, now in zip(places, self._looked_at(places), strict=True):
                if next(known) != now:
                    return place
        return None

    def _looked_at(self, places: Sequence[int]) -> Iterator[Seen | None]:
        """What is to be said of the images at these places by now; None where the system fails as a whole."""
        sink = _Looking()
        lane, sources = lane_of(self.name, self.system, sink), sources_of(self.suite, self.view, self.system)
        originals = batches(sources, [self.items[k] for k in places], self.batch)
        pace = pipeline.Pace(self.batch, 0)
        try:
            pipeline.run([lane], originals, pace, seed=self.seed, device=self.device)
        except Short:
            raise
        except VtbenchError:
            return (None for _ in places)
        return iter(sink.seen)


class _Looking:
    """Notes which images have a picture, and why others have none."""

    def __init__(self) -> None:
        self.seen: list[Seen | None] = []

    def write(self, work: pipeline.Work) -> None:
        why = {o.item.id: o.why for o in work.originals}
        for part in work.parts:
            why.update({part.originals[k].item.id: reason for k, reason in part.output.without_picture.items()})
        self.seen += [_seen(o, why[o.item.id]) for o in work.originals]


def _seen(original: Original, why: str | None) -> Seen:
    return Seen(readable(original.item.id), None if why is None else readable(why), original.sha256 or None)
