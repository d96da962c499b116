"""Pairing by name, and what is refused: missing, surplus, two of one name, other sizes; three of each are named."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from vtbench.images import ahead, pairing
from vtbench.images.opening import open_suite
from vtbench.images.pairing import check_pairs, pair_names, size_of, stem
from vtbench.images.suite import Suite
from vtbench.types.errors import VtbenchError

WIDE = (8, 6)
"""(width, height)"""


def suite(path: Path, sizes: Mapping[str, tuple[int, int]]) -> Suite:
    for name, size in sizes.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path / name)
    return open_suite(str(path))


def of(*names: str) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(names, WIDE)


def test_stems() -> None:
    assert [stem(n) for n in ("a/b.png", "a/b", "a.b/c", "a.tar.png")] == ["a/b", "a/b", "a.b/c", "a.tar"]


def test_pairs_are_by_path_without_suffix_in_the_references_order(tmp_path: Path) -> None:
    reference = suite(tmp_path / "r", of("b/1.png", "a.png", "b/2.png"))
    candidate = suite(tmp_path / "c", of("b/2.webp", "a.bmp", "b/1.jpg"))
    pairs = check_pairs(reference, candidate, "mine")
    assert [(a.id, b.id) for a, b in pairs] == [("a.png", "a.bmp"), ("b/1.png", "b/1.jpg"), ("b/2.png", "b/2.webp")]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    both = suite(tmp_path / "both", of("a.png", "a.jpg"))
    with pytest.raises(
        VtbenchError, match=r"mine has both a\.jpg and a\.png, which pair with one original: remove one"
    ):
        pair_names(both.items, "mine")
    for pair in ((both, suite(tmp_path / "one", of("a.png"))), (suite(tmp_path / "two", of("a.png")), both)):
        with pytest.raises(VtbenchError, match="which pair with one original"):
            check_pairs(*pair, "mine")


def test_missing_and_surplus_are_said_together_three_named_of_each(tmp_path: Path) -> None:
    reference = suite(tmp_path / "r", of(*(f"{k}.png" for k in range(6))))
    candidate = suite(tmp_path / "c", of("5.png", "x.png", "y.png"))
    with pytest.raises(VtbenchError) as refused:
        check_pairs(reference, candidate, "mine")
    said = str(refused.value)
    assert "mine does not pair with r (" in said
    assert "5 missing from mine: 0.png, 1.png, 2.png and 2 more; 2 in mine without an original: x.png, y.png" in said
    assert refused.value.code == 2
    pairs = check_pairs(reference, candidate, "mine", partial=True)
    assert [(a.id, b.id) for a, b in pairs] == [("5.png", "5.png")]


def test_pictures_of_the_rest_of_the_reference_are_no_surplus(tmp_path: Path) -> None:
    reference, candidate = (suite(tmp_path / n, of("0.png", "1.png", "2.png")) for n in "rc")
    pairs = check_pairs(reference, candidate, "mine", items=reference.items[:2])
    assert [a.id for a, _ in pairs] == ["0.png", "1.png"]
    (tmp_path / "c" / "1.png").unlink()
    less = open_suite(str(tmp_path / "c"))
    assert len(check_pairs(reference, less, "mine", items=reference.items[:1])) == 1
    with pytest.raises(VtbenchError, match=r"1 missing from mine: 1\.png"):
        check_pairs(reference, less, "mine", items=reference.items[:2])


def test_sizes_are_the_originals_or_the_views(tmp_path: Path) -> None:
    reference = suite(tmp_path / "r", {"0.png": WIDE, "1.png": (5, 5)})
    candidate = suite(tmp_path / "c", {"0.png": WIDE, "1.png": WIDE})
    with pytest.raises(VtbenchError, match=r"1 of another size in mine: 1\.png \(8x6, wanted 5x5\)"):
        check_pairs(reference, candidate, "mine")
    assert len(check_pairs(reference, candidate, "mine", size_wanted=WIDE)) == 2
    with pytest.raises(VtbenchError, match=r"2 of another size in mine: 0\.png \(8x6, wanted 4x4\), 1\.png"):
        check_pairs(reference, candidate, "mine", size_wanted=(4, 4))


def test_what_cannot_be_read_is_left_for_the_rows(tmp_path: Path) -> None:
    reference, candidate = (suite(tmp_path / n, of("0.png", "1.png")) for n in "rc")
    (tmp_path / "c" / "0.png").write_bytes(b"torn")
    (tmp_path / "r" / "1.png").write_bytes(b"torn")
    assert size_of(candidate, candidate.items[0]) is None
    assert len(check_pairs(reference, candidate, "mine")) == 2


def test_a_header_that_no_disk_gives_is_left_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PATIENCE", 0.2)
    answers, real = threading.Event(), pairing.header_size

    def slow(path: Path) -> tuple[int, int]:
        if path.name == "1.png":
            answers.wait(30)
        return real(path)

    monkeypatch.setattr(pairing, "header_size", slow)
    one, two = (suite(tmp_path / side, of(*(f"{k}.png" for k in range(6)))) for side in ("r", "c"))
    pairs = check_pairs(one, two, "mine")
    answers.set()
    assert len(pairs) == 6
