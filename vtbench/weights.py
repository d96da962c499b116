"""Moved to `vtbench.models.checkpoint`; this name stays for one release, for adapters that read their own files."""

from vtbench.models.checkpoint import read as read
