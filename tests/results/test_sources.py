"""Which files decide a number: imports of every form are followed, within vtbench and in somebody's own files."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from support import CODE, ROOT, copy_of_vtbench, python

from vtbench.results import sources
from vtbench.types.errors import VtbenchError


def write(folder: Path, **files: str) -> None:
    """`a__b="..."` is a/b.py; `a__` alone is the package's `__init__.py`."""
    for name, text in files.items():
        parts = name.split("__")
        path = folder.joinpath(*parts[:-1], f"{parts[-1] or '__init__'}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def own(folder: Path, root: str) -> set[str]:
    """Files of `folder` in the closure of its file `root`."""
    files = sources.closure([folder / root])
    return {p.relative_to(folder).as_posix() for p in files if p.is_relative_to(folder)}


def ours(root: Path) -> set[str]:
    return {sources.name_of(p) for p in sources.closure([root]) if sources.is_ours(p)}


@pytest.mark.parametrize(
    "statement",
    [
        "import beside",
        "import os, beside",
        "import beside as b",
        "import beside  # said so",
        "from beside import x",
        "from beside import (x, y)",
        "from beside import (\n    x,  # of (this)\n    y,\n)",
        "import os, \\\n    beside",
        "try:\n    import beside\nexcept ImportError:\n    beside = None",
        "def late():\n    import beside\n    return beside",
        "import os; import beside",
        "if True: import beside",
        "if TYPE_CHECKING:\n    import torch\nimport beside",
        "if TYPE_CHECKING:\n    import torch\n\nelse:\n    import beside",
        "if not TYPE_CHECKING:\n    import beside",
    ],
)
def test_a_file_beside_is_followed_however_it_is_imported(tmp_path: Path, statement: str) -> None:
    write(tmp_path, mine=statement + "\n", beside="import further\n", further="", other="")
    assert own(tmp_path, "mine.py") == {"mine.py", "beside.py", "further.py"}


@pytest.mark.parametrize(
    "statement",
    [
        "if TYPE_CHECKING:\n    import beside\n",
        "if TYPE_CHECKING:\n    from beside import (\n        x,\n    )\n\n    import beside\n",
        "import typing\nif typing.TYPE_CHECKING:\n    import beside\n",
        "# import beside\n",
        "important = 1\nfrom_beside = 2\n",
        "x = 'import beside'\n",
    ],
)
def test_what_does_not_run_is_not_followed(tmp_path: Path, statement: str) -> None:
    write(tmp_path, mine=statement, beside="")
    assert own(tmp_path, "mine.py") == {"mine.py"}


def test_relative_imports_and_packages_own_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        pkg__="",
        pkg__adapter="from . import near\nfrom .sub.deep import x\nfrom .. import unreachable\n",
        pkg__near="from .sub import named\n",
        pkg__sub__="",
        pkg__sub__deep="from ..shared import y\nfrom pkg import absolute\n",
        pkg__sub__named="",
        pkg__shared="",
        pkg__absolute="import pkg.dotted\n",
        pkg__dotted="",
        pkg__unused="",
    )
    assert own(tmp_path, "pkg/adapter.py") == {
        "pkg/__init__.py",
        "pkg/adapter.py",
        "pkg/near.py",
        "pkg/sub/__init__.py",
        "pkg/sub/deep.py",
        "pkg/sub/named.py",
        "pkg/shared.py",
        "pkg/absolute.py",
        "pkg/dotted.py",
    }


def test_a_circle_ends(tmp_path: Path) -> None:
    write(tmp_path, a="import b\n", b="import c\n", c="import a\n")
    assert own(tmp_path, "a.py") == {"a.py", "b.py", "c.py"}


