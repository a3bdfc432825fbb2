"""Lines, merged three ways: diff3, sets of lines, and files that only grow.

The three-way merge of lines is our own: libgit2's takes only objects of a repository and gives the result as text in
UTF-8, which a file of /etc need not be, and the small library for it (merge3) has a licence that ours cannot take in.
Pairing equal lines, which is the hard part, is difflib's.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import takewhile

from vcs.merging.values import Merged, Texts

_PROBE = 8000


def is_text(data: bytes) -> bool:
    """Git's rule: a file with a NUL in its first 8,000 bytes is binary."""
    return b"\0" not in data[:_PROBE]


def lines_of(data: bytes) -> list[bytes]:
    """The lines with their ends; only a newline ends one."""
    return io.BytesIO(data).readlines()


def merge_lines(texts: Texts) -> Merged:
    """The three-way merge of lines (diff3). Changes with no line between them clash, as git has it.

    >>> merge_lines(Texts(b"a\\nb\\nc\\n", b"A\\nb\\nc\\n", b"a\\nb\\nC\\n", None))
    Merged(data=b'A\\nb\\nC\\n', clashes=())
    """
    out: list[bytes] = []
    clashes: list[str] = []
    for base, ours, theirs in _regions(*(lines_of(data or b"") for data in texts[:3])):
        if ours in (base, theirs):
            out += theirs
        elif theirs == base:
            out += ours
        else:
            clashes.append(f"line {len(out) + 1}")
            out += theirs if texts.favour == "theirs" else ours
    return Merged(b"".join(out), tuple(clashes))


def _regions(base: list[bytes], ours: list[bytes], theirs: list[bytes]) -> Iterator[Sequence[list[bytes]]]:
    """The texts in parts that belong together: lines that all three have, and what is between those."""
    in_ours, in_theirs = _partners(base, ours), _partners(base, theirs)
    here = (0, 0, 0)
    for line in sorted(in_ours.keys() & in_theirs.keys()):
        there = (line, in_ours[line], in_theirs[line])
        yield [text[a:b] for text, a, b in zip((base, ours, theirs), here, there, strict=True)]
        yield [[base[line]]] * 3
        here = (line + 1, there[1] + 1, there[2] + 1)
    yield [text[a:] for text, a in zip((base, ours, theirs), here, strict=True)]


def _partners(base: list[bytes], side: list[bytes]) -> dict[int, int]:
    """Which line of a side each line of the base is still, if it is."""
    # What both begin and end with needs no search, and that is most of a text in which little has changed.
    first = _common(base, side)
    last = _common(reversed(base[first:]), reversed(side[first:]))
    ends = len(base) - last, len(side) - last
    partners = {line: line for line in range(first)}
    for block in SequenceMatcher(None, base[first : ends[0]], side[first : ends[1]]).get_matching_blocks():
        partners.update((first + block.a + offset, first + block.b + offset) for offset in range(block.size))
    partners.update((ends[0] + offset, ends[1] + offset) for offset in range(last))
    return partners


def _common(left: Iterable[bytes], right: Iterable[bytes]) -> int:
    """How many lines both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def merge_growing(texts: Texts) -> Merged:
    """A log: ours, then what theirs has added. Nothing that either side added is left out, and there are no clashes.

    Where both only appended to the base, that is exact, also for binary files. Else (one was rotated) it is by lines:
    those that theirs has oftener than the base.

    >>> merge_growing(Texts(b"a\\n", b"a\\nb\\n", b"a\\nc\\n", None)).data
    b'a\\nb\\nc\\n'
    """
    ours, theirs = texts.ours, texts.theirs
    base = _common_lines(ours, theirs) if texts.base is None else texts.base
    if ours.startswith(base) and theirs.startswith(base):
        return Merged(_ended(ours) + theirs[len(base) :] if is_text(ours) else ours + theirs[len(base) :])
    known = Counter(lines_of(base))
    more = []
    for line in lines_of(theirs):
        if known[line]:
            known[line] -= 1
        else:
            more.append(line)
    return Merged(_ended(ours) + b"".join(more))


def _common_lines(left: bytes, right: bytes) -> bytes:
    lines = lines_of(left)
    return b"".join(lines[: _common(lines, lines_of(right))])


def merge_line_set(texts: Texts) -> Merged:
    """A list whose lines are its members: ours, without what theirs removed, with what theirs added. No clashes.

    >>> merge_line_set(Texts(b"a\\nb\\n", b"a\\nb\\nc\\n", b"b\\nd\\n", None)).data
    b'b\\nc\\nd\\n'
    """
    base, ours, theirs = ([line.rstrip(b"\n") for line in lines_of(data or b"")] for data in texts[:3])
    gone = set(base) - set(theirs)
    known = {*base, *ours}
    lines = [line for line in ours if line not in gone] + [line for line in theirs if line not in known]
    return Merged(b"".join(line + b"\n" for line in lines))


def _ended(data: bytes) -> bytes:
    """The text, its last line ended."""
    return data + b"\n" if data and not data.endswith(b"\n") else data
