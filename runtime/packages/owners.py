"""Which packages files belong to, as the package managers' own lists of files say.

    deb     /var/lib/dpkg/info/NAME[:ARCHITECTURE].list, and status.d/NAME.md5sums where there is no dpkg
    apk     the lines F: and R: of its database              rpm     the names in its headers
    pypi    RECORD in a .dist-info                           npm     all below node_modules/NAME
    gem     all that a specification's name leads to: gems/NAME-VERSION/, its own file, what was compiled for it

A list may name a file by a path that a link of the root leads elsewhere (/bin/sh, which is /usr/bin/sh). A compiled
file of Python's (__pycache__) belongs to whatever its source belongs to.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from runtime.packages import gem, npm, places, pypi, rpm
from runtime.packages.databases import APK, RPM, files_at, find, read, without
from runtime.packages.model import Note, Owner, path_text, text
from vcs.errors import BadInput
from vcs.model import Entry, Symlink
from vcs.snapshot import Snapshot

Owners: TypeAlias = dict[bytes, set[Owner]]
_Listed: TypeAlias = Iterator[tuple[Owner, Iterable[bytes]]]

_BYTECODE = re.compile(rb"(.*)/__pycache__/([^/]+?)\.[^/]*\.pyc", re.DOTALL)
_GEM_FILE = re.compile(
    rb"(?P<home>.*)/(?:(?:gems|doc|extensions/[^/]+/[^/]+)/(?P<name>[^/]+)/.*"
    rb"|(?:cache|build_info|specifications(?:/default)?)/(?P<file>[^/]+)\.(?:gem|info|gemspec))",
    re.DOTALL,
)
_APK_LINE = re.compile(rb"^([PFR]):(.*)$", re.MULTILINE)
_DPKG_INFO = b"/var/lib/dpkg/info/"
_BOOKS = (b"/var/lib/dpkg/", b"/lib/apk/db/", b"/usr/lib/apk/db/", b"/var/lib/rpm/", b"/usr/lib/sysimage/rpm/")
"""Where package managers write for themselves."""


def owners(old: Snapshot, new: Snapshot, paths: Collection[bytes], note: Note) -> Owners:
    """The packages that each of some files belongs to, in either of two roots; none for what nobody owns."""
    found: Owners = defaultdict(set)
    wanted = _names_of(new, paths)
    for owner, names in _listed(old, new, note):
        for name in wanted.keys() & names:
            for path in wanted[name]:
                found[path].add(owner)
    for path in paths:
        if path not in found and (owner_ := _by_place(old, new, path, note)):
            found[path].add(owner_)
    return found


def is_bookkeeping(path: bytes) -> bool:
    """Whether a package manager writes a file for itself: its database. What dpkg keeps of a package is that one's."""
    return path.startswith(_BOOKS) and _dpkg_owner(path) is None


def owner_files(snapshot: Snapshot) -> Iterator[Entry]:
    """The files that owners() would read beside the databases."""
    for books in _FILE_LISTS:
        yield from books.files(snapshot)
    for _, record in _records(snapshot):
        yield record


# -- lists of files


@dataclass(frozen=True, slots=True)
class _FileLists:
    """Where a package manager says which files are whose."""

    path: bytes
    """A file, or a directory of them."""
    ending: bytes
    parse: Callable[[bytes, bytes, Note], _Listed]
    """Takes a file's name and its bytes."""

    unless: bytes = b""
    """As of a Database."""

    def files(self, snapshot: Snapshot) -> list[Entry]:
        """The files, in one root."""
        found = files_at(snapshot, self.path, self.unless)
        return [file for file in found if file.name.endswith(self.ending)]


def _dpkg_list(name: bytes, data: bytes, _: Note) -> _Listed:
    yield Owner("deb", _without_architecture(name.removesuffix(b".list"))), set(data.split(b"\n"))


def _dpkg_sums(name: bytes, data: bytes, _: Note) -> _Listed:
    """Lines of a digest, two spaces, and a path without the slash that it begins with."""
    names = {b"/" + line.partition(b"  ")[2] for line in data.split(b"\n")}
    yield Owner("deb", _without_architecture(name.removesuffix(b".md5sums"))), names


def _apk_files(_: bytes, data: bytes, __: Note) -> _Listed:
    for paragraph in data.split(b"\n\n"):
        name, directory = b"", b"/"
        files: set[bytes] = set()
        for letter, value in _APK_LINE.findall(paragraph):
            if letter == b"P":
                name = value
            elif letter == b"F":
                directory = b"/" + value + b"/" if value else b"/"
            else:
                files.add(directory + value)
        yield Owner("apk", text(name)), files


