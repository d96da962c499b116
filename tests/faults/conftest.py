"""Where the harness finds what other tests have: damage to run folders and checkpoints, pictures of every format."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(place) for place in (TESTS / "leaderboard", TESTS / "models", TESTS.parent)]
