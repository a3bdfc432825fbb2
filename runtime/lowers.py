"""What a container's overlay stands on, in the mount of its store's service.

Where the kernel has data-only lower layers, that is `.treering/lowers/<root>`, and beside it a link `data` to the data
layer, in which programs are plain files (fusefs.datalayer). Else it is `trees/<root>`, of which all is served.
"""

from __future__ import annotations

import os
from pathlib import Path

from runtime.namespace import in_user_namespace
from runtime.seccomp import kernel_version
from vcs.existing import is_there
from vcs.model import RootId

_LOWERS = ".treering/lowers"
_DATA = "data"
_SINCE, _SINCE_CONFINED = (6, 8), (6, 16)
"""The kernels that have `datadir+`, and that take it without `metacopy`, which a user namespace does not have."""


def lower_of(mountpoint: Path, root: RootId) -> Path:
    """The directory that an overlay over a root is to have as its lower. OSError if the mount does not answer."""
    since = _SINCE_CONFINED if in_user_namespace() else _SINCE
    if kernel_version(os.uname().release) >= since and is_there(mountpoint / _LOWERS):
        return mountpoint / _LOWERS / root.hex()
    return mountpoint / "trees" / root.hex()


def with_data(lower: Path) -> tuple[Path, Path | None]:
    """A lower, and its data layer, if it has one. To be asked for just before it is mounted, which may be long after
    lower_of(): the next service has another data layer, or could make none, and then another lower. OSError."""
    if lower.parts[-3:-1] != tuple(_LOWERS.split("/")):
        return lower, None
    try:
        return lower, Path(os.readlink(lower.parent / _DATA))
    except FileNotFoundError:
        return lower.parents[2] / "trees" / lower.name, None
