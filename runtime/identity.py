"""Who a container runs as: a user written as in an image (`name`, `uid`, `name:group`, `uid:gid`), looked up in the
/etc/passwd and /etc/group of its own root.

The rules are Docker's: a name must be in the file; a number need not be, and then has group 0 and home `/`; the groups
that list the user are added unless a group was named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vcs.errors import EngineError

Reader = Callable[[bytes], bytes | None]
"""Reads a file of the root, None if it has none. Must not leave the root: see `rootaccess.Root.read`."""

_ID_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Numeric user and groups, and the home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups, the primary one included, so that negative group permissions cannot be dodged."""
    home: str


def resolve_user(user: str, read: Reader) -> Identity:
    """The identity that `user` names in a root; empty means root. EngineError if there is none such."""
    name, _, group = user.partition(":")
    uid, gid, login, home = _user(name or "0", read)
    if group:
        gid = _group(group, read)
        return Identity(uid, gid, (gid,), home)
    extra = [number for _, number, members in _groups(read) if login and login in members]
    return Identity(uid, gid, tuple(dict.fromkeys([gid, *extra])), home)


def oci_user(who: Identity, last: tuple[int, int] | None, *, own: bool = False) -> dict[str, Any]:
    """The same for an OCI runtime. `last` are the highest user and group that the container has, None for all; `own`:
    since it has ids of its own.

    EngineError if the container does not have these ids.
    """
    if last and (who.uid > last[0] or who.gid > last[1]):
        raise EngineError(
            f"user {who.uid} of group {who.gid} cannot be had in your containers, whose ids end with {last[0]} and "
            f"{last[1]}",
            advice="take another --user" if own else
                   "have root give you more ids, with usermod --add-subuids and --add-subgids, or take root: --user 0",
            uid=who.uid, gid=who.gid, last=list(last),
        )  # fmt: skip
    # Who has no group but his own cannot set any: the kernel forbids it, and engines fail.
    groups = [] if last and not last[1] else list(who.groups)
    return {"uid": who.uid, "gid": who.gid, "additionalGids": groups}


def _user(name: str, read: Reader) -> tuple[int, int, str, str]:
    """uid, gid, login name (empty if unknown) and home."""
    number = _number(name)
    for fields in _lines(read, b"/etc/passwd", 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is None or gid is None:
            continue
        if fields[0] == name or uid == number:
            return uid, gid, fields[0], fields[5] or "/"
    if number is None:
        raise EngineError(f"user {name} is not in the root's /etc/passwd", user=name)
    return number, 0, "", "/root" if number == 0 else "/"


def _group(name: str, read: Reader) -> int:
    number = _number(name)
    for known, gid, _ in _groups(read):
        if known == name:
            return gid
    if number is None:
        raise EngineError(f"group {name} is not in the root's /etc/group", group=name)
    return number


def _groups(read: Reader) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _lines(read, b"/etc/group", 4):
        gid = _number(fields[2])
        if gid is not None:
            yield fields[0], gid, fields[3].split(",")


def _number(text: str) -> int | None:
    """A user or group number; None if it is none. EngineError above what the kernel and Docker accept."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text[:20])
    if number > _ID_MAX:
        raise EngineError(f"{text} is out of range for a user or group", id=text)
    return number


def _lines(read: Reader, path: bytes, count: int) -> Iterator[list[str]]:
    for line in (read(path) or b"").decode("utf-8", "surrogateescape").splitlines():
        fields = line.strip().split(":")
        if len(fields) >= count and not line.startswith("#"):
            yield fields
