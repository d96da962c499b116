"""Shim: until the sweep."""

from vtbench.proving.fresh_process import decode_here as decode_here
from vtbench.proving.fresh_process import subprocess as subprocess
from vtbench.proving.honesty import budget as budget
from vtbench.proving.honesty import fresh as fresh
from vtbench.proving.honesty import hidden as hidden
from vtbench.proving.honesty import state as state
