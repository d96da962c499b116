"""THE reader: order, how far ahead it reads, bad images in every place, candidates beside a reference, sizes."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import picture, save
from PIL import Image

from vtbench.images.ahead import read_ahead
from vtbench.images.opening import open_suite
from vtbench.images.pairing import pair_names, partners
from vtbench.images.reading import rgb_sha256
from vtbench.images.stream import Original, batches, by_size, originals, read_original, source_of, stacked
from vtbench.images.views import View
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

NATIVE = View.parse("native")


def wide(seed: int) -> Any:
    """A picture of 8 x 6 pixels."""
    return picture(seed, 6, 8)


def folder(path: Path, count: int) -> Path:
    for k in range(count):
        save(path / f"{k}.png", wide(k))
    return path


def items(count: int) -> list[Item]:
    return [Item(f"{k:03d}", k) for k in range(count)]


# -- reading ahead ---------------------------------------------------------------------------------------------------


def test_order_is_the_items_whoever_is_first_to_be_read() -> None:
    def slow_at_first(item: Item) -> Original:
        time.sleep(0.02 if item.place % 3 == 0 else 0)
        return Original(item, wide(item.place))

    read = list(batches([slow_at_first], items(11), 4))
    assert [len(b) for b in read] == [4, 4, 3]
    assert [original.item.place for b in read for (original,) in b] == list(range(11))
    assert list(batches([slow_at_first], [], 4)) == []


@pytest.mark.parametrize("size", [1, 3, 8])
def test_it_reads_ahead_and_no_further_than_two_batches(size: int) -> None:
    begun = 0
    lock = threading.Lock()

    def counted(item: Item) -> Original:
        nonlocal begun
        with lock:
            begun += 1
        return Original(item, wide(0))

    taken = 0
    ahead = []
    for batch in batches([counted], items(10 * size), size):
        taken += len(batch)
        # Long enough for threads that do not know the bound to read everything.
        time.sleep(0.02)
        ahead.append(begun - taken)
    assert max(ahead) <= 2 * size
    assert max(ahead) >= min(size, 1)
    assert begun == taken == 10 * size


def test_pictures_that_were_taken_are_not_kept() -> None:
    """Counted by weak references: with batches of 4, never more than three batches of pictures are alive."""
    alive: set[int] = set()
    most = 0

    def watched(item: Item) -> Original:
        nonlocal most
        rgb = wide(item.place)
        alive.add(item.place)
        weakref.finalize(rgb, alive.discard, item.place)
        return Original(item, rgb)

    for batch in batches([watched], items(80), 4):
        most = max(most, len(alive))
        del batch
    gc.collect()
    # One more may be on its way from a thread to the queue.
    assert 4 <= most <= 3 * 4 + 1
    assert not alive


def test_a_reader_that_is_left_reads_no_further() -> None:
    begun: list[int] = []
    before = set(threading.enumerate())

    def counted(number: int) -> int:
        begun.append(number)
        time.sleep(0.001)
        return number

    ahead: Iterator[int] = read_ahead(counted, range(1000), most=500)
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]
    after = len(begun)
    time.sleep(0.02)
    assert len(begun) == after < 500
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("read")]


def test_an_exception_is_raised_where_its_result_is_taken() -> None:
    def divide(number: int) -> float:
        return 1 / number

    results = read_ahead(divide, [2, 1, 0, 4], most=4)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


# -- one image -------------------------------------------------------------------------------------------------------


def test_an_original_is_the_view_with_its_hash(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(1, 40, 60))
    suite = open_suite(str(tmp_path))
    original = read_original(suite, View.parse("32"), suite.items[0])
    pixels, _ = View.parse("32").apply(picture(1, 40, 60))
    assert original.rgb is not None
    assert np.array_equal(original.rgb, pixels)
    assert (original.sha256, original.why, dict(original.flags)) == (rgb_sha256(pixels), None, {})
    larger = read_original(suite, View.parse("64"), suite.items[0], hashed=False)
    assert (larger.sha256, dict(larger.flags)) == ("", {"enlarged": True})


@pytest.mark.parametrize("place", [0, 3, 4, 6, "all"])
def test_a_bad_image_is_named_in_its_place_and_the_others_go_on(tmp_path: Path, place: int | str) -> None:
    folder(tmp_path, 7)
    broken = range(7) if place == "all" else [int(place)]
    for k in broken:
        (tmp_path / f"{k}.png").write_bytes((tmp_path / f"{k}.png").read_bytes()[:60])
    suite = open_suite(str(tmp_path))
    read = [original for batch in originals(suite, NATIVE, suite.items, 3) for original in batch]
    assert [o.item.id for o in read] == [f"{k}.png" for k in range(7)]
    for k, original in enumerate(read):
        if k in broken:
            assert original.rgb is None
            assert f"{k}.png cannot be read" in (original.why or "")
            assert original.sha256 == ""
        else:
            assert original.rgb is not None
            assert np.array_equal(original.rgb, wide(k))
    assert [p for group in by_size(read) for p in group.positions] == [k for k in range(7) if k not in broken]


def test_whatever_a_disk_or_a_library_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = open_suite(str(folder(tmp_path, 2)))

    def raising(item: Item, icc: str = "") -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(suite, "picture", raising)
    (batch,) = originals(suite, NATIVE, suite.items, 4)
    assert [o.why for o in batch] == [
        f"{k}.png cannot be read (OSError: [Errno 5] Input/output error)" for k in range(2)
    ]


# -- a reference with candidates -------------------------------------------------------------------------------------


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A reference and two candidates of six pictures; the candidates are JPEGs by another suffix."""
    reference, *candidates = (tmp_path / n for n in ("reference", "one", "two"))
    for k in range(6):
        save(reference / f"{k}.png", wide(k))
        for number, candidate in enumerate(candidates):
            save(candidate / f"{k}.jpg", wide(100 * (number + 1) + k))
    return reference, *candidates


