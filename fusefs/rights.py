"""Whether this process has the rights of the machine's root, or only those of the root of a user namespace."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

_EVERY_ID = ["0", "0", "4294967295"]
"""The map of the machine's own user namespace (user_namespaces(7)): inside, outside, how many."""


def in_user_namespace() -> bool:
    """Whether this process is in a user namespace other than the machine's own."""
    try:
        return not _has_every_id(os.stat("/proc/self/ns/user").st_ino)
    except FileNotFoundError:  # a kernel without user namespaces
        return False


@lru_cache(1)
def _has_every_id(_: int) -> bool:
    """For the namespace that this process is in, which its number tells from others. Asked often, by every container
    that is set up; and a map, once written, stays."""
    return Path("/proc/self/uid_map").read_text().split() == _EVERY_ID


@lru_cache(1)
def sees_trusted() -> bool:
    """Whether this process, and who uses a mount of its, may know of trusted.* attributes (xattr(7)). Whoever may not
    is not shown their names, on any file system: an overlay would fail to copy up what it cannot read."""
    return os.geteuid() == 0 and not in_user_namespace()
