"""Shim: until the sweep."""

from vtbench.explaining.runs import differing as differing
from vtbench.explaining.runs import explain_runs as explain_runs
