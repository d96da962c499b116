"""What a record says of the machine."""

from __future__ import annotations

import subprocess
import sys

from vtbench.results import provenance


def test_peak_memory_is_this_process_own() -> None:
    """A parent that holds 300 MiB does not count in its child; the child's own 100 MiB do."""
    held = bytearray(300 << 20)
    code = "from vtbench.results import provenance; x = b'1' * (100 << 20); print(provenance.peak_memory())"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 100 << 20 < int(made.stdout) < 250 << 20
    assert provenance.peak_memory() > len(held)
