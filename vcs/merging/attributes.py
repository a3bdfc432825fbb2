"""What is kept of a file beside its content, merged three ways: each attribute, and each extended one, by itself."""

from __future__ import annotations

import stat
from typing import Any

from msgspec.structs import replace

from vcs.merging.values import Favour
from vcs.model import Entry, Link, Xattrs

_MISSING = object()


def merge_attributes(base: Entry | None, ours: Entry, theirs: Entry, favour: Favour) -> tuple[Entry, list[str]]:
    """Our entry, of the type that theirs has too, with the attributes merged, and which of them clash.

    `base` is None where there was nothing, or something of another type; then all that differs clashes. Of two times
    the newer is taken. Two groups of hard links do not clash: see vcs.merging.hardlinks.
    """
    clashes: list[str] = []

    def merged(name: str, *values: Any) -> Any:
        return _three(name, values if base is not None else (_MISSING, *values[1:]), favour, clashes)

    was = base or ours
    mode = merged("mode", *(stat.S_IMODE(entry.mode) for entry in (was, ours, theirs)))
    entry = replace(
        ours,
        mode=stat.S_IFMT(ours.mode) | mode,
        uid=merged("owner", was.uid, ours.uid, theirs.uid),
        gid=merged("group", was.gid, ours.gid, theirs.gid),
        mtime=_time(base, ours, theirs),
        xattrs=_xattrs(base.xattrs if base else (), ours.xattrs, theirs.xattrs, favour, clashes),
        link=_link(was.link if base else None, ours.link, theirs.link, favour),
    )
    return entry, clashes


def _three(name: str, values: tuple[Any, ...], favour: Favour, clashes: list[str]) -> Any:
    was, our, their = values
    if our in (was, their):
        return their
    if their != was:
        clashes.append(name)
        return their if favour == "theirs" else our
    return our


def _time(base: Entry | None, ours: Entry, theirs: Entry) -> int:
    if base is not None and base.mtime in (ours.mtime, theirs.mtime):
        return theirs.mtime if ours.mtime == base.mtime else ours.mtime
    return max(ours.mtime, theirs.mtime)


def _xattrs(base: Xattrs, ours: Xattrs, theirs: Xattrs, favour: Favour, clashes: list[str]) -> Xattrs:
    was, our, their = dict(base), dict(ours), dict(theirs)
    found = {}
    for name in {**our, **their}:
        values = was.get(name), our.get(name), their.get(name)
        value = _three(name.decode("utf-8", "replace"), values, favour, clashes)
        if value is not None:
            found[name] = value
    return tuple(sorted(found.items()))


def _link(base: Link | None, ours: Link | None, theirs: Link | None, favour: Favour) -> Link | None:
    was, our, their = (link and link.group for link in (base, ours, theirs))
    if our in (was, their):
        return theirs
    if their == was:
        return ours
    return theirs or ours if favour == "theirs" else ours or theirs
