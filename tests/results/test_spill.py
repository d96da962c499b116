"""What is put on the disk comes back as it was, whether it fits into memory or not."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import made_runs
import pytest

from vtbench.leaderboard.site import write_site
from vtbench.results import spill
from vtbench.results.files import NotWritten
from vtbench.results.spill import Spill, Texts

NAMES = ["", "a", "a\nb", 'q"uo\\te', "é/ü.png", "\udcff.png", "\u2028", "a"] * 3


@pytest.mark.parametrize("in_memory", [1, 1 << 20])
def test_bytes_of_many_in_one_file(monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    monkeypatch.setattr(spill, "IN_MEMORY", in_memory)
    shared = Spill()
    parts = [bytes([k]) * (k * 97 % 300) for k in range(100)]
    places = []
    for part in parts:
        places.append(shared.keep(part))
        # Reading in between moves nothing.
        assert shared.read(places[0]) == parts[0]
    assert [shared.read(place) for place in reversed(places)] == parts[::-1]


@pytest.mark.parametrize("portion", [1, 5, 24, 4096])
def test_texts_come_back_in_order_and_at_their_places(monkeypatch: pytest.MonkeyPatch, portion: int) -> None:
    monkeypatch.setattr(spill, "PORTION", portion)
    shared = Spill()
    one, two, shorter = Texts(shared), Texts(shared), Texts(Spill())
    for name in NAMES:
        one.append(name)
        two.append(name)
    for name in [*NAMES[:-1], "b"]:
        shorter.append(name)
    for closed in (False, True):
        if closed:
            for texts in (one, two, shorter):
                texts.close()
        assert list(one) == NAMES
        assert [one[k] for k in range(len(NAMES))] == one[:] == NAMES
        assert list(one.of([3, 4, 17, 2])) == [NAMES[k] for k in (3, 4, 17, 2)]
        assert one.same(two)
        assert not one.same(shorter)


def test_a_full_disk_is_no_fault_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_runs.write(tmp_path / "a", values={"psnr": [30.0, 31.0, 32.0, 33.0, 34.0, 35.0]})

    class Full:
        def seek(self, place: int) -> None:
            pass

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spill.tempfile, "SpooledTemporaryFile", lambda *a, **k: Full())
    left_out: dict[Path, Any] = {}
    with pytest.raises(NotWritten, match="disk is full"):
        write_site([run], tmp_path / "site", left_out)
    assert left_out == {}
