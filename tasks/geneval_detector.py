"""Shim: until the sweep."""

from vtbench.tasks.geneval.detect import NAME as NAME
from vtbench.tasks.geneval.detect import run as run
from vtbench.tasks.geneval.detector import DETECTOR as DETECTOR
