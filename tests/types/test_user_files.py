"""`path/to/file.py@name`: files that lie in a package, and folders and names that hold an @."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import vtbench
from vtbench import registry
from vtbench.types.errors import VtbenchError
from vtbench.types.plugins import path_and_name

ADAPTER = """
from vtbench import Bitstream, Card, Family, Multiple, Tokenizer
class T(Tokenizer):
    def encode(self, images, seeds, budget=None):
        return Bitstream([bytes([LEVELS])] * len(images), tuple(images.shape[2:]))
    def decode(self, tokens, seeds):
        raise NotImplementedError
CARDS = tuple(Card(name=n, family="t", kind="codec", title=str(LEVELS), sizes=Multiple(1)) for n in ("lev", "lev@2"))
FAMILY = Family("t", "t", CARDS, T)
"""


def _tree(root: Path, **files: str) -> Path:
    """`a__b="..."` is a/b.py; `a__` alone is the package's `__init__.py`."""
    for name, text in files.items():
        parts = name.split("__")
        path = root.joinpath(*parts[:-1], f"{parts[-1] or '__init__'}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "adapter"),
    [
        ({"pkg__": "", "pkg__levels": "LEVELS = 7\n", "pkg__my": "from .levels import LEVELS\n"}, "pkg/my.py"),
        (
            {
                "pkg__": "NAME = 'pkg'\n",
                "pkg__parts__": "from ..base import BASE\n",
                "pkg__base": "BASE = 6\n",
                "pkg__parts__levels": "from . import BASE\nLEVELS = BASE + 1\n",
                "pkg__deep__": "",
                "pkg__deep__my": "from ..parts.levels import LEVELS\nfrom .. import NAME\n",
            },
            "pkg/deep/my.py",
        ),
        ({"levels": "LEVELS = 7\n", "my": "from .levels import LEVELS\n"}, "my.py"),
        ({"parts__levels": "LEVELS = 7\n", "my": "from .parts import levels\nLEVELS = levels.LEVELS\n"}, "my.py"),
    ],
)
def test_relative_imports_work_where_the_file_lies_in_a_package(
    files: dict[str, str], adapter: str, tmp_path: Path
) -> None:
    _tree(tmp_path, **files)
    with (tmp_path / adapter).open("a") as file:
        file.write(ADAPTER)
    before = list(sys.path)
    loaded = vtbench.load(f"{tmp_path / adapter}@lev")
    assert loaded.system.card.title == "7"
    assert sys.path == before
    names = {path.name for path in loaded.sources}
    assert "levels.py" in names


def test_a_module_that_is_edited_in_a_package_is_another_adapter(tmp_path: Path) -> None:
    digests = set()
    for number in (1, 2):
        root = _tree(
            tmp_path / str(number), pkg__="", pkg__levels=f"LEVELS = {number}\n", pkg__my="from .levels import *\n"
        )
        with (root / "pkg" / "my.py").open("a") as file:
            file.write(ADAPTER)
        digests.add(vtbench.load(f"{root / 'pkg' / 'my.py'}@lev").identity["adapter"])
    assert len(digests) == 2


def test_a_package_that_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    _tree(tmp_path, pkg__="import nothing_of_this_name\n", pkg__my="from . import levels\n" + ADAPTER)
    for _ in range(2):
        with pytest.raises(VtbenchError, match=r"my\.py cannot be imported .*nothing_of_this_name"):
            vtbench.load(f"{tmp_path / 'pkg' / 'my.py'}@lev")
    with pytest.raises(VtbenchError, match="cannot be imported"):
        vtbench.load(f"{_tree(tmp_path, alone='from .absent import x') / 'alone.py'}@lev")


@pytest.mark.parametrize("folder", ["plain", "run@step2000", "old.py@1"])
@pytest.mark.parametrize("name", ["lev", "lev@2"])
def test_an_at_in_a_name_or_a_folder(folder: str, name: str, tmp_path: Path) -> None:
    root = _tree(tmp_path / folder, my="LEVELS = 7\n" + ADAPTER)
    assert path_and_name(f"{root / 'my.py'}@{name}") == (root / "my.py", name)
    assert vtbench.load(f"{root / 'my.py'}@{name}").identity["name"] == name


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match=r"absent\.py does not exist"):
        vtbench.load(f"{tmp_path / 'absent.py'}@lev@2")


def test_a_name_that_the_file_lacks_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("LEVELS = 7\n" + ADAPTER)
    vtbench.load(f"{tmp_path / 'mine.py'}@lev")
    with pytest.raises(VtbenchError, match=r"has no model 'nix'; it has lev, lev@2"):
        vtbench.load(f"{tmp_path / 'mine.py'}@nix")


def test_a_package_that_failed_is_imported_whole_once_it_is_mended(tmp_path: Path) -> None:
    """Nothing of the failed attempt stays behind: a part that was imported before the mistake is read again."""
    _tree(tmp_path, pkg__="", pkg__early="LEVELS = 7\n", pkg__late="raise ValueError('not yet')\n")
    file = tmp_path / "pkg" / "my.py"
    file.write_text("from .early import LEVELS\nfrom . import late\n" + ADAPTER)
    before = set(sys.modules)
    with pytest.raises(VtbenchError, match="not yet"):
        vtbench.load(f"{file}@lev")
    assert [name for name in set(sys.modules) - before if name.startswith("vtbench_user_")] == []
    (tmp_path / "pkg" / "late.py").write_text("")
    (tmp_path / "pkg" / "early.py").write_text("LEVELS = 19\n")
    assert vtbench.load(f"{file}@lev").system.card.title == "19"


METRIC = """
from vtbench import ImageMetric, MetricCard, Value
class Zero(ImageMetric):
    card = MetricCard(name="zero", title="0", version=1, unit="", better=None, source="none", bounds=(0.0, 0.0))
    def measure(self, batch):
        return [Value(0.0)] * len(batch)
METRICS = (Zero,)
"""


def test_a_metric_is_recorded_by_its_name_and_refused_by_another(tmp_path: Path) -> None:
    file = tmp_path / "zero_of_mine.py"
    file.write_text(METRIC.replace('"zero"', '"zero-of-mine"'))
    assert registry.metric_names([f"{file}@zero-of-mine", "psnr"]) == ["zero-of-mine", "psnr"]
    assert registry.metric_names([f"{file}@zero-of-mine"]) == ["zero-of-mine"], "a second time, without reading it"
    with pytest.raises(VtbenchError, match=r"has no metric 'nix'; it has zero-of-mine"):
        registry.metric_names([f"{file}@nix"])
    assert "zero-of-mine" not in list(registry.metrics()), "no list shows what was only named by path"
