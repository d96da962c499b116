"""Shim: until the sweep."""

from vtbench.metrics.moments import Moments as Moments
from vtbench.metrics.moments import Statistics as Statistics
from vtbench.metrics.moments import blocks as blocks
from vtbench.metrics.moments import load as load
from vtbench.metrics.moments import of as of
