"""Shim: until the sweep."""

from vtbench.statistics.bd import MIN_OVERLAP, MIN_POINTS, Delta, Point, bd_quality, bd_rate, curve

__all__ = ["MIN_OVERLAP", "MIN_POINTS", "Delta", "Point", "bd_quality", "bd_rate", "curve"]

METRICS = ()
