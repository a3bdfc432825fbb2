"""What is at a path of a commit -> items."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from functools import partial

from runtime.copying.item import CAPABILITY, Copied, Item, is_carried
from runtime.copying.places import Path
from vcs.model import Chunked, Data, Device, Entry, Symlink
from vcs.snapshot import Snapshot


def read_commit(snapshot: Snapshot, given: Path, copied: Copied, *, follow: bool, every_xattr: bool) -> Iterator[Item]:
    """What is at a path, the last name of which is followed only if wanted, and everything below it. NotFound."""
    if follow or given.is_directory:
        path = snapshot.resolve(given.path)
    else:
        path = posixpath.join(snapshot.resolve(posixpath.dirname(given.path)), given.name)
    if given.is_directory:
        snapshot.directory(snapshot.lookup(path))
    cut = len(path.rstrip(b"/")) + 1
    first: dict[bytes, bytes] = {}
    for here, entry in snapshot.walk(path):
        if stat.S_ISSOCK(entry.mode):
            copied.skipped.append((here, "a socket cannot be copied"))
            continue
        yield _item(snapshot, here[cut:], entry, first, every_xattr)


def _item(snapshot: Snapshot, path: bytes, entry: Entry, first: dict[bytes, bytes], every_xattr: bool) -> Item:
    link = None
    if entry.link is not None:
        known = first.setdefault(entry.link.group, path)
        link = None if known is path else known
    content = entry.content
    return Item(
        path=path,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        size=entry.size if entry.is_file else 0,
        target=content.target if isinstance(content, Symlink) else b"",
        device=(content.major, content.minor) if isinstance(content, Device) else (0, 0),
        xattrs=tuple(pair for pair in entry.xattrs if pair[0] == CAPABILITY or (every_xattr and is_carried(pair[0]))),
        link=link,
        pieces=partial(snapshot.pieces, content) if isinstance(content, (Data, Chunked)) else None,
    )
