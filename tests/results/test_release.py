"""The release states the digest of every file that decides a number; a tree that differs from it is not ranked."""

from __future__ import annotations

from vtbench.results import provenance, sources
from vtbench.types.version import VERSION


def test_release_json_is_of_this_tree() -> None:
    stated = provenance.release()
    assert provenance.changed() == [], "run `make release`"
    assert (stated["version"], stated["digest"]) == (VERSION, provenance.code_digest()), "run `make release`"


def test_the_release_covers_what_decides_numbers_and_nothing_else() -> None:
    names = {sources.name_of(path) for path in provenance.source_files()}
    assert {
        "adapters/networks/taesd.py",
        "adapters/networks/parts/transformer.py",
        "adapters/builtin/tokenbridge.py",
        "adapters/fits/pca.safetensors",
        "metrics/psnr.py",
        "tasks/detail.py",
        "tasks/suites/starter-natural.jsonl",
        "images/rounding.py",
        "models/pickles.py",
        "running/writer.py",
        "scoring/measure.py",
        "types/tokens.py",
    } <= names
    assert [n for n in names if n.startswith(("leaderboard/", "reporting/", "cli/", "proving/", "explaining/"))] == []
