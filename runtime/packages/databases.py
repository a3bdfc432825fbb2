"""Where package managers keep what is installed, and what they say there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from runtime.packages.apk import apk_packages
from runtime.packages.deb import deb_packages
from runtime.packages.model import Note, Package, path_text
from runtime.packages.rpm import rpm_packages, unread_format
from vcs.errors import BadInput
from vcs.model import Chunked, Data, Entry
from vcs.snapshot import Snapshot

LARGEST = 256 << 20
"""Bytes of a database; what is larger is none."""


APK = ((b"/usr/lib/apk/db/installed", b""), (b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed"))
"""Where apk's database may be, newer versions' place first; and what a place may be a link to."""
RPM = (
    (b"/usr/lib/sysimage/rpm/rpmdb.sqlite", b""),
    (b"/var/lib/rpm/rpmdb.sqlite", b"/usr/lib/sysimage/rpm/rpmdb.sqlite"),
)
"""The same for rpm's."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where a package manager keeps what is installed."""

    path: bytes
    """A file, or a directory of them."""
    parse: Callable[[bytes, Note], Iterator[Package]]
    omit: bytes = b"\0"
    """The end of the names in it that are something else."""
    log: bytes = b""
    """The end of the name of a file beside it with what is not in it yet."""

    unless: bytes = b""
    """Another place of the same, to which this one may be a link: then this one is not looked at."""

    def files(self, snapshot: Snapshot) -> list[Entry]:
        """The files, in one root."""
        found = files_at(snapshot, self.path, self.unless)
        return [file for file in found if not file.name.endswith(self.omit)]

    def packages(self, snapshot: Snapshot, files: Iterable[Entry], note: Note) -> Iterator[Package]:
        """What some of them tell of."""
        for file in files:
            data = read(snapshot, file, note, self.path)
            if data is not None:
                yield from self.parse(data, lambda said: note(f"{path_text(self.path)}: {said}"))
        if files and self.log and (log := find(snapshot, self.path + self.log)) and log.size:
            note(f"{path_text(self.path)}: what is only in its log ({path_text(log.name)}) yet is not known")


DATABASES = (
    Database(b"/var/lib/dpkg/status", deb_packages),
    Database(b"/var/lib/dpkg/status.d", deb_packages, omit=b".md5sums"),
    *(Database(place, apk_packages, unless=other) for place, other in APK),
    *(Database(place, rpm_packages, log=b"-wal", unless=other) for place, other in RPM),
    *(
        Database(place.replace(b"rpmdb.sqlite", name), unread_format)
        for place, _ in RPM
        for name in (b"Packages", b"Packages.db")
    ),
)


def without(files: Iterable[Entry], others: Iterable[Entry]) -> list[Entry]:
    """The files of one root that are not the same in another."""
    same = {(file.name, file.content) for file in others}
    return [file for file in files if (file.name, file.content) not in same]


def files_at(snapshot: Snapshot, path: bytes, unless: bytes = b"") -> list[Entry]:
    """The file at a path, or the files in the directory there, links followed. None if `unless`, another path, leads to
    the same."""
    try:
        place = snapshot.resolve(path)
        if unless and snapshot.resolve(unless) == place:
            return []
    except BadInput:
        return []
    top = snapshot.find(place)
    if top is None:
        return []
    found = list(snapshot.directory(top)) if top.is_dir else [top]
    return [file for file in found if file.is_file]


def find(snapshot: Snapshot, path: bytes) -> Entry | None:
    """What is at a path, links followed; None if nothing is, or they lead nowhere."""
    try:
        return snapshot.find(snapshot.resolve(path))
    except BadInput:
        return None


def read(snapshot: Snapshot, file: Entry, note: Note, path: bytes) -> bytes | None:
    """A file's bytes; None, and a note, if it is too large."""
    if not isinstance(file.content, (Data, Chunked)):
        return None
    if file.content.size > LARGEST:
        note(f"{path_text(path)}: larger than any database")
        return None
    return snapshot.read(file.content)
