"""Moved to `vtbench.types.metric`; this name stays for one release."""

from vtbench.types.metric import *  # noqa: F403
