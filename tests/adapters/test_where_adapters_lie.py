"""One family, one file, found wherever it lies under adapters/; importing it imports no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vtbench import registry
from vtbench.models.network import load_class

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = ROOT / "adapters"
FOLDERS = ("builtin", "generators", "libraries", "tokenizers")
GREY = """
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family


class Grey(Tokenizer):
    def encode(self, images, seeds, budget=None):
        raise NotImplementedError

    def decode(self, tokens, seeds):
        raise NotImplementedError


FAMILY = Family("NAME", "Grey", (Card("NAME", "NAME", "continuous", "A grey picture"),), Grey)
"""


def test_every_file_of_the_four_folders_is_one_family() -> None:
    files = {p for folder in FOLDERS for p in (ADAPTERS / folder).glob("*.py") if p.name != "__init__.py"}
    named = {m.split(".")[-1] for m in registry.names_of_modules("vtbench.adapters")}
    assert named == {p.stem for p in files}
    assert len(registry.families()) == len(files)
    assert {p.name for p in ADAPTERS.iterdir() if p.is_dir() and p.name != "__pycache__"} == {
        *FOLDERS,
        "networks",
        "fits",
        "reducers",
    }


def test_reducers_have_a_list_of_their_own() -> None:
    """A file of reducers is no family of models, and each of them has at least one."""
    files = {p.stem for p in (ADAPTERS / "reducers").glob("*.py") if not p.name.startswith("_")}
    modules = {m.rpartition(".")[2] for m in registry.names_of_modules("vtbench.adapters.reducers")}
    assert files == modules
    assert {Path(str(registry.reducers().source(n).file)).stem for n, _ in registry.reducers().items()} == files


@pytest.mark.parametrize("family", [f for f in registry.families().values() if f.network], ids=lambda f: f.name)
def test_the_network_of_a_family_lies_in_networks(family: object) -> None:
    network = family.network  # type: ignore[attr-defined]
    assert network.startswith("vtbench.adapters.networks.")
    assert not network.startswith("vtbench.adapters.networks.parts.")
    assert isinstance(load_class(network), type)


def test_importing_all_adapters_imports_no_torch() -> None:
    code = (
        "import sys; from vtbench import registry; assert registry.entries(); assert registry.reducers()\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'diffusers', 'transformers') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_a_new_file_is_found_in_any_folder(tmp_path: Path) -> None:
    """Beside the four folders, in one of them, and in a folder of folders; what lies in networks/ is not looked at."""
    deep = tmp_path / "mine" / "deep"
    (tmp_path / "builtin").mkdir()
    (tmp_path / "networks").mkdir()
    deep.mkdir(parents=True)
    for folder in (tmp_path / "mine", deep, tmp_path / "networks"):
        (folder / "__init__.py").write_text("")
    for path in (tmp_path / "grey_top.py", tmp_path / "builtin" / "grey_builtin.py", deep / "grey_deep.py"):
        path.write_text(GREY.replace("NAME", path.stem.replace("_", "-")))
    (tmp_path / "networks" / "trap.py").write_text("raise RuntimeError('imported')")
    code = f"""
import vtbench.adapters, vtbench.adapters.builtin
vtbench.adapters.__path__.append({str(tmp_path)!r})
vtbench.adapters.builtin.__path__.append({str(tmp_path / "builtin")!r})
from vtbench import registry
for name in ("grey-top", "grey-builtin", "grey-deep"):
    print(name, registry.model(name).file)
assert registry.model("jpeg")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    places = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
    assert places["grey-deep"] == str(deep / "grey_deep.py")
    assert len(places) == 3
