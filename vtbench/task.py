"""Moved to `vtbench.types.task`; this name stays for one release."""

from vtbench.types.task import *  # noqa: F403
