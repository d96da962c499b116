"""Shim: until the sweep."""

from vtbench.images.folders import SUFFIXES as SUFFIXES
from vtbench.images.hub import REMOTE as REMOTE
from vtbench.images.manifests import builtin_suites as builtin_suites
from vtbench.images.manifests import manifest_lines as manifest_lines
from vtbench.images.opening import list_suites as list_suites
from vtbench.images.opening import open_suite as open_suite
from vtbench.images.suite import Suite as Suite
from vtbench.types.item import Item as Item

builtin = builtin_suites
