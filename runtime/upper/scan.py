"""An upper and the root below it -> a new root: by what an earlier scan saw, if that can be, otherwise all of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from runtime.upper.clones import Clones
from runtime.upper.content import NOTHING, Distrust, Reader
from runtime.upper.conventions import TRUSTED
from runtime.upper.frames import nested_stubs
from runtime.upper.look import Changes, Known, look_everywhere
from runtime.upper.owners import Owners
from runtime.upper.result import NotPlain, UpperResult
from runtime.upper.seen import Contents, Seen
from runtime.upper.walk import Walk
from vcs.ignore import Ignore
from vcs.snapshot import Snapshot
from vcs.trees import Objects, Sink

__all__ = ["UpperResult", "scan_upper"]


def scan_upper(
    upper: Path,
    base: Snapshot,
    sink: Sink,
    *,
    stubs: Collection[bytes] = (),
    prefix: str = TRUSTED,
    ids: int | None = None,
    before: Seen | None = None,
    changes: Changes | None = None,
    objects: Objects | None = None,
    distrust: Distrust = NOTHING,
    since: int | None = None,
    clones: Clones | None = None,
    was_read: Callable[[], None] = lambda: None,
    leave_out: Ignore | None = None,
) -> UpperResult:
    """The root that an overlay of `upper` on `base` shows, written to `sink`. The upper is not changed.

    `stubs`: absolute paths of mount targets that the runtime made in the upper. One that is still empty, and that the
    base does not have, is left out, and so is the time stamp that making it left on its directory.
    `prefix`: TRUSTED, or USER for an overlay mounted with userxattr.
    `ids`: the first of the container's own ids, if it has such (runtime.upper.owners).
    `before`: what an earlier scan of this upper saw, its root to be read from `objects` (otherwise, where the base is).
    `changes`: what differs from that, if it is known; otherwise every name is looked at.
    `distrust`: what to read again whatever was seen. `since`: a time (time_ns) before `distrust` was found out; what
    has changed since is not relied on later. Now, if it is not given.
    `clones`: large files are cloned there if they can be. `was_read` is called when the upper is not needed any more:
    then clones are read, and trees are written.
    `leave_out`: what matches is in the new root as it is in the base, whatever the upper has; it is not read.

    BadInput if the upper cannot have come from an overlay on this base; Denied if a file cannot be read; Conflict if
    directories are moved about faster than they can be read.
    """
    path, nested = os.fsencode(upper), nested_stubs(stubs)
    since = time.time_ns() if since is None else since
    owners = None if ids is None else Owners(ids)
    objects = objects or base.objects
    if before is not None and before.base != base.id:
        before = None
    contents = Contents(before, objects) if before is not None else None
    if before is not None and before.plain and leave_out is None:
        changes = look_everywhere(upper, before) if changes is None else changes
        known = Known(before, changes, Snapshot(objects, before.root))
        with suppress(NotPlain):
            reader = Reader(sink, base.objects, contents, distrust, since, clones)
            return Walk(base, sink, prefix, owners, reader, was_read, known).run(path, nested)
        if clones is not None:
            clones.close()
    reader = Reader(sink, base.objects, contents, distrust, since, clones)
    return Walk(base, sink, prefix, owners, reader, was_read, leave_out=leave_out).run(path, nested)
