"""An overlay upper directory and the root below it -> a new root. Overlayfs's on-disk conventions end here.

    conventions   overlayfs's extended attributes as values: whiteout, opaque, redirect, metacopy
    pinned        files of a directory that may be changing, held by descriptors; nothing outside it is ever reached
    owners        ids of a container's own, as it sees them
    frames        one directory while it is read
    content       one file, read or known             clones  large ones, copied in no time and read later
    walk          the walk over the upper, merged with the base     result    what it comes to
    scan          the same, by what an earlier one saw if that can be
    seen          what a scan saw, kept: the next one reads only what has changed since
    look          what has changed                    watch   what the kernel tells of it meanwhile
    unfinished    what a copy left in it that was killed

docs/upper.md has the rules, each with what the kernel does.
"""

from runtime.upper.content import Distrust
from runtime.upper.conventions import TRUSTED, USER, prefix_of
from runtime.upper.result import UpperResult
from runtime.upper.scan import scan_upper
from runtime.upper.seen import Seen

__all__ = ["TRUSTED", "USER", "Distrust", "Seen", "UpperResult", "prefix_of", "scan_upper"]
