"""Pairing by name: which picture of a candidate belongs to which original, and the refusals where none does.

Names pair by their relative path without suffix, in Unicode normal form: `n01440764/a.JPEG` with `n01440764/a.png`, and
an é of one character with that of two, as macOS writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtbench.images.ahead import read_ahead
from vtbench.images.reading import header_size
from vtbench.images.selection import normal
from vtbench.images.stream import Original, Source, read_original
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.types.errors import VtbenchError, near
from vtbench.types.item import Item
from vtbench.types.shortage import refuse_shortage

Size = tuple[int, int]
"""(width, height) in pixels, as files and refusals state it."""
NAMED = 3
"""So many files are named in a refusal."""
THREADS = 4


def stem(name: str) -> str:
    """The relative path without its suffix, in Unicode normal form C."""
    return normal(str(Path(name).with_suffix("")) if Path(name).suffix else name)


def pair_names(items: Sequence[Item], what: str) -> dict[str, Item]:
    """Items by relative path without suffix; two files of one name are refused. `what`: their folder, as it is named
    in the refusal."""
    by_stem: dict[str, Item] = {}
    for item in items:
        key = stem(item.id)
        if key in by_stem:
            raise VtbenchError(
                f"{what} has both {by_stem[key].id} and {item.id}, which pair with one original: remove one"
            )
        by_stem[key] = item
    return by_stem


def size_of(suite: Suite, item: Item) -> Size | None:
    """(width, height) from the file's header; None if it cannot be read (said later, when it is)."""
    try:
        return header_size(suite.path(item)) if suite.lies_within(item) else None
    except (OSError, VtbenchError) as bad:
        refuse_shortage(bad, item.id)
        return None


def check_pairs(
    reference: Suite,
    candidate: Suite,
    name: str,
    *,
    items: Sequence[Item] | None = None,
    size_wanted: Size | None = None,
    partial: bool = False,
) -> list[tuple[Item, Item]]:
    """(original, its picture) by name, in the reference's order; VtbenchError if the two do not pair.

    name: the candidate's, for refusals. items: the part of the reference that is asked for, by default all; pictures of
    the rest are no surplus. size_wanted: what every picture must measure, by default what its original does. partial:
    missing, surplus and other-sized pictures are no mistake; only the pairs that there are come back.
    """
    wanted = pair_names(reference.items if items is None else items, reference.name)
    whole = wanted if items is None else pair_names(reference.items, reference.name)
    pictures = pair_names(candidate.items, name)
    pairs = [(original, pictures[key]) for key, original in wanted.items() if key in pictures]
    if partial:
        return pairs
    problems = _listed(f"missing from {name}", [i.id for key, i in wanted.items() if key not in pictures])
    problems += _listed(f"in {name} without an original", [i.id for key, i in pictures.items() if key not in whole])
    if not problems:
        problems = _listed(f"of another size in {name}", _other_sizes(reference, candidate, pairs, size_wanted))
    if problems:
        problems += [f"{suite.name}: {note}" for suite in (reference, candidate) for note in suite.notes]
        raise VtbenchError(
            f"{name} does not pair with {reference.name} ({'; '.join(problems)}): give one picture an original, of the "
            "same relative path without suffix and of its size"
        )
    return pairs


@dataclass(frozen=True)
class _Partners:
    """A source that another process can be given."""

    suite: Suite
    pictures: Mapping[str, Item]
    view: View

    def __call__(self, item: Item) -> Original:
        partner = self.pictures.get(stem(item.id))
        if partner is None:
            return Original(item, None, why=f"no image for {item.id}{near(stem(item.id), self.pictures)}")
        return read_original(self.suite, self.view, partner, hashed=False)

    def __reduce__(self) -> tuple[type[_Partners], tuple[Suite, Mapping[str, Item], View]]:
        return _Partners, (self.suite.without_items(), self.pictures, self.view)


def partners(suite: Suite, pictures: Mapping[str, Item], view: View | None = None) -> Source:
    """A source for `stream.batches`: of an item of the reference, the picture of its name (`pictures`: by stem) in
    `suite`. Its pixels are not hashed; one that is missing says so, with a near name."""
    return _Partners(suite, pictures, View.parse("native") if view is None else view)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    """One problem as it is said, with the first names; none where there is no name."""
    if not names:
        return []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"{len(names)} {what}: {', '.join(names[:NAMED])}{more}"]


def _other_sizes(
    reference: Suite, candidate: Suite, pairs: Sequence[tuple[Item, Item]], size_wanted: Size | None
) -> list[str]:
    """Pictures that are not of the size that they should be, by their headers; unreadable ones, and those whose
    disk does not answer, are left for later."""

    def of_both(pair: tuple[Item, Item]) -> tuple[Size | None, Size | None]:
        ours = size_of(reference, pair[0]) if size_wanted is None else size_wanted
        return ours, size_of(candidate, pair[1])

    # A few at a time: what a thread pool is given at once takes 2 kB a pair until all are done.
    sizes = read_ahead(of_both, pairs, most=4 * THREADS, threads=THREADS, name="sizes", late=lambda _: (None, None))
    return [
        f"{picture.id} ({theirs[0]}x{theirs[1]}, wanted {ours[0]}x{ours[1]})"
        for (original, picture), (ours, theirs) in zip(pairs, sizes, strict=True)
        if ours is not None and theirs is not None and ours != theirs
        if _as_stated(reference, original) and _as_stated(candidate, picture)
    ]


def _as_stated(suite: Suite, item: Item) -> bool:
    """Whether an item is what its manifest says, if it has one: of another image its row says so, not its size."""
    if item.sha256_file is None and item.sha256_rgb is None:
        return True
    try:
        suite.picture(item)
    except VtbenchError:
        return False
    return True
