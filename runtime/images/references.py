"""What images are called where they are saved: NAME:TAG, as Docker and Podman have it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vcs.errors import InvalidName

_HOST = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-f:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LATEST = "latest"
_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name (empty if it has none) and tag."""

    name: str
    tag: str
    short: str
    """What a layout calls it."""

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}" if self.name else self.short


def parse_reference(text: str) -> Reference:
    """NAME or NAME:TAG. InvalidName.

    >>> str(parse_reference("localhost:5000/web")), parse_reference("web:1").tag
    ('localhost:5000/web:latest', '1')
    """
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        name, tag = text, _LATEST
    if not _NAME.fullmatch(name) or len(name) > _NAME_MAX or not _TAG.fullmatch(tag):
        raise InvalidName(
            f"{text!r} cannot be an image's name: write NAME:TAG, the name in lower case, such as web:1", name=text
        )
    return Reference(name, tag, tag)


def reference_of(revision: str, commit: str) -> Reference:
    """What an image is called if nobody says: by its branch or tag, if that can be a name; else by its commit alone."""
    short = revision if _TAG.fullmatch(revision) else commit[:12]
    return Reference(revision if _NAME.fullmatch(revision) else "", _LATEST, short)
