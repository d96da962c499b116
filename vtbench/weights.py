"""Shim: until the sweep."""

from vtbench.models.checkpoint import read as read
from vtbench.models.files import cached as cached
from vtbench.models.files import place_in_cache as _store
from vtbench.models.files import sha256_file as sha256_file
from vtbench.models.fill import fill as fill
from vtbench.models.fill import state_dict as state_dict
from vtbench.models.fill import stored_as as stored_as
from vtbench.models.names import TRAINING_ONLY as TRAINING_ONLY
from vtbench.models.names import check_names as compare
from vtbench.models.names import is_optional as ignored
from vtbench.models.weights import Status as Status
from vtbench.models.weights import WeightFiles as Found
from vtbench.models.weights import find as find

__all__ = ["Found", "_store", "compare", "ignored"]
