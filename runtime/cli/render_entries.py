"""Files of a commit, for people (as ls(1) shows them) and for programs."""

from __future__ import annotations

import stat
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from runtime.cli.output import Output
from runtime.cli.quoting import path_fields, quoted
from vcs.errors import TreeringError
from vcs.model import Chunked, Data, Device, Entry, Symlink, Tree, type_name
from vcs.snapshot import Snapshot

_COLOURS = {stat.S_IFDIR: "blue", stat.S_IFLNK: "cyan", stat.S_IFCHR: "yellow", stat.S_IFBLK: "yellow"}
_ACCOUNTS_MAX = 1 << 20


class Names(NamedTuple):
    """Users and groups by number, as the commit's own /etc/passwd and /etc/group call them."""

    users: dict[int, str]
    groups: dict[int, str]


def names_of(snapshot: Snapshot) -> Names:
    """The account names of a root; empty if it has no such files."""
    return Names(_accounts(snapshot, b"/etc/passwd"), _accounts(snapshot, b"/etc/group"))


def _accounts(snapshot: Snapshot, path: bytes) -> dict[int, str]:
    try:
        entry = snapshot.find(snapshot.resolve(path))
    except TreeringError:
        return {}
    if entry is None or not isinstance(entry.content, (Data, Chunked)) or entry.size > _ACCOUNTS_MAX:
        return {}
    found: dict[int, str] = {}
    for line in snapshot.read(entry.content).decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isascii() and fields[2].isdigit() and fields[0].isprintable():
            found.setdefault(int(fields[2]), fields[0])
    return found


def entry_fields(entry: Entry) -> dict[str, Any]:
    """What an entry is, for JSON; without its name."""
    fields: dict[str, Any] = {
        "type": type_name(entry),
        "mode": f"{stat.S_IMODE(entry.mode):04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": iso_time(entry.mtime),
        "mtime_ns": entry.mtime,
    }
    match entry.content:
        case Data(size, chunk) if size:
            fields["digest"] = chunk.hex()
        case Chunked(_, digest, allocated):
            fields |= {"digest": digest.hex(), "allocated": allocated}
        case Symlink(target):
            fields |= path_fields(target, "target")
        case Device(major, minor):
            fields["device"] = [major, minor]
        case Tree(tree, entries, size, _):
            fields |= {"digest": tree.hex(), "entries": entries, "size_below": size}
    if entry.xattrs:
        fields["xattrs"] = {name.decode("utf-8", "backslashreplace"): value.hex() for name, value in entry.xattrs}
    if entry.link:
        fields["links"] = entry.link.count
    return fields


def write_long(output: Output, rows: Sequence[tuple[bytes, Entry]], names: Names) -> None:
    """As `ls -l`: mode, links, owner, group, size or device, time, name."""
    cells = [
        [
            stat.filemode(entry.mode) + ("+" if entry.xattrs else " "),
            str(entry.link.count if entry.link else 1),
            names.users.get(entry.uid, str(entry.uid)),
            names.groups.get(entry.gid, str(entry.gid)),
            _size(entry),
            _time(entry.mtime),
        ]
        for _, entry in rows
    ]
    widths = [max((len(line[column]) for line in cells), default=0) for column in range(6)]
    for line, (name, entry) in zip(cells, rows, strict=True):
        mode, links, user, group, size, when = line
        shown = " ".join(
            [mode, links.rjust(widths[1]), user.ljust(widths[2]), group.ljust(widths[3]), size.rjust(widths[4]), when]
        )
        target = f" -> {quoted(entry.content.target)}" if isinstance(entry.content, Symlink) else ""
        output.line(f"{shown} {painted_name(output, name, entry)}{target}")


def painted_name(output: Output, name: bytes, entry: Entry) -> str:
    """A name in the colour of its type."""
    kind = stat.S_IFMT(entry.mode)
    colour = _COLOURS.get(kind) or ("green" if kind == stat.S_IFREG and entry.mode & 0o111 else None)
    return output.paint(quoted(name), colour) if colour else quoted(name)


def _size(entry: Entry) -> str:
    if isinstance(entry.content, Device):
        return f"{entry.content.major}, {entry.content.minor}"
    return str(entry.content.size if isinstance(entry.content, Tree) else entry.size)


def _time(nanoseconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(nanoseconds // 10**9))
    except (OverflowError, OSError, ValueError):
        return f"@{nanoseconds // 10**9}"


def iso_time(nanoseconds: int) -> str | None:
    """UTC in ISO 8601 with nanoseconds; None for a year beyond four digits."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
