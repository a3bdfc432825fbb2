"""Files of environments that are more than text: which they are, and how each is merged.

Each line of the tables has its reason. What is in none of them is merged by its lines if it is text, and not at all
otherwise. Paths are of the root; a star stands for anything, slashes too.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from fnmatch import translate
from io import BytesIO
from typing import TypeAlias

from vcs.merging.records import (
    Both,
    Records,
    joined_lines,
    keyed_lines,
    merge_fields,
    merge_records,
    merge_stanzas,
    shown,
)
from vcs.merging.text import merge_growing, merge_line_set
from vcs.merging.values import Merged, Texts

Driver: TypeAlias = "Callable[[Texts], Merged | None]"
"""What comes of three versions of a file; None if they cannot be merged at all."""
_Span: TypeAlias = tuple[int, int]
_Claimed: TypeAlias = Callable[[bytes], "_Span | None"]
"""The numbers that a record claims for itself alone: the first, and the one after the last."""


def driver_for(path: bytes) -> Driver | None:
    """How the content of a file is merged that both sides changed; None: like any other."""
    return next((driver for pattern, driver in _DRIVERS if pattern.fullmatch(path)), None)


def cache_command(path: bytes) -> str | None:
    """What makes a file anew that is derived from others, empty if it needs no command; None if it is none."""
    return next((command for pattern, command in _CACHES if pattern.fullmatch(path)), None)


# -- users and groups


def _accounts(claimed: _Claimed, lists: tuple[int, ...] = ()) -> Driver:
    """A file of one account a line. Accounts that claim the same numbers, because each side made one, are a clash."""

    def merge(texts: Texts) -> Merged:
        base, ours, theirs = (keyed_lines(data) for data in texts[:3])
        found, clashes = merge_records(base, ours, theirs, texts.favour, merge_fields(lists))
        said = list(map(shown, clashes))
        favoured = theirs if texts.favour == "theirs" else ours
        known = _collisions(ours, claimed) | _collisions(theirs, claimed)
        for pair in sorted(_collisions(found, claimed) - known):
            said.append(" and ".join(map(shown, pair)) + " have the same number")
            for name in pair:
                if name in favoured:
                    found[name] = favoured[name]
                else:
                    found.pop(name, None)
        return Merged(joined_lines(found), tuple(said))

    return merge


def _collisions(records: Records, claimed: _Claimed) -> set[tuple[bytes, bytes]]:
    """The pairs of records that claim a number in common."""
    claims = sorted((span, name) for name, record in records.items() if (span := claimed(record)))
    pairs = set()
    reach: list[tuple[int, bytes]] = []  # those before that go on so far
    for (first, end), name in claims:
        reach = [(other_end, other) for other_end, other in reach if other_end > first]
        pairs |= {(min(name, other), max(name, other)) for _, other in reach}
        reach.append((end, name))
    return pairs


def _id(record: bytes) -> _Span | None:
    """The id in the third field, of passwd(5) and group(5)."""
    fields = record.split(b":")
    return (int(fields[2]), int(fields[2]) + 1) if len(fields) > 2 and fields[2].isdigit() else None


def _id_range(record: bytes) -> _Span | None:
    """The ids of a line of subuid(5)."""
    fields = record.split(b":")
    if len(fields) != 3 or not (fields[1].isdigit() and fields[2].isdigit()):
        return None
    return int(fields[1]), int(fields[1]) + int(fields[2])


def _no_ids(_: bytes) -> _Span | None:
    return None


# -- package databases


def _whole(_: Texts) -> None:
    """One side's or the other's: half of one version's list of files and half of another's is no package's."""


def _stanzas(*fields: bytes) -> Driver:
    return lambda texts: merge_stanzas(texts, *fields)


def _lines_by_first_field(separator: bytes, both: Both | None = None) -> Driver:
    def merge(texts: Texts) -> Merged:
        base, ours, theirs = (keyed_lines(data, separator) for data in texts[:3])
        found, clashes = merge_records(base, ours, theirs, texts.favour, both)
        return Merged(joined_lines(found), tuple(map(shown, clashes)))

    return merge


def _merge_tar(texts: Texts) -> Merged | None:
    """An archive, member by member, each as its bytes are."""
    try:
        base, ours, theirs = map(_members, texts[:3])
    except tarfile.TarError:
        return None
    found, clashes = merge_records(base, ours, theirs, texts.favour)
    data = b"".join(found.values()) + bytes(2 * tarfile.BLOCKSIZE)
    return Merged(data + bytes(-len(data) % tarfile.RECORDSIZE), tuple(map(shown, clashes)))


