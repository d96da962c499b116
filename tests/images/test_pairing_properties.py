"""Pairing by name: the order of files, their suffixes and the form in which a system writes é do not matter."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vtbench.images.pairing import check_pairs, pair_names, stem
from vtbench.images.suite import Suite
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

QUICK = settings(derandomize=True, max_examples=40, deadline=None, database=None)
LETTERS = st.sampled_from([*"abz0 -_.", "é", "Å", "ﬁ", "한", "日", "ü", "e\u0301", "A\u030a"])
"""Letters that Unicode writes in one way or in two among them."""
PART = st.lists(LETTERS, min_size=1, max_size=4).map("".join).filter(lambda part: part.strip(". ") == part)
PATHS = st.lists(PART, min_size=1, max_size=2).map("/".join)
NAMES = st.lists(PATHS, min_size=1, max_size=6, unique_by=lambda name: unicodedata.normalize("NFC", name))
SUFFIXES = st.sampled_from([".png", ".JPEG", ".webp", ".tar.png"])


def suite(name: str, files: list[str]) -> Suite:
    return Suite(name, [Item(file, file) for file in files], "0" * 64)


@given(NAMES, SUFFIXES, st.sampled_from(["NFC", "NFD"]), st.sampled_from(["NFC", "NFD"]), st.randoms())
@QUICK
def test_files_pair_in_any_order_and_either_form(
    names: list[str], suffix: str, one: Any, two: Any, random: Any
) -> None:
    files = [f"{unicodedata.normalize(one, name)}.png" for name in names]
    pictures = [f"{unicodedata.normalize(two, name)}{suffix.removeprefix('.tar')}" for name in names]
    random.shuffle(pictures)
    pairs = check_pairs(suite("originals", files), suite("pictures", pictures), "pictures")
    assert [a.id for a, _ in pairs] == files
    assert all(stem(a.id) == stem(b.id) for a, b in pairs)
    assert sorted(b.id for _, b in pairs) == sorted(pictures)


@given(NAMES, st.data())
@QUICK
def test_one_missing_or_one_too_many_is_named_and_never_paired(names: list[str], data: Any) -> None:
    lost = data.draw(st.sampled_from(names))
    files, rest = [f"{n}.png" for n in names], [f"{n}.png" for n in names if n != lost]
    assume(rest)
    for originals, pictures, words in ((files, rest, "1 missing from"), (rest, files, "without an original")):
        with pytest.raises(VtbenchError, match=words) as refused:
            check_pairs(suite("originals", originals), suite("pictures", pictures), "pictures")
        assert f"{lost}.png" in str(refused.value)
        shared = check_pairs(suite("originals", originals), suite("pictures", pictures), "pictures", partial=True)
        assert [(a.id, b.id) for a, b in shared] == [(f, f) for f in rest]


@given(NAMES, st.data())
@QUICK
def test_two_files_of_one_name_are_refused_in_either_form(names: list[str], data: Any) -> None:
    twin = data.draw(st.sampled_from(names))
    form = data.draw(st.sampled_from(["NFC", "NFD"]))
    items = [Item(f"{n}.png", n) for n in names]
    second = Item(f"{unicodedata.normalize(form, twin)}.webp", twin)
    with pytest.raises(VtbenchError, match="which pair with one original"):
        pair_names([*items, second], "pictures")
    assert list(pair_names(items, "pictures").values()) == items
