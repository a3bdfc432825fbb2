"""POSIX ACLs: the text of an archive <-> the bytes that the kernel keeps in system.posix_acl_access and _default.

The text has one entry a line, or between commas: "user:1000:rwx", "group::r-x", "mask::rwx" (acl(5), "ACL TEXT
FORMS"); star appends the number of a name as a fourth field. The bytes are a version and 8 bytes an entry, sorted
(linux/posix_acl_xattr.h). An ACL that says no more than the mode does is kept nowhere, so it is no bytes at all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from vcs.errors import BadInput

_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_NOBODY = 0xFFFFFFFF
"""What the kernel keeps as the number of an entry that names nobody."""

_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS = {
    (b"user", False): _USER_OBJ,
    (b"user", True): _USER,
    (b"group", False): _GROUP_OBJ,
    (b"group", True): _GROUP,
    (b"mask", False): _MASK,
    (b"other", False): _OTHER,
}
_NAMES = {tag: name for (name, _), tag in _TAGS.items()}
_SHORT = {b"u": b"user", b"g": b"group", b"m": b"mask", b"o": b"other"}
_MINIMAL = {_USER_OBJ, _GROUP_OBJ, _OTHER}
_ENTRIES_MAX = 8191
"""More do not fit an extended attribute of 64 KiB."""

Resolve = Callable[[bytes, bytes], int | None]
"""From b"user" or b"group" and a name to its number, or None."""


def acl_from_text(text: bytes, resolve: Resolve) -> bytes:
    """The kernel's bytes for an ACL's text; empty if the ACL says no more than the mode does.

    BadInput if it is no ACL, or if `resolve` does not know a name in it.
    """
    lines = [line.split(b"#", 1)[0].strip() for line in text.replace(b",", b"\n").split(b"\n")]
    entries = sorted(_parse(line, resolve) for line in lines if line)
    _check(entries, text)
    if {tag for tag, _, _ in entries} == _MINIMAL:
        return b""
    return _VERSION + b"".join(_ENTRY.pack(tag, permissions, number) for tag, number, permissions in entries)


def _check(entries: list[tuple[int, int, int]], text: bytes) -> None:
    keys = [(tag, number) for tag, number, _ in entries]
    tags = {tag for tag, _ in keys}
    needs_mask = bool(tags & {_USER, _GROUP})
    if len(set(keys)) < len(keys) or not tags >= _MINIMAL or (needs_mask and _MASK not in tags):
        raise BadInput(f"its ACL is not valid: {text[:200]!r}")
    if len(keys) > _ENTRIES_MAX:
        raise BadInput("its ACL has too many entries")


def _parse(line: bytes, resolve: Resolve) -> tuple[int, int, int]:
    fields = [field.strip() for field in line.split(b":")]
    kind = _SHORT.get(fields[0], fields[0])
    if len(fields) == 2 and kind in (b"mask", b"other"):
        fields.insert(1, b"")  # as Solaris writes them
    if not 3 <= len(fields) <= 4 or (kind, bool(fields[1])) not in _TAGS:
        raise BadInput(f"its ACL has a malformed entry: {line[:80]!r}")
    number = _number(kind, fields[1], fields[3] if len(fields) == 4 else b"", resolve) if fields[1] else _NOBODY
    return _TAGS[kind, bool(fields[1])], number, _permissions(fields[2], line)


def _permissions(letters: bytes, line: bytes) -> int:
    bits = 0
    for letter in letters.replace(b"-", b""):
        bit = {0x72: 4, 0x77: 2, 0x78: 1}.get(letter, 0)
        if not bit or bits & bit:
            raise BadInput(f"its ACL has a malformed entry: {line[:80]!r}")
        bits |= bit
    return bits


def _number(kind: bytes, name: bytes, given: bytes, resolve: Resolve) -> int:
    digits = given or name
    if digits.isdigit() and len(digits) <= 10 and int(digits) < _NOBODY:
        return int(digits)
    found = resolve(kind, name)
    if found is None:
        raise BadInput(
            f"its ACL names the {kind.decode()} {name[:80]!r}, whose number the archive does not tell"
            " (tar --xattrs --xattrs-include='*' keeps ACLs as numbers)"
        )
    return found


def mode_under(data: bytes, mode: int) -> int:
    """A mode whose permissions are those that an access ACL (its bytes) gives, as the kernel keeps the two alike.

    The group's are the mask's. libarchive writes the mode without it.
    """
    body = data[len(_VERSION) :]
    if not data.startswith(_VERSION) or len(body) % _ENTRY.size:
        return mode
    given: dict[int, int] = {tag: permissions & 7 for tag, permissions, _ in _ENTRY.iter_unpack(body)}
    if not given.keys() >= _MINIMAL:
        return mode
    group = given.get(_MASK, given[_GROUP_OBJ])
    return mode & ~0o777 | given[_USER_OBJ] << 6 | group << 3 | given[_OTHER]


def acl_to_text(data: bytes) -> bytes | None:
    """The text of an ACL's bytes, numbers for names; None if text could not give the same bytes back."""
    body = data[len(_VERSION) :]
    if not data.startswith(_VERSION) or len(body) % _ENTRY.size:
        return None
    lines = []
    for tag, permissions, number in _ENTRY.iter_unpack(body):
        name = b"%d" % number if tag in (_USER, _GROUP) else b""
        letters = bytes(c if permissions & bit else 0x2D for c, bit in zip(b"rwx", (4, 2, 1), strict=True))
        lines.append(b":".join((_NAMES.get(tag, b"?"), name, letters)))
    text = b"\n".join(lines)
    try:
        return text if acl_from_text(text, lambda _kind, _name: None) == data else None
    except BadInput:
        return None