def _members(data: bytes | None) -> Records:
    if not data:
        return {}
    with tarfile.open(fileobj=BytesIO(data), mode="r:") as archive:
        found = {}
        for member in archive:
            end = member.offset_data + (member.size + tarfile.BLOCKSIZE - 1) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            found[member.name.encode("utf-8", "surrogateescape")] = data[member.offset : end]
        return found


# -- which is which

_TABLE: tuple[tuple[str, Driver], ...] = (
    # Two branches that each made an account have added a line at the same place; the number is what matters.
    ("/etc/passwd", _accounts(_id)),
    ("/etc/group", _accounts(_id, lists=(3,))),
    ("/etc/shadow", _accounts(_no_ids)),
    ("/etc/gshadow", _accounts(_no_ids, lists=(2, 3))),
    # A user's range of ids must be his alone.
    ("/etc/sub[ug]id", _accounts(_id_range)),
    # Every installation rewrites these files; a package's stanza is its state.
    ("/var/lib/dpkg/status", _stanzas(b"Package", b"Architecture")),
    ("/var/lib/dpkg/available", _stanzas(b"Package", b"Architecture")),
    ("/var/lib/apt/extended_states", _stanzas(b"Package", b"Architecture")),
    ("/var/cache/debconf/*.dat", _stanzas(b"Name")),
    ("*/lib/apk/db/installed", _stanzas(b"P")),
    # What each package has to run: a member for each script.
    ("*/lib/apk/db/scripts.tar", _merge_tar),
    # A package's files belong together in one version.
    ("/var/lib/dpkg/info/*", _whole),
    # Lists of names in which the order says nothing.
    ("/var/lib/dpkg/triggers/*", merge_line_set),
    ("/var/lib/dpkg/diversions", _whole),
    ("*/lib/apk/db/triggers", merge_line_set),
    ("/etc/apk/world", merge_line_set),
    ("/etc/shells", merge_line_set),
    # A line for each file that was installed, and its digest.
    ("*.dist-info/RECORD", _lines_by_first_field(b",")),
    # They only grow. Tables that are indexed by user (lastlog, faillog) do not, nor do journals.
    ("/var/log/(lastlog|faillog|tallylog|journal/*)", _whole),
    ("/var/log/*", merge_growing),
)

_CACHE_TABLE: tuple[tuple[str, str], ...] = (
    ("/etc/ld.so.cache", "ldconfig"),
    ("/var/cache/ldconfig/*", "ldconfig"),
    ("/var/cache/man/*", "mandb --create"),
    ("/var/cache/apt/*.bin", "apt-cache gencaches"),
    ("/var/lib/apt/lists/*", "apt-get update"),
    ("/var/cache/fontconfig/*", "fc-cache --force"),
    ("/usr/share/mime/*.cache", "update-mime-database /usr/share/mime"),
    ("/usr/share/icons/*/icon-theme.cache", "update-icon-caches /usr/share/icons/*"),
    ("/usr/share/info/dir", "update-info-dir"),
    ("/usr/lib/locale/locale-archive", "locale-gen"),
    ("/usr/lib/*/gconv/gconv-modules.cache", "iconvconfig"),
    # The state before the last change, which dpkg and passwd's tools keep: the next change writes it anew.
    ("/var/lib/dpkg/*-old", ""),
    ("/var/cache/debconf/*-old", ""),
    ("/etc/passwd-", ""),
    ("/etc/group-", ""),
    ("/etc/shadow-", ""),
    ("/etc/gshadow-", ""),
    ("/etc/subuid-", ""),
    ("/etc/subgid-", ""),
    # Python looks whether they are of their source.
    ("*/__pycache__/*.pyc", ""),
)


def _compiled(pattern: str) -> re.Pattern[bytes]:
    """A pattern of paths: fnmatch's, with alternatives between brackets."""
    text = translate(pattern).replace(r"\(", "(").replace(r"\|", "|").replace(r"\)", ")")
    return re.compile(text.encode())


_DRIVERS = [(_compiled(pattern), driver) for pattern, driver in _TABLE]
_CACHES = [(_compiled(pattern), command) for pattern, command in _CACHE_TABLE]
