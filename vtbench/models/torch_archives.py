"""torch's archives, a zip with one pickle and raw storages: what is stated in them is checked before anything is read.

torch stores, and never compresses, what it reads again (caffe2/serialize/inline_container.cc, writeRecord; only the
code of a TorchScript archive, which is never read here, is compressed). So the members are together no larger than the
file, and an archive that says otherwise was not made by torch.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from vtbench.models.pickle_limits import check
from vtbench.types.errors import VtbenchError

CODE = ("/code/", ".debug_pkl")
"""What marks the members of a TorchScript archive that hold its code."""


def check_archive(path: Path, archive: zipfile.ZipFile) -> str:
    """The name of the one pickle, whose instructions are checked too. Raises VtbenchError for what torch did not write,
    NoPickle for a pickle that cannot be one of a checkpoint."""
    size = path.stat().st_size
    names: set[str] = set()
    total = 0
    for member in archive.infolist():
        name = member.filename
        if any(mark in name for mark in CODE):
            continue
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise VtbenchError(
                f"{path} holds {name} compressed, which torch never writes: unpack the weights and save them again"
            )
        if name in names:
            raise VtbenchError(f"{path} holds {name} twice, which torch never writes: fetch the file again")
        names.add(name)
        total += member.file_size
    if total > size:
        raise VtbenchError(f"{path} has {size} bytes and states members of {total}: it is damaged, or made to deceive")
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise VtbenchError(f"{path} is a zip file without one data.pkl: it is not a torch checkpoint")
    with archive.open(pickles[0]) as source:
        check(source, archive.getinfo(pickles[0]).file_size)
    return pickles[0]
