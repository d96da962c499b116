"""Shim: until the sweep."""

from vtbench.reporting.comparable import check_protocols, labels
from vtbench.reporting.comparable import protocol_fields as fields
from vtbench.reporting.compare import EXAMPLES, Comparison, Difference, Example, compare

__all__ = ["EXAMPLES", "Comparison", "Difference", "Example", "check_protocols", "compare", "fields", "labels"]
