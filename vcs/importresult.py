"""What an import made, of a directory or of an archive."""

from __future__ import annotations

from dataclasses import dataclass, field

from vcs.model import RootId


@dataclass(slots=True)
class ImportResult:
    """What an import made."""

    root: RootId
    entries: int
    size: int
    """Bytes in files, holes included."""
    vanished: list[bytes] = field(default_factory=list)
    """Paths that were deleted while we read; they are not in the root."""
    skipped: list[bytes] = field(default_factory=list)
    """Mount points of other filesystems, and what was to be left out: in the root as empty directories."""
    left_out: int = 0
    """How many names patterns left out; a directory with all below it counts as one."""
    nobody: int = 0
    """How many of the names that were read belong to the user or group 65534: in a user namespace the kernel shows so
    whatever has an owner that the namespace does not map."""
    whiteouts: list[bytes] = field(default_factory=list)
    """Character devices 0:0: overlayfs takes them for deleted names, so no container will see them."""
