"""Numbers as they are read."""

from __future__ import annotations

from vtbench.leaderboard import words


def test_numbers_read_well() -> None:
    assert words.number(31.254, 2) == "31.25"
    assert words.number(None) == "—"
    assert words.number(-0.5, 1) == "−0.5"
    assert words.number(16384.0, 0) == "16\u202f384"
    assert words.number(0.00001, 4) == "1.0e−05", "a small number is not rounded to zero"
    assert words.number(1.2e-17, 4) == "0.0000", "what rounding leaves of a zero is a zero"
    assert words.decimals([0.93, 0.5]) == 4
    assert words.decimals([38.2, 9.5]) == 2
    assert words.decimals([256.0], "tokens") == 0
