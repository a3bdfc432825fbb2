"""Ids of a container's own (`--userns auto`): which numbers of the machine stand for its users and groups.

A container has 65,536 of them: its 0 is `first` on the machine, its 1 the next one. They are the container's from its
creation to its removal, since its upper holds files that are theirs, and no two containers of a store share one. They
are taken

    from what /etc/subuid and /etc/subgid both give to root, if that is at least one range,
    else from 1879048192 (0x70000000) to 2147352575, which is nobody's by systemd's account of ids
    (systemd.io/UIDS-GIDS): below it are its own containers, above it foreign files.

Another store on the machine does not know of this one's, so each begins at a place of its own: where the two meet they
share ids, as all containers without ids of their own do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from runtime.namespace.mapping import Span, subordinate
from vcs.errors import EngineError

SIZE = 65536
UNUSED = Span(0x70000000, 0x7FFE0000 - 0x70000000)
"""4,094 ranges."""
_ROOT = ("root", "0")


def free_here(taken: Collection[int], start: int) -> int:
    """free_range() by this machine's files."""
    subuid, subgid = (_text_of(Path("/etc", name)) for name in ("subuid", "subgid"))
    return free_range(taken, subuid, subgid, start)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def free_range(taken: Collection[int], subuid: str, subgid: str, start: int = 0) -> int:
    """The first id of a range that no container in `taken` (first ids) has.

    `subuid` and `subgid` are the content of the two files; `start` is any number, and says where to begin to look.
    EngineError if all are taken.
    """
    given = _common(subordinate(subuid, _ROOT), subordinate(subgid, _ROOT))
    ranges = [first for span in given for first in _ranges(span)] or list(_ranges(UNUSED))
    used = sorted(taken)
    for first in _from(ranges, start):
        after = bisect_right(used, first - SIZE)  # the first that could reach into this one
        if after == len(used) or used[after] >= first + SIZE:
            return first
    raise EngineError(
        f"all {len(ranges)} ranges of ids for containers of their own are in use",
        advice="remove containers that have --userns auto, or give root more ids: "
        "usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST root",
        ranges=len(ranges),
    )


def _ranges(span: Span) -> range:
    return range(span.first, span.first + span.size - SIZE + 1, SIZE)


def _from(ranges: Sequence[int], start: int) -> Iterator[int]:
    middle = start % len(ranges)
    yield from ranges[middle:]
    yield from ranges[:middle]


def _common(users: Sequence[Span], groups: Sequence[Span]) -> list[Span]:
    """The ids that both give."""
    found = []
    for user in users:
        for group in groups:
            first = max(user.first, group.first)
            end = min(user.first + user.size, group.first + group.size)
            if end > first:
                found.append(Span(first, end - first))
    return found
