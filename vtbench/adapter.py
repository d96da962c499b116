"""Moved to `vtbench.types.adapter`; this name stays for one release."""

from vtbench.types.adapter import *  # noqa: F403
