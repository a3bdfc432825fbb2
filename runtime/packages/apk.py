"""apk's installed database: paragraphs of lines with a letter each (apk-tools, doc/apk-v2)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runtime.packages.deb import number
from runtime.packages.model import Note, Package, text

_FIELD = re.compile(rb"^([PVAI]):(.*)$", re.MULTILINE)


def apk_packages(data: bytes, note: Note) -> Iterator[Package]:
    """What the database says is installed."""
    unclear = 0
    for paragraph in data.split(b"\n\n"):
        fields = dict(_FIELD.findall(paragraph))
        if b"P" in fields and b"V" in fields:
            name, version, architecture = (text(fields.get(letter, b"")) for letter in (b"P", b"V", b"A"))
            yield Package("apk", name, version, architecture, size=number(fields.get(b"I", b"")))
        else:
            unclear += bool(paragraph.strip())
    if unclear:
        note(f"paragraphs without a package and a version: {unclear:,}")
