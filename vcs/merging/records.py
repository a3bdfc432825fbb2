"""Files of records that have names: users, packages, settings. Merged record by record, whatever their order.

A record that one side changed is that side's; one that both changed is merged by its fields, where it has some, and
else a clash, unless both made the same of it. New ones go behind the record that they came behind.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from vcs.merging.values import Favour, Merged, Texts
from vcs.texts import split_lines

Records: TypeAlias = dict[bytes, bytes]
"""By name, in the file's order."""
Both: TypeAlias = "Callable[[bytes | None, bytes, bytes], bytes | None]"
"""Merges what both sides made of one record; None if that cannot be."""


def merge_records(
    base: Records, ours: Records, theirs: Records, favour: Favour, both: Both | None = None
) -> tuple[Records, list[bytes]]:
    """The three-way merge by name, and the names of those that clash."""
    found: Records = {}
    clashes = []
    for name in {**ours, **theirs}:
        was, our, their = base.get(name), ours.get(name), theirs.get(name)
        record = their if our in (was, their) else our
        if our not in (was, their) and their != was:
            merged = both(was, our, their) if both and our is not None and their is not None else None
            if merged is None:
                clashes.append(name)
            record = merged if merged is not None else their if favour == "theirs" else our
        if record is not None:
            found[name] = record
    return {name: found[name] for name in _placed(ours, theirs) if name in found}, clashes


def _placed(ours: Iterable[bytes], theirs: Iterable[bytes]) -> list[bytes]:
    """The names in our order; what only theirs has is behind what it is behind there, and behind what we put there."""
    known, shared = set(ours), set(theirs)
    behind: dict[bytes, list[bytes]] = defaultdict(list)
    anchor = b""
    for name in theirs:
        if name in known:
            anchor = name
        else:
            behind[anchor].append(name)
    order: list[bytes] = []
    waiting = behind[b""]
    for name in ours:
        if name in shared:
            order += waiting
            waiting = behind[name]
        order.append(name)
    return order + waiting


# -- lines of fields: passwd(5), group(5), shadow(5), gshadow(5), subuid(5), RECORD


def keyed_lines(data: bytes | None, separator: bytes = b":") -> Records:
    """The lines by their first field; those with the same one are one record."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for line in split_lines(data or b""):
        line = line.rstrip(b"\n")
        key = line if line.startswith(b"#") else line.partition(separator)[0]
        found[key].append(line)
    return {key: b"\n".join(lines) for key, lines in found.items()}


def joined_lines(records: Mapping[bytes, bytes]) -> bytes:
    return b"".join(record + b"\n" for record in records.values())


def merge_fields(lists: Iterable[int], favour: Favour = None) -> Both:
    """Merge lines of fields field by field; those at the positions `lists` are sets of names between commas."""

    def both(base: bytes | None, ours: bytes, theirs: bytes) -> bytes | None:
        rows = [(data or b"").split(b":") for data in (base, ours, theirs)]
        if base is None:
            rows[0] = [b""] * len(rows[1])
        if len({len(row) for row in rows}) > 1 or any(b"\n" in data for data in (ours, theirs)):
            return None
        merged = []
        for position, (was, our, their) in enumerate(zip(*rows, strict=True)):
            if our in (was, their):
                merged.append(their)
            elif their == was:
                merged.append(our)
            elif position in lists:
                merged.append(_merged_names(was, our, their))
            else:
                return None
        return b":".join(merged)

    return both


def _merged_names(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    was, our, their = ([name for name in text.split(b",") if name] for text in (base, ours, theirs))
    gone = set(was) - set(their)
    kept = [name for name in our if name not in gone]
    return b",".join(kept + [name for name in their if name not in {*was, *our}])


# -- stanzas: dpkg's and apt's status files, debconf's, apk's


def keyed_stanzas(data: bytes | None, *fields: bytes) -> Records:
    """Paragraphs between empty lines, by the values of some of their fields."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    patterns = [re.compile(rb"^" + re.escape(field) + rb":[ \t]*(.*)$", re.MULTILINE) for field in fields]
    for stanza in re.split(rb"\n{2,}", (data or b"").strip(b"\n")):
        if stanza:
            values = [match[1] if (match := pattern.search(stanza)) else b"" for pattern in patterns]
            found[b":".join(filter(None, values))].append(stanza)
    return {key: b"\n\n".join(stanzas) for key, stanzas in found.items()}


def joined_stanzas(records: Mapping[bytes, bytes]) -> bytes:
    return b"".join(record + b"\n\n" for record in records.values())


def merge_stanzas(texts: Texts, *fields: bytes) -> Merged:
    """Merge files of stanzas by name; one that both sides changed differently is a clash."""
    base, ours, theirs = (keyed_stanzas(data, *fields) for data in texts[:3])
    found, clashes = merge_records(base, ours, theirs, texts.favour)
    return Merged(joined_stanzas(found), tuple(map(shown, clashes)))


def shown(name: bytes) -> str:
    """A record's name for people."""
    return name.decode("utf-8", "replace")
