"""Files whose contents are alike, though not equal.

As in git, a content is taken apart into lines, long ones every 64 bytes, and two are as similar as the share of the
larger one that is in both, in whatever order. A large file is in chunks already, and a change leaves most of them as
they were: chunks that are in both count, and nothing is read. So a small file is never similar to a large one.

Not every file is compared with every other. Only sizes that allow it are read, of these so many bytes, smaller files
first; and two files are compared if they have the same name, or a line that few others have.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from vcs.blobreader import list_items
from vcs.errors import Missing
from vcs.model import Chunked, Data, Entry
from vcs.pairing import Alike, At
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.texts import split_lines

READ_MAX = 64 << 20
"""Bytes that are read of each side: 3 s, and some 300 MB of memory while they are compared."""
_LONGEST = 64
"""Bytes of a piece."""
_COMMON = 64
"""What more files have than these does not tell which of them a file is like."""
_COMPARED = 8
"""So many files are compared with one, those that have most of its rare lines."""

_Pieces: TypeAlias = dict[bytes, int]
"""What a content consists of, and how many bytes of it each makes."""


def similar(old: Snapshot, new: Snapshot, sources: Sequence[At], targets: Sequence[At], percent: int) -> list[Alike]:
    """Each target with the sources that it is at least so similar to, most similar pairs first."""
    before = _readable(sources, targets, percent)
    after = _readable(targets, before, percent)
    index = _Index(old, before)
    found = []
    for place, target in enumerate(after):
        pieces = _pieces(new, target[1])
        for source in index.candidates(pieces, target[1].name) if pieces else ():
            similarity = _similarity(index.pieces[source], pieces)
            if similarity >= percent:
                found.append((-similarity, target[1].name != before[source][1].name, source, place))
    return [Alike(-negative, before[source], after[place]) for negative, _, source, place in sorted(found)]


class _Index:
    """The sources, by what they consist of and by their names."""

    def __init__(self, snapshot: Snapshot, sources: Sequence[At]) -> None:
        self.pieces: list[_Pieces] = []
        self._holders: dict[bytes, list[int]] = defaultdict(list)
        self._named: dict[bytes, list[int]] = defaultdict(list)
        for number, (_, entry) in enumerate(sources):
            pieces = _pieces(snapshot, entry)
            self.pieces.append(pieces)
            self._named[entry.name].append(number)
            for piece in pieces:
                self._holders[piece].append(number)

    def candidates(self, pieces: _Pieces, name: bytes) -> list[int]:
        """Which sources are worth a comparison."""
        shared = Counter[int]()
        for piece, size in pieces.items():
            holders = self._holders.get(piece, ())
            if len(holders) <= _COMMON:
                for source in holders:
                    shared[source] += size
        most = [source for source, _ in shared.most_common(_COMPARED)]
        return list(dict.fromkeys([*self._named.get(name, ())[:_COMPARED], *most]))


def _readable(side: Sequence[At], others: Sequence[At], percent: int) -> list[At]:
    """Those that are of a size at which they can be similar to any of the others; as many as may be read."""
    sizes = sorted(entry.size for _, entry in others if _is_file(entry))
    left = READ_MAX
    found = []
    for path, entry in sorted(side, key=lambda item: (item[1].size, item[0])):
        if not _is_file(entry):
            continue
        nearest = bisect_left(sizes, entry.size * percent / 100)
        if nearest < len(sizes) and entry.size >= sizes[nearest] * percent / 100:
            left -= entry.size if isinstance(entry.content, Data) else 0
            if left < 0:
                break
            found.append((path, entry))
    return list(dict.fromkeys(found))


def _is_file(entry: Entry) -> bool:
    return isinstance(entry.content, (Data, Chunked)) and entry.size > 0


def _pieces(snapshot: Snapshot, entry: Entry) -> _Pieces:
    """Empty where the content cannot be had: of what a container wrote, only some is kept for a comparison."""
    found: _Pieces = defaultdict(int)
    try:
        if isinstance(entry.content, Chunked):
            for item in list_items(snapshot.objects, entry.content.list):
                found[item.digest] += item.length
        elif isinstance(entry.content, Data):
            for piece in _cut(snapshot.read(entry.content)):
                found[piece] += len(piece)
    except Missing:
        if not isinstance(snapshot.objects, Scratch):
            raise
        return {}
    return found


def _cut(data: bytes) -> Iterator[bytes]:
    for line in split_lines(data):
        if len(line) <= _LONGEST:
            yield line
        else:
            yield from (line[start : start + _LONGEST] for start in range(0, len(line), _LONGEST))


def _similarity(old: _Pieces, new: _Pieces) -> int:
    """Percent. Less than 100, for what is not equal: the same lines may be in another order."""
    few, many = sorted((old, new), key=len)
    shared = sum(min(size, many[piece]) for piece, size in few.items() if piece in many)
    return min(99, shared * 100 // (max(sum(old.values()), sum(new.values())) or 1))
