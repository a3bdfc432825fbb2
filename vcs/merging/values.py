"""What a merge is made of, and what it comes to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from vcs.diff import Change
from vcs.model import Entry, type_name

Favour: TypeAlias = Literal["ours", "theirs"] | None
"""The side that conflicts are decided for; None: they are only listed, and ours stands in their place."""

Kind: TypeAlias = Literal["content", "added", "deleted", "type", "attributes", "links", "config"]
"""Why there is a conflict:

content      both changed what the file holds          added        both added something else
deleted      one deleted what the other changed        type         one made another type of file of what both changed
attributes   both changed its mode, owner or xattrs    links        one changed one name of what the other made one file
config       both changed the same key of the image config
"""


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """What both sides did to one path, and cannot both be had."""

    kind: Kind
    path: bytes
    """Absolute; the key, such as `config.Cmd`, if the kind is "config"."""
    ours: str
    """What our side did, in a few words."""
    theirs: str
    detail: str = ""
    """Which part of the file it is about, where only a part is."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A file that is derived from others, which the merge may have changed: ours was taken."""

    path: bytes
    command: str
    """What makes it anew in a container; empty for what is made anew by itself."""


class Texts(NamedTuple):
    """Three versions of a file's content; `base` is None where both sides added it."""

    base: bytes | None
    ours: bytes
    theirs: bytes
    favour: Favour


class Labels(NamedTuple):
    """What the sides are called in a text with conflict markers."""

    ours: str
    base: str
    theirs: str


class Merged(NamedTuple):
    """A content that came of three. Where there was a clash, it has the favoured side's part, ours if there is none."""

    data: bytes
    clashes: tuple[str, ...] = ()
    """What could not be merged: a line number, a record's name."""


def deed(before: Entry | None, after: Entry | None) -> str:
    """What a side did to a path, in a few words.

    >>> deed(None, None)
    'nothing'
    """
    if after is None:
        return "deleted" if before else "nothing"
    if before is None:
        return f"added a {type_name(after)}"
    change = Change("M", b"", before, after)
    if "type" in change.what:
        return f"made it a {type_name(after)}"
    if after.is_dir and before.content != after.content:
        return "changed what is in it"
    return "changed " + ", ".join(change.what) if change.what else "nothing"
