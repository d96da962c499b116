"""Shim: until the sweep."""

from vtbench.proving.contract import Check as Check
from vtbench.proving.contract import check as check
from vtbench.proving.pictures import photograph as photograph