def test_folders_that_python_was_told_of_are_followed_and_installed_libraries_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "elsewhere", models__="", models__vq="import layers\n", layers="")
    library = tmp_path / "lib" / "site-packages"
    write(library, plug__="", plug__adapter="import plug.net\nimport torch\nimport single\n", plug__net="", single="")
    write(tmp_path / "mine", mine="from models.vq import VQ\nimport torch, json, single\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "elsewhere"), str(library)])
    assert own(tmp_path, "mine/mine.py") == {
        "mine/mine.py",
        "elsewhere/models/__init__.py",
        "elsewhere/models/vq.py",
        "elsewhere/layers.py",
    }
    assert own(library, "plug/adapter.py") == {"plug/__init__.py", "plug/adapter.py", "plug/net.py"}
    everything = sources.closure([tmp_path / "mine" / "mine.py", library / "plug" / "adapter.py"])
    assert not [p for p in everything if p.is_relative_to(sysconfig.get_path("stdlib"))]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, mine="import a\n", a="", b="")
    assert own(tmp_path, "mine.py") == {"mine.py", "a.py"}
    (tmp_path / "mine.py").write_text("import a, b\n")
    assert own(tmp_path, "mine.py") == {"mine.py", "a.py", "b.py"}
    (tmp_path / "a.py").unlink()
    assert own(tmp_path, "mine.py") == {"mine.py", "b.py"}


def test_a_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place, mine="import a\n", a="x = 1\n")
    digest = sources.digest([tmp_path / "one" / "mine.py"])
    assert sources.digest([tmp_path / "two" / "mine.py"]) == digest
    write(tmp_path / "three", mine="import a\n", a="x = 2\n")
    write(tmp_path / "four", mine="import b\n", b="x = 1\n")
    assert len({digest, *(sources.digest([tmp_path / p / "mine.py"]) for p in ("three", "four"))}) == 3


def test_files_of_one_name_all_count(tmp_path: Path) -> None:
    """Three `__init__.py`, two of them in folders of one name."""
    files = {"pkg__": "", "pkg__a__x__": "x = 1\n", "pkg__b__x__": "x = 2\n", "pkg__a__": "", "pkg__b__": ""}
    text = "import pkg.a.x, pkg.b.x\n"
    digests = set()
    for number, changed in enumerate(({}, {"pkg__a__x__": "x = 3\n"}, {"pkg__b__x__": "x = 3\n"})):
        write(tmp_path / str(number), mine=text, **{**files, **changed})
        digests.add(sources.digest([tmp_path / str(number) / "mine.py"]))
    assert len(digests) == 3


def test_code_that_changed_under_a_running_process_is_refused(tmp_path: Path) -> None:
    """What runs is what was imported; a result under the new digest would be a lie."""
    write(tmp_path, mine="import a\n", a="x = 1\n")
    first = sources.digest([tmp_path / "mine.py"])
    (tmp_path / "a.py").write_text("x = 2\n")
    with pytest.raises(VtbenchError, match=r"a\.py has changed since this process read it.*restart the kernel"):
        sources.digest([tmp_path / "mine.py"])
    (tmp_path / "a.py").write_text("x = 1\n")
    assert sources.digest([tmp_path / "mine.py"]) == first


def test_imports_within_vtbench_are_followed_to_the_parts() -> None:
    names = ours(ROOT / "adapters" / "networks" / "llamagen.py")
    assert {
        "adapters/networks/llamagen.py",
        "adapters/networks/__init__.py",
        "adapters/networks/parts/conv.py",
        "adapters/networks/parts/quantizers.py",
        "adapters/networks/parts/vq_autoencoder.py",
        "models/network.py",
        "types/errors.py",
    } <= names
    assert "adapters/networks/var.py" not in names
    assert "__init__.py" not in names, "the face imports nothing until it is asked"


def test_a_users_file_reaches_into_vtbench(tmp_path: Path) -> None:
    write(
        tmp_path, mine="from vtbench.adapters.networks.parts import conv\nimport vtbench\nfrom vtbench import Codes\n"
    )
    names = ours(tmp_path / "mine.py")
    assert "adapters/networks/parts/conv.py" in names
    assert "adapters/networks/llamagen.py" not in names


