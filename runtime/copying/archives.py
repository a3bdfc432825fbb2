"""A tar archive -> items, and items -> a tar archive. The format is vcs.tar's business."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator

from runtime.copying.item import CAPABILITY, Copied, Item, is_carried
from vcs.errors import BadInput
from vcs.snapshot import split_path
from vcs.tar.acl import acl_from_text
from vcs.tar.reader import Member, TarReader
from vcs.tar.stream import Readable
from vcs.tar.writer import TarWriter, Writable

_SMALL = 1 << 20
_SPECIAL = (stat.S_IFCHR, stat.S_IFBLK)


def read_archive(stream: Readable, *, every_xattr: bool = False) -> Iterator[Item]:
    """What is in an archive, in its order. BadInput, with the member, for whatever is wrong with it.

    Names are taken as below the top, whether they begin with a slash or not; one with `..` is refused.
    """
    reader = TarReader(stream)
    for member in reader:
        try:
            yield _item(member, reader, every_xattr)
        except BadInput as error:
            raise reader.error(error) from error


def _item(member: Member, reader: TarReader, every_xattr: bool) -> Item:
    # Of a hard link the archive says no more than its target's name; what it is else, the target says.
    is_link = not member.type
    kind = member.type or stat.S_IFREG
    return Item(
        path=_path(member.name),
        mode=kind | member.mode,
        uid=member.uid,
        gid=member.gid,
        mtime=member.mtime,
        size=member.size,
        target=member.target if stat.S_ISLNK(kind) else b"",
        device=(member.major, member.minor) if kind in _SPECIAL else (0, 0),
        xattrs=_xattrs(member, every_xattr),
        link=_path(member.target) if is_link else None,
        pieces=reader.pieces if kind == stat.S_IFREG and not is_link else None,
    )


def _xattrs(member: Member, every: bool) -> tuple[tuple[bytes, bytes], ...]:
    found = {name: value for name, value in member.xattrs.items() if name == CAPABILITY or (every and is_carried(name))}
    if every:
        for name, text in member.acls.items():
            found[name] = acl_from_text(text, lambda _kind, _name: None)
    return tuple(found.items())


def _path(name: bytes) -> bytes:
    names = split_path(name, keep_dots=True)
    if b".." in names:
        raise BadInput(f"the name {name!r} leads out of the archive", path=name)
    return b"/".join(names)


def write_archive(items: Iterable[Item], name: bytes, out: Writable, copied: Copied) -> None:
    """Write items as an archive, below `name` (`.` for none). What comes of a file that changes meanwhile has the size
    that it had, filled with zeros if need be."""
    writer = TarWriter(out)
    for item in items:
        path = name + b"/" + item.path if item.path else name
        copied.files += 1
        if item.link is not None:
            first = name + b"/" + item.link if item.link else name
            writer.add_link(path, first, item.mode, item.uid, item.gid, item.mtime)
            continue
        _write_member(writer, path + b"/" if stat.S_ISDIR(item.mode) else path, item, copied)
    writer.close()


def _write_member(writer: TarWriter, path: bytes, item: Item, copied: Copied) -> None:
    size, head = item.size, b""
    if item.pieces is not None and not size:  # so says a file of /proc, which has something all the same
        for _, data in item.pieces():
            head += data
            if len(head) >= _SMALL:
                break
        size = len(head)
    writer.add(
        path, item.mode, item.uid, item.gid, item.mtime,
        size=size, target=item.target, device=item.device, xattrs=item.xattrs,
    )  # fmt: skip
    if item.pieces is None:
        return
    if head:
        writer.feed(head)
    left = size - len(head)
    if left:
        for hole, data in item.pieces():
            for piece in _filled(hole) if hole else (data,):
                writer.feed(piece[:left])
                left -= min(left, len(piece))
            if not left:
                break
    for piece in _filled(left):
        writer.feed(piece)
    writer.end()
    copied.size += size


def _filled(size: int) -> Iterator[bytes]:
    while size > 0:
        yield bytes(min(size, _SMALL))
        size -= _SMALL