def _rpm_files(_: bytes, data: bytes, note: Note) -> _Listed:
    for name, files in rpm.rpm_files(data, note):
        yield Owner("rpm", name), set(files)


_FILE_LISTS = (
    _FileLists(b"/var/lib/dpkg/info", b".list", _dpkg_list),
    _FileLists(b"/var/lib/dpkg/status.d", b".md5sums", _dpkg_sums),
    *(_FileLists(place, b"", _apk_files, other) for place, other in APK),
    *(_FileLists(place, b"", _rpm_files, other) for place, other in RPM),
)


def _listed(old: Snapshot, new: Snapshot, note: Note) -> _Listed:
    """What all lists of both roots say; one that both have is read once."""
    for lists in _FILE_LISTS:
        before = lists.files(old)
        for snapshot, files in ((old, before), (new, without(lists.files(new), before))):
            for file in files:
                data = read(snapshot, file, note, lists.path)
                if data is not None:
                    yield from lists.parse(file.name, data, note)
    seen: set[tuple[bytes, object]] = set()
    for snapshot in (old, new):
        for directory, record in _records(snapshot):
            if (directory, record.content) not in seen:
                seen.add((directory, record.content))
                yield from _recorded(snapshot, directory, record, note)


def _records(snapshot: Snapshot) -> Iterator[tuple[bytes, Entry]]:
    """Each .dist-info with its RECORD."""
    for place, entry in places.below(snapshot, b"", snapshot.root):
        if entry.is_dir and entry.name.endswith(pypi.ENDINGS):
            record = snapshot.directory(entry).lookup(b"RECORD")
            if record is not None and record.is_file:
                yield place + b"/" + entry.name, record


def _recorded(snapshot: Snapshot, directory: bytes, record: Entry, note: Note) -> _Listed:
    """RECORD: lines of CSV whose first field is a path from the directory that the .dist-info is in."""
    place, _, name = directory.rpartition(b"/")
    package = pypi.python_package(place, name)
    data = read(snapshot, record, note, directory)
    if package is None or data is None:
        return
    rows = csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape")))
    files = set()
    try:
        for row in rows:
            if row:
                files.add(posixpath.normpath(place + b"/" + row[0].encode("utf-8", "surrogateescape")))
    except (csv.Error, UnicodeEncodeError) as error:
        note(f"{path_text(directory)}/RECORD: {error}")
    yield package.owner, files


# -- what a path itself says


def _by_place(old: Snapshot, new: Snapshot, path: bytes, note: Note) -> Owner | None:
    """The owner of a file that lies below its package, or is what dpkg keeps of one."""
    if found := _dpkg_owner(path):
        return found
    places_of = []
    if directory := npm.package_directory(path):
        places_of.append((directory, npm.FILE))
    if match := _GEM_FILE.fullmatch(path):
        name = (match["name"] or match["file"]) + gem.ENDING
        places_of += [(match["home"] + b"/specifications" + below, name) for below in (b"", b"/default")]
    for place, name in places_of:
        for snapshot in (new, old):
            entry = find(snapshot, place + b"/" + name)
            package = places.package_at(snapshot, place, entry, note) if entry and entry.is_file else None
            if package is not None:
                return package.owner
    return None


def _dpkg_owner(path: bytes) -> Owner | None:
    """The package that a file in dpkg's info/ tells of: `libc6:amd64.postinst`."""
    stem, dot, _ = path.removeprefix(_DPKG_INFO).rpartition(b".")
    if not path.startswith(_DPKG_INFO) or not dot or b"/" in stem:
        return None
    return Owner("deb", _without_architecture(stem))


def _without_architecture(name: bytes) -> str:
    return text(name.partition(b":")[0])


def _names_of(snapshot: Snapshot, paths: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """By which names a list may mean each of some paths."""
    links = _top_links(snapshot)
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for path in paths:
        source = _BYTECODE.fullmatch(path)
        for name in (path, *([source[1] + b"/" + source[2] + b".py"] if source else [])):
            found[name].append(path)
            for link, target in links:
                if name.startswith(target):
                    found[link + name[len(target) :]].append(path)
    return found


def _top_links(snapshot: Snapshot) -> list[tuple[bytes, bytes]]:
    """Links in the root and where they lead, both with a slash at the end: /bin/ and /usr/bin/."""
    found = []
    for entry in snapshot.directory(snapshot.root):
        if isinstance(entry.content, Symlink):
            try:
                target = snapshot.resolve(b"/" + entry.name)
            except BadInput:
                continue
            if target != b"/":
                found.append((b"/" + entry.name + b"/", target + b"/"))
    return found