def test_the_adapters_part_of_a_digest_leaves_the_core_out(tmp_path: Path) -> None:
    write(tmp_path, mine="from vtbench.types import tokens\nfrom vtbench.adapters.networks.parts import conv\n")
    names = [sources.name_of(p) for p in sources.closure([tmp_path / "mine.py"])]
    kept = [p for p in sources.closure([tmp_path / "mine.py"]) if sources.name_of(p).startswith(("adapters/", "mine"))]
    assert len(kept) < len(names)
    assert sources.digest([tmp_path / "mine.py"], core=False) == sources.digest_of(kept)


NAMES = """
import json
from vtbench.results import provenance, sources
print(json.dumps([provenance.code_digest(), sorted(map(sources.name_of, provenance.source_files()))]))
"""
FINDER = """
import importlib.util, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        package, _, folder = name.rpartition(".")
        if package == "vtbench" and folder in ("adapters", "tasks", "leaderboard"):
            place = sys.argv[1] + "/" + folder
            return importlib.util.spec_from_file_location(
                name, place + "/__init__.py", submodule_search_locations=[place])
sys.meta_path.insert(0, Finder())
"""
"""What an editable installation does for folders that lie beside the package."""


def test_the_digest_is_the_same_wherever_the_code_lies(tmp_path: Path) -> None:
    """A checkout with links, an installed tree with real folders inside, and a checkout whose links are text files."""
    linked = copy_of_vtbench(tmp_path / "linked")
    beside = [name for name in CODE if name != "vtbench"]
    assert all((linked / "vtbench" / name).is_symlink() for name in beside)
    inside = tmp_path / "inside"
    shutil.copytree(linked / "vtbench", inside / "vtbench", symlinks=False)
    assert not any((inside / "vtbench" / name).is_symlink() for name in beside)
    digest, names = json.loads(python(NAMES, checkout=linked))
    assert len(names) == len(set(names)) > 200
    assert json.loads(python(NAMES, checkout=inside)) == [digest, names]
    for name in beside:
        (linked / "vtbench" / name).unlink()
        (linked / "vtbench" / name).write_text(f"../{name}")
    assert json.loads(python(FINDER + NAMES, linked, checkout=linked)) == [digest, names]


def test_an_unreadable_file_counts_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"import a\n\xff\xfe")
    assert own(tmp_path, "mine.py") == {"mine.py"}
    assert len(sources.digest([tmp_path / "mine.py"])) == 64


def test_what_was_looked_through_before_is_looked_through_again_where_it_changed(tmp_path: Path) -> None:
    """Also where a text is as long as before and its time was put back; what nobody touched gives the same digest."""
    write(tmp_path, mine="import one\n", one="x = 1\n", two="import three\n", three="")
    assert own(tmp_path, "mine.py") == {"mine.py", "one.py"}
    mine = tmp_path / "mine.py"
    times = mine.stat()
    mine.write_text("import two\n")
    os.utime(mine, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert own(tmp_path, "mine.py") == {"mine.py", "two.py", "three.py"}
    (tmp_path / "three.py").unlink()
    assert own(tmp_path, "mine.py") == {"mine.py", "two.py"}
    assert own(tmp_path, "later.py") == set()
    write(tmp_path, later="")
    assert own(tmp_path, "later.py") == {"later.py"}


def test_contents_are_read_again_where_a_files_facts_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that changed less than two seconds ago is always read, an older one when its size, times or inode differ."""
    path = tmp_path / "a.py"
    path.write_text("x = 1\n")
    old = sources.hashes([path])
    assert path not in sources._known
    monkeypatch.setattr(sources, "YOUNG", -1.0)
    assert sources.hashes([path]) == old
    assert path in sources._known
    times = path.stat()
    path.write_text("x = 2\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sources.hashes([path]) != old
