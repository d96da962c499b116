"""Shim: until the sweep."""

from vtbench.images.protocols import ORIGINALS as ORIGINALS
from vtbench.images.protocols import PROTOCOLS as PROTOCOLS
from vtbench.images.protocols import Protocol as Protocol
from vtbench.images.protocols import get as get
from vtbench.images.rounding import ROUNDINGS as ROUNDINGS
from vtbench.images.rounding import Rounding as Rounding
from vtbench.images.rounding import rounded as rounded
from vtbench.images.rounding import truncate as truncate
from vtbench.images.rounding import truncate_through_range as truncate_through_range
