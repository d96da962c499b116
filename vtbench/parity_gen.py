"""Shim: until the sweep."""

from vtbench.models.replay import Inputs as Arrays
from vtbench.models.replay import Replay as Given
from vtbench.models.replay import pairs as pairs
from vtbench.proving.parity import check_fixture as check_fixture
from vtbench.proving.parity_generators import RELATIVE as RELATIVE
from vtbench.proving.parity_generators import fill as fill

__all__ = ["RELATIVE", "Arrays", "Given", "check_fixture", "fill", "pairs"]
