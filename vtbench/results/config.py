"""How a run is asked for, as YAML: what `evaluate --config` reads, and what every run's folder keeps to be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtbench.results.files import disk_error, plain, write_atomic
from vtbench.types.errors import VtbenchError

CONFIG = "config.yaml"
LARGEST = 1 << 20
"""Bytes of such a file."""
HEAD = "# vtbench evaluate --config with this file, or its folder, repeats the run; what is typed beside comes first.\n"


def write_config(folder: Path, settings: Mapping[str, Any]) -> None:
    """The options of `evaluate` that ask this folder's question, by their names."""
    import yaml

    text = yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=120)
    write_atomic(folder / CONFIG, HEAD + text)


def read_config(path: Path) -> dict[str, Any]:
    """Names of options and their values, from a YAML (or JSON) file or a run's folder; a - in a name is a _.

    Raises VtbenchError for what is no such file.
    """
    import yaml

    file = path / CONFIG if path.is_dir() else path
    if not file.is_file():
        why = "holds no config.yaml: runs of older versions, merged ones and those of objects have none"
        raise VtbenchError(f"{path} {why if path.is_dir() else 'is no file'}: give a YAML file of options, or a run")
    try:
        if file.stat().st_size > LARGEST:
            raise VtbenchError(f"{file} is larger than {LARGEST} bytes: give a file of options")
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as bad:
        raise disk_error(bad, file) from bad
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as bad:
        said = " ".join(str(bad).split())[:120]
        raise VtbenchError(f"{file} cannot be read as YAML ({said}): give lines of the form OPTION: VALUE") from bad
    if not isinstance(value, dict) or not value:
        raise VtbenchError(f"{file} holds no options: give lines OPTION: VALUE, as evaluate --help names them")
    return {str(name).replace("-", "_"): content for name, content in value.items()}
