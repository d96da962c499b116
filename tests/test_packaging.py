"""The built wheel, installed elsewhere; a real plug-in package; README's promises about files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    made = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tracked files, so that leftovers of the checkout cannot hide a mistake."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to(os.readlink(ROOT / name))
        elif (ROOT / name).is_file():
            shutil.copyfile(ROOT / name, target)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_every_subpackage_and_nothing_at_the_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"vtbench"}
    for folder in ("adapters", "adapters/networks", "adapters/networks/parts", "tasks", "leaderboard", "metrics"):
        ours = {p.name for p in (ROOT / (f"vtbench/{folder}")).glob("*.py")}
        assert {
            n.rsplit("/", 1)[1] for n in names if n.rpartition("/")[0] == f"vtbench/{folder}" and n.endswith(".py")
        } == ours
    data = [p for folder in ("adapters", "tasks", "leaderboard") for p in (ROOT / folder).rglob("*")
            if p.suffix in (".safetensors", ".jsonl", ".png", ".j2", ".css", ".js")]  # fmt: skip
    missing = [str(p.relative_to(ROOT)) for p in data if f"vtbench/{p.relative_to(ROOT).as_posix()}" not in names]
    assert data
    assert not missing


def test_the_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    code = """
import importlib, pkgutil, sys
sys.path.insert(0, SITE)
sys.path = [p for p in sys.path if not p.startswith(ROOT + '/vtbench') and p != ROOT and 'editable' not in p]
sys.meta_path = [m for m in sys.meta_path if 'editable' not in repr(m).lower()]
import vtbench
assert vtbench.__file__.startswith(SITE), vtbench.__file__
for module in pkgutil.walk_packages(vtbench.__path__, "vtbench."):
    if not module.name.endswith("__main__") and ".fits." not in module.name and ".suites." not in module.name:
        importlib.import_module(module.name)
made = vtbench.evaluate("jpeg", images="starter-natural", view="256", tasks=["compression"], limit=1, out=OUT)
assert made.value("bpp") > 0
"""
    code = f"SITE, ROOT, OUT = {str(site)!r}, {str(ROOT)!r}, {str(tmp_path / 'out')!r}\n" + code
    run(sys.executable, "-c", code, cwd=tmp_path)


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
