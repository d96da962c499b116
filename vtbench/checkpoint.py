"""Shim: until the sweep."""

from vtbench.models.checkpoint import CONTAINERS as CONTAINERS
from vtbench.models.checkpoint import SUFFIXES as SUFFIXES
from vtbench.models.checkpoint import read as read
from vtbench.models.pickles import Stub as Stub
