"""The release states its own digest; a tree that differs from it is not ranked."""

from __future__ import annotations

import vtbench
from vtbench.results import provenance


def test_release_json_is_of_this_tree() -> None:
    stated = provenance.release()
    assert stated == {"version": vtbench.__version__, "digest": provenance.code_digest()}, "run `make release`"
