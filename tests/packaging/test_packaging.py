"""What `pip install` carries, from every kind of source; the wheel at work elsewhere; plug-in packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = {"vtbench": "vtbench", **{f"vtbench.{name}": name for name in ("adapters", "tasks", "leaderboard")}}
"""{package: its folder in the repository}"""
STAYS_OUT: tuple[str, ...] = ()
"""Tracked files below those folders that no wheel is to carry, as paths in the repository."""


def run(*command: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran


def git(*words: str, **environment: str) -> str:
    return run("git", *words, cwd=ROOT, **environment).stdout


def shipped() -> dict[str, str]:
    """{file in the repository: place in a wheel} of all that git tracks, or would track, of the package."""
    out = {}
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", *TOPS.values()).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink() and name not in STAYS_OUT:
            out[name] = name if name.startswith("vtbench/") else f"vtbench/{name}"
    return out


ALONE = """
import os, sys
sys.path = [p for p in sys.path if p and not os.path.isdir(os.path.join(p, "vtbench"))]
sys.meta_path = [m for m in sys.meta_path if "editable" not in repr(m).lower()]
for name in [n for n in sys.modules if "__editable__" in n]:
    del sys.modules[name]
"""
"""Code that hides the vtbench of the environment that runs the tests, whichever way it was installed."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`git archive --format=zip` of the tree as it stands, uncommitted changes included; the repository stays as it
    was, since index and new objects go elsewhere."""
    folder = tmp_path_factory.mktemp("archive")
    objects = (ROOT / git("rev-parse", "--git-path", "objects").strip()).resolve()
    elsewhere = {
        "GIT_INDEX_FILE": str(folder / "index"),
        "GIT_OBJECT_DIRECTORY": str(folder),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
    }
    git("add", "--all", ".", **elsewhere)
    tree = git("write-tree", **elsewhere).strip()
    git("archive", "--format=zip", f"--output={folder / 'source.zip'}", tree, **elsewhere)
    return folder / "source.zip"


@pytest.fixture(scope="module")
def sources(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{kind: unpacked source}. Python's zipfile writes a link as a text file that holds its target, as do clones
    without symbolic links; an sdist has no entry for it at all."""
    folder = tmp_path_factory.mktemp("sources")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder / "text")
    shutil.copytree(folder / "text", folder / "links")
    for name in ("adapters", "tasks", "leaderboard"):
        held = folder / "links" / "vtbench" / name
        assert (folder / "text" / "vtbench" / name).read_text() == f"../{name}"
        held.unlink()
        held.symlink_to(f"../{name}")
    build("sdist", folder / "text", folder)
    (packed,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(packed, folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return {"text": folder / "text", "links": folder / "links", "sdist": unpacked}


def build(kind: str, source: Path, target: Path) -> None:
    """What an installer asks of the build backend: sdist, wheel or editable."""
    target.mkdir(exist_ok=True)
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    run(sys.executable, "-c", code, cwd=source, PYTHONPATH="")


@pytest.fixture(scope="module")
def wheels(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{kind of source: the wheel built from it}, each from a copy, so that one build cannot help another."""
    folder = tmp_path_factory.mktemp("wheels")
    out = {}
    for kind, source in sources.items():
        shutil.copytree(source, folder / f"{kind}-source", symlinks=True)
        build("wheel", folder / f"{kind}-source", folder / kind)
        (out[kind],) = (folder / kind).glob("*.whl")
    return out


def test_every_folder_is_in_the_list_of_packages() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    wanted = {place.rpartition("/")[0].replace("/", ".") for place in shipped().values()}
    lines = "".join(f'  "{name}",\n' for name in sorted(wanted - set(listed)))
    assert not lines, f"add to packages in [tool.setuptools] of pyproject.toml:\n{lines}"
    gone = sorted(set(listed) - wanted)
    assert not gone, f"take from packages in [tool.setuptools] of pyproject.toml, there is no such folder: {gone}"
    assert listed == sorted(listed), "sort packages in [tool.setuptools] of pyproject.toml"


@pytest.mark.parametrize("kind", ["text", "links", "sdist"])
def test_the_wheel_holds_every_file_and_nothing_else(wheels: dict[str, Path], kind: str) -> None:
    inside = {n for n in zipfile.ZipFile(wheels[kind]).namelist() if ".dist-info/" not in n}
    wanted = set(shipped().values())
    assert len([n for n in wanted if n.endswith((".safetensors", ".jsonl", ".png", ".j2", ".css", ".js"))]) > 30
    assert {"vtbench/py.typed", "vtbench/release.json"} <= wanted
    missing = sorted(wanted - inside)
    assert not missing, (
        f"not in a wheel built from {kind}: {missing}; a new folder goes into packages, a new suffix into package-data "
        "(pyproject.toml), and what is to stay out into STAYS_OUT here"
    )
    assert sorted(inside - wanted) == []


def test_the_wheel_works_elsewhere(wheels: dict[str, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheels["text"])
    code = """
import importlib, pkgutil
sys.path.insert(0, SITE)
import vtbench
assert vtbench.__file__.startswith(SITE), vtbench.__file__
for module in pkgutil.walk_packages(vtbench.__path__, "vtbench."):
    if not module.name.endswith("__main__") and ".fits." not in module.name and ".suites." not in module.name:
        importlib.import_module(module.name)
result = vtbench.evaluate("jpeg", images="starter-natural", view="256", tasks=["compression"], limit=1, out=OUT)
assert result.value("bpp") > 0
"""
    places = f"SITE, OUT = {str(site)!r}, {str(tmp_path / 'out')!r}\n"
    run(sys.executable, "-c", places + ALONE + code, cwd=tmp_path, PYTHONPATH="")


@pytest.mark.parametrize("kind", ["text", "links"])
def test_an_editable_install_finds_what_lies_at_the_top_level(
    sources: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """The editable wheel, put into a folder as an installer does, with the links and with text files in their place."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(sources[kind], source, symlinks=True)
    build("editable", source, tmp_path / "wheel")
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    code = """
import site
sys.path.insert(0, SITE)
site.addsitedir(SITE)
import vtbench, vtbench.adapters.networks, vtbench.tasks.compression, vtbench.leaderboard, vtbench.types.version
for module in (vtbench, vtbench.adapters, vtbench.tasks, vtbench.leaderboard, vtbench.types):
    assert os.path.realpath(module.__file__).startswith(SOURCE), module.__file__
result = vtbench.evaluate("pca", images="starter-natural", view="256", tasks=["compression"], limit=1, out=OUT)
assert result.value("bpp") > 0
vtbench.leaderboard.build([run.path for run in result.runs], OUT + "/site")
"""
    places = f"SITE, SOURCE, OUT = {str(site)!r}, {os.path.realpath(source)!r}, {str(tmp_path / 'out')!r}\n"
    run(sys.executable, "-c", places + ALONE + code, cwd=tmp_path, PYTHONPATH="")


def test_a_plugin_package_is_found_and_checked(tmp_path: Path) -> None:
    source = tmp_path / "plugin"
    shutil.copytree(ROOT / "tests" / "plugin", source)
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, source)
    path = os.pathsep.join([str(site), str(ROOT)])
    listed = run(sys.executable, "-m", "vtbench", "list", "models", "--json", cwd=tmp_path, PYTHONPATH=path).stdout
    (card,) = [m for m in json.loads(listed) if m["name"] == "example-grey"]
    assert card["state"] == "ready"
    said = run(sys.executable, "-m", "vtbench", "check", "example-grey", cwd=tmp_path, PYTHONPATH=path).stdout
    assert "0 failed" in said


def test_a_broken_plugin_is_named_and_hides_nothing(tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vtbench.adapters]\nbroken = no_such_module_of_a_plugin\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    listed = json.loads(run(sys.executable, "-m", "vtbench", "list", "models", "--json", PYTHONPATH=path).stdout)
    assert [m["needs"] for m in listed if m["state"] == "broken"]
    assert any(m["name"] == "jpeg" for m in listed)
