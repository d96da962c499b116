"""The command line: thin over the Python API of the same shape. Verbs are listed in `main`.

Every function imports what it calls when it is called, so that `vtbench --help` and `vtbench list` load nothing heavy.
"""

from vtbench.cli.apps import app
from vtbench.cli.main import main

__all__ = ["app", "main"]
