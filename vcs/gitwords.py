"""How git writes names, people and reasons, and how we speak of refs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vcs.errors import Corrupt

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
NOTES = "refs/notes/"
NO_ID = "0" * 40
"""In place of an object's, where there is none."""
FILE, DIRECTORY = b"100644", b"40000"
"""Modes in git's trees."""
_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]*): (.*)")


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a commit, and when: seconds since 1970, and minutes east of UTC."""

    name: str
    email: str
    time: int
    offset: int = 0
    committer: Author | None = None
    """Who writes a commit of his again, and when; None if he does it himself."""


def clean(text: str) -> str:
    """A name or an address as a header line can hold it; an empty one is not allowed either."""
    return text.translate(dict.fromkeys(map(ord, "<>\n\0"))).strip() or "unknown"


def one_line(reason: str) -> str:
    """What a reflog can hold of a reason, so that it is written as it is: one line of UTF-8."""
    return reason.translate(dict.fromkeys(map(ord, "\n\0"), " ")).encode(errors="backslashreplace").decode()


def stamp(name: bytes, email: bytes, time: int, offset: int) -> bytes:
    """Who and when: seconds since 1970, and minutes east of UTC.

    >>> stamp(b"Ada", b"ada@example.org", 1_700_000_000, -90)
    b'Ada <ada@example.org> 1700000000 -0130'
    """
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}{abs(offset) % 60:02}"
    return b"%s <%s> %d %s" % (name, email, time, zone.encode())


def minutes_east(zone: bytes) -> int:
    """What stamp() says of a zone, read back. What cannot be is UTC, as for git's library.

    >>> minutes_east(b"-0130"), minutes_east(b"+9999")
    (-90, 0)
    """
    hours, minutes = int(zone[1:3] or 0), int(zone[3:] or 0)
    if hours > 14 or minutes > 59:
        return 0
    return (hours * 60 + minutes) * (-1 if zone.startswith(b"-") else 1)


def trailers(message: str) -> list[tuple[str, str]]:
    r"""The `Key: value` lines of a message's last paragraph, if it has nothing else (git-interpret-trailers(1)).

    >>> trailers("It works.\n\nContainer: web\nChanges: A1\n")
    [('Container', 'web'), ('Changes', 'A1')]
    """
    paragraphs = message.strip().split("\n\n")
    found = [_TRAILER.fullmatch(line) for line in paragraphs[-1].split("\n")]
    return [(one[1], one[2]) for one in found if one] if len(paragraphs) > 1 and all(found) else []


def trailer_values(message: str) -> dict[str, str]:
    """The trailers by their keys; what one key says several times is one text, with semicolons."""
    found: dict[str, str] = {}
    for key, value in trailers(message):
        found[key] = f"{found[key]}; {value}" if key in found else value
    return found


def short(ref: str) -> str:
    """The name that people know a ref by."""
    return ref.removeprefix(BRANCHES).removeprefix(TAGS)


def is_of_notes(ref: str) -> bool:
    """Whether a ref names notes on commits, and so a commit of another kind: one without a root."""
    return ref.startswith(NOTES)


def kind(ref: str) -> str:
    """What sort of ref it is, for people."""
    return "branch" if ref.startswith(BRANCHES) else "tag" if ref.startswith(TAGS) else "ref"


def is_in_the_way(other: str, ref: str) -> bool:
    """Whether two refs cannot both be: a ref is a file or a directory."""
    return other.startswith(f"{ref}/") or ref.startswith(f"{other}/")


def moved(ref: str, current: str | None, expected: str | None) -> str:
    """That a ref is not where it was expected; None stands for "there is none"."""
    name = f"{kind(ref)} {short(ref)!r}"
    if expected is None:
        return f"{name} exists already"
    now = f"is at {current[:12]} now" if current else "is gone"
    return f"{name} has moved: expected {expected[:12]}, it {now}"


def decoded(data: bytes, encoding: str | None) -> str:
    """Words of a commit's, which others may have written: in any encoding, or in none."""
    try:
        return data.decode(encoding or "utf-8")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def tree_entries(tree: bytes) -> Iterator[tuple[bytes, tuple[bytes, str]]]:
    """A git tree's entries: name, mode, id. Corrupt."""
    at = 0
    while at < len(tree):
        space, end = tree.find(b" ", at), tree.find(b"\0", at)
        if not at < space < end or end + 21 > len(tree):
            raise Corrupt("a tree of git's cannot be read")
        yield tree[space + 1 : end], (tree[at:space], tree[end + 1 : end + 21].hex())
        at = end + 21


def tree_of(entries: Mapping[bytes, tuple[bytes, str]]) -> bytes:
    """A git tree from its entries: by their names, their modes and ids."""
    names = sorted(entries, key=lambda name: name + b"/" * (entries[name][0] == DIRECTORY))  # git's order
    return b"".join(entries[name][0] + b" " + name + b"\0" + bytes.fromhex(entries[name][1]) for name in names)
