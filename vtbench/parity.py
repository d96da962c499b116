"""Shim: until the sweep."""

from vtbench.models.made_weights import fill_ as fill_
from vtbench.models.made_weights import values as values
from vtbench.models.names import compare_names as compare_names
from vtbench.models.names import manifest as manifest
from vtbench.models.names import manifest_of as manifest_of
from vtbench.models.names import names_of as names_of
from vtbench.proving.fixtures import SCHEMA as SCHEMA
from vtbench.proving.fixtures import Difference as Difference
from vtbench.proving.fixtures import Report as Report
from vtbench.proving.fixtures import merge as merge
from vtbench.proving.parity import check_fixture as check_fixture
