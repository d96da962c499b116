"""Moved to `vtbench.types.cards`; this name stays for one release."""

from vtbench.types.cards import *  # noqa: F403