def read_sides(reference: Path, *candidates: Path) -> list[tuple[Original, ...]]:
    suite = open_suite(str(reference))
    pictures = [open_suite(str(c)) for c in candidates]
    sources = [source_of(suite, NATIVE), *(partners(p, pair_names(p.items, p.name)) for p in pictures)]
    return [row for batch in batches(sources, suite.items, 4) for row in batch]


def test_sides_come_item_by_item(sides: tuple[Path, Path, Path]) -> None:
    rows = read_sides(*sides)
    assert [[o.item.id for o in row] for row in rows] == [[f"{k}.png", f"{k}.jpg", f"{k}.jpg"] for k in range(6)]
    for k, row in enumerate(rows):
        for side, original in zip(sides, row, strict=True):
            truth = np.asarray(Image.open(side / original.item.id).convert("RGB"))
            assert original.rgb is not None
            assert np.array_equal(original.rgb, truth), k
    assert rows[0][0].sha256
    assert rows[0][1].sha256 == ""


def test_a_candidates_failure_is_its_own_and_the_references_is_everybodys(sides: tuple[Path, Path, Path]) -> None:
    reference, one, two = sides
    (reference / "0.png").write_bytes(b"torn")
    (one / "2.jpg").write_bytes(b"torn")
    (one / "3.jpg").unlink()
    save(two / "5.jpg", picture(1, 6, 9))
    rows = read_sides(*sides)
    failed = [[o.why is not None for o in row] for row in rows]
    assert failed == [
        [True, True, True],
        [False, False, False],
        [False, True, False],
        [False, True, False],
        [False, False, False],
        [False, False, True],
    ]
    assert rows[0][1].why == rows[0][0].why
    assert "0.png" in (rows[0][0].why or "")
    assert "2.jpg" in (rows[2][1].why or "")
    assert rows[3][1].why == "no image for 3.png"
    assert rows[5][2].why == "5.jpg is 9x6, the original 8x6"
    black, why = stacked([row[1] for row in rows[2:4]], (6, 8))
    assert not black.any()
    assert set(why) == {0, 1}


def test_candidates_of_a_failed_original_are_not_read() -> None:
    asked: list[str] = []

    def reference(item: Item) -> Original:
        return Original(item, None if item.place == 1 else wide(0), why="torn" if item.place == 1 else None)

    def candidate(item: Item) -> Original:
        asked.append(item.id)
        return Original(item, wide(1))

    rows = [row for batch in batches([reference, candidate], items(3), 2) for row in batch]
    assert sorted(asked) == ["000", "002"]
    assert [row[1].why for row in rows] == [None, "torn", None]


# -- sizes -----------------------------------------------------------------------------------------------------------


def test_groups_of_one_size_are_channels_last_in_memory() -> None:
    shapes = [(6, 8), (8, 6), (6, 8), None, (6, 8), (8, 6)]
    pictures = [
        Original(Item(str(k), k), None if shape is None else picture(k, *shape), why="bad" if shape is None else None)
        for k, shape in enumerate(shapes)
    ]
    groups = by_size(pictures)
    assert [(g.size, g.positions) for g in groups] == [((6, 8), [0, 2, 4]), ((8, 6), [1, 5])]
    for group in groups:
        assert group.images.dtype == torch.uint8
        assert group.images.shape[1] == 3
        assert group.images.is_contiguous(memory_format=torch.channels_last)
        for image, original in zip(group.images, group.of(pictures), strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), original.rgb)
    assert by_size([]) == by_size([pictures[3]]) == []


def test_what_has_no_pixels_is_black_with_its_reason() -> None:
    pictures = [Original(Item("a", 0), None, why="torn"), Original(Item("b", 1), wide(1))]
    images, why = stacked(pictures, (6, 8))
    assert why == {0: "torn"}
    assert not images[0].any()
    assert np.array_equal(images[1].permute(1, 2, 0).numpy(), wide(1))


def test_a_missing_manifest_image_is_named_too(tmp_path: Path) -> None:
    """What the manifest's hash refuses is a VtbenchError, not a BadImage: also named, not raised."""
    suite = open_suite(str(folder(tmp_path, 1)))
    wrong = Item("0.png", "0.png", None, "0" * 64)
    assert "is not the image that its manifest states" in (read_original(suite, NATIVE, wrong).why or "")
    with pytest.raises(VtbenchError):
        suite.load(wrong)
