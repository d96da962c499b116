"""Moved to `vtbench.types.errors`; this name stays for one release."""

from vtbench.types.errors import *  # noqa: F403
