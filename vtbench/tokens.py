"""Moved to `vtbench.types.tokens`; this name stays for one release."""

from vtbench.types.tokens import *  # noqa: F403
