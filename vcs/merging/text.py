"""Lines, merged three ways: diff3, sets of lines, and files that only grow.

The three-way merge of lines is our own: libgit2's takes only objects of a repository and gives the result as text in
UTF-8, which a file of /etc need not be, and the small library for it (merge3) has a licence that ours cannot take in.
Pairing equal lines, which is the hard part, is difflib's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from vcs.merging.values import Labels, Merged, Texts
from vcs.texts import common_lines, is_binary, paired_lines, split_lines


def merge_lines(texts: Texts) -> Merged:
    """The three-way merge of lines (diff3). Changes with no line between them clash, as git has it.

    >>> merge_lines(Texts(b"a\\nb\\nc\\n", b"A\\nb\\nc\\n", b"a\\nb\\nC\\n", None))
    Merged(data=b'A\\nb\\nC\\n', clashes=())
    """
    return _joined(texts, lambda _, ours, theirs: (theirs if texts.favour == "theirs" else ours, 0))


def mark_lines(texts: Texts, labels: Labels) -> Merged:
    """The same with both sides' lines, and the base's, where they clash: between markers, as git's "zdiff3" has it.

    >>> texts = Texts(b"a\\nb\\n", b"A\\nb\\n", b"1\\nb\\n", None)
    >>> mark_lines(texts, Labels("we", "old", "they")).data
    b'<<<<<<< we\\nA\\n||||||| old\\na\\n=======\\n1\\n>>>>>>> they\\nb\\n'
    """
    ours_mark, base_mark, theirs_mark = markers(labels)

    def marked(base: list[bytes], ours: list[bytes], theirs: list[bytes]) -> tuple[list[bytes], int]:
        first = common_lines(ours, theirs)
        last = common_lines(reversed(ours[first:]), reversed(theirs[first:]))
        ends = len(ours) - last, len(theirs) - last
        return [
            *ours[:first],
            ours_mark, *_whole(ours[first : ends[0]]), base_mark, *_whole(base), b"=======\n",
            *_whole(theirs[first : ends[1]]), theirs_mark,
            *ours[ends[0] :],
        ], first  # fmt: skip

    return _joined(texts, marked)


def _joined(texts: Texts, decide: Callable[[list[bytes], list[bytes], list[bytes]], tuple[list[bytes], int]]) -> Merged:
    """Both sides' changes. `decide` says what stands where they clash, and at which of these lines that begins."""
    out: list[bytes] = []
    clashes: list[str] = []
    for base, ours, theirs in _regions(*(split_lines(data or b"") for data in texts[:3])):
        if ours in (base, theirs):
            out += theirs
        elif theirs == base:
            out += ours
        else:
            lines, at = decide(base, ours, theirs)
            clashes.append(f"line {len(out) + at + 1}")
            out += lines
    return Merged(b"".join(out), tuple(clashes))


def markers(labels: Labels) -> tuple[bytes, bytes, bytes]:
    """The lines that mark_lines() puts before our lines, before the base's, and after theirs."""
    return (
        b"<<<<<<< %b\n" % labels.ours.encode(), b"||||||| %b\n" % labels.base.encode(),
        b">>>>>>> %b\n" % labels.theirs.encode(),
    )  # fmt: skip


def _whole(lines: list[bytes]) -> list[bytes]:
    """The lines, the last one ended: what follows is a line of its own."""
    return [*lines[:-1], _ended(lines[-1])] if lines else []


def _regions(base: list[bytes], ours: list[bytes], theirs: list[bytes]) -> Iterator[Sequence[list[bytes]]]:
    """The texts in parts that belong together: lines that all three have, and what is between those."""
    in_ours, in_theirs = paired_lines(base, ours), paired_lines(base, theirs)
    here = (0, 0, 0)
    for line in sorted(in_ours.keys() & in_theirs.keys()):
        there = (line, in_ours[line], in_theirs[line])
        yield [text[a:b] for text, a, b in zip((base, ours, theirs), here, there, strict=True)]
        yield [[base[line]]] * 3
        here = (line + 1, there[1] + 1, there[2] + 1)
    yield [text[a:] for text, a in zip((base, ours, theirs), here, strict=True)]


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
        return Merged(_ended(ours) + theirs[len(base) :] if not is_binary(ours) else ours + theirs[len(base) :])
    known = Counter(split_lines(base))
    more = []
    for line in split_lines(theirs):
        if known[line]:
            known[line] -= 1
        else:
            more.append(line)
    return Merged(_ended(ours) + b"".join(more))


def _common_lines(left: bytes, right: bytes) -> bytes:
    lines = split_lines(left)
    return b"".join(lines[: common_lines(lines, split_lines(right))])


def merge_line_set(texts: Texts) -> Merged:
    """A list whose lines are its members: ours, without what theirs removed, with what theirs added. No clashes.

    >>> merge_line_set(Texts(b"a\\nb\\n", b"a\\nb\\nc\\n", b"b\\nd\\n", None)).data
    b'b\\nc\\nd\\n'
    """
    base, ours, theirs = ([line.rstrip(b"\n") for line in split_lines(data or b"")] for data in texts[:3])
    gone = set(base) - set(theirs)
    known = {*base, *ours}
    lines = [line for line in ours if line not in gone] + [line for line in theirs if line not in known]
    return Merged(b"".join(line + b"\n" for line in lines))


def _ended(data: bytes) -> bytes:
    """The text, its last line ended."""
    return data + b"\n" if data and not data.endswith(b"\n") else data
