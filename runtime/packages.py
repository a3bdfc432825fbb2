"""Which packages a root holds, and which come, go and change between two: what the package managers wrote down.

    deb     /var/lib/dpkg/status, and a file for each package in status.d/ where there is no dpkg (distroless images)
    apk     /lib/apk/db/installed
    pypi    *.dist-info and *.egg-info directories, anywhere: installed, in a home, in a virtual environment

Kinds are named as in package URLs (purl). Only what is installed counts: a package of which dpkg has kept nothing but
the configuration does not. Names and versions of Python packages are those of their directories (the format of
recorded projects, packaging.python.org), so nothing of them is read.

Of dpkg's database only four fields of each paragraph are looked at: 4 ms for 750 packages, where python-debian's deb822
takes 36 ms, and a hundred containers have a hundred databases.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vcs.blobs import list_items
from vcs.errors import BadInput
from vcs.model import Chunked, Data, Entry, Tree
from vcs.snapshot import Snapshot
from vcs.trees import differing_entries

Kind = Literal["deb", "apk", "pypi"]
_Key: TypeAlias = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One installed package."""

    kind: Kind
    name: str
    version: str
    architecture: str = ""
    """`amd64`, `all`; empty of Python packages."""
    place: str = ""
    """The directory that a Python package is installed in: there may be a version in each of many. Else empty."""

    @property
    def key(self) -> _Key:
        """What of a package stays when it is upgraded."""
        return self.kind, self.name, self.architecture, self.place


Packages: TypeAlias = frozenset[Package]


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package that is installed in another version."""

    old: Package
    new: Package

    @property
    def is_downgrade(self) -> bool | None:
        """Whether the new version is the older one; None if nobody here knows how this kind orders them."""
        if self.old.kind != "deb":
            return None
        return deb_order(self.new.version) < deb_order(self.old.version)


@dataclass(frozen=True, slots=True)
class PackageChanges:
    """What differs, each sorted by kind and name."""

    added: tuple[Package, ...] = ()
    removed: tuple[Package, ...] = ()
    changed: tuple[PackageChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def packages(snapshot: Snapshot) -> Packages:
    """Every package of a root. Looks at every directory, for Python's: 10 ms for 15,000 names.

    Missing or Corrupt if a database cannot be read; what in it cannot be understood is left out.
    """
    found = {package for base in _DATABASES for package in base.packages(snapshot, base.files(snapshot))}
    return frozenset(found | _side(snapshot, _below(snapshot, b"", snapshot.root)))


def changes(old: Snapshot, new: Snapshot) -> PackageChanges:
    """What came, went and changed from one root to the other. Opens only what differs between them."""
    before: set[Package] = set()
    after: set[Package] = set()
    for base in _DATABASES:
        files, others = base.files(old), base.files(new)
        before.update(base.packages(old, _without(files, others)))
        after.update(base.packages(new, _without(others, files)))
    ours, theirs = _differing(old, new)
    return _compare(before | _side(old, ours), after | _side(new, theirs))


def database_chunks(snapshot: Snapshot) -> set[bytes]:
    """The digests of what packages() would read."""
    found: set[bytes] = set()
    for base in _DATABASES:
        for file in base.files(snapshot):
            if isinstance(file.content, Data) and file.content.size:
                found.add(file.content.chunk)
            elif isinstance(file.content, Chunked):
                found.update(item.digest for item in list_items(snapshot.objects, file.content.list) if item.digest)
    return found


def _compare(before: set[Package], after: set[Package]) -> PackageChanges:
    old, new = _by_key(before - after), _by_key(after - before)
    # Of two versions in one place (which pip would not leave) nobody can say which became which.
    both = sorted(key for key in old.keys() & new.keys() if len(old[key]) == len(new[key]) == 1)
    changed = tuple(PackageChange(*old.pop(key), *new.pop(key)) for key in both)
    return PackageChanges(_sorted(new), _sorted(old), changed)


def _by_key(found: Iterable[Package]) -> dict[_Key, list[Package]]:
    groups: dict[_Key, list[Package]] = defaultdict(list)
    for package in found:
        groups[package.key].append(package)
    return groups


def _sorted(groups: dict[_Key, list[Package]]) -> tuple[Package, ...]:
    return tuple(sorted(package for group in groups.values() for package in group))


# -- dpkg and apk


@dataclass(frozen=True, slots=True)
class _Database:
    """Where a package manager keeps what is installed: files of paragraphs."""

    path: bytes
    """A file, or a directory of them."""
    parse: Callable[[bytes], Iterator[Package]]
    omit: bytes = b"\0"
    """The end of the names in it that are something else."""

    def files(self, snapshot: Snapshot) -> list[Entry]:
        """The files, in one root."""
        try:
            top = snapshot.find(snapshot.resolve(self.path))
        except BadInput:  # links that lead nowhere
            return []
        if top is None:
            return []
        found = list(snapshot.directory(top)) if top.is_dir else [top]
        return [file for file in found if _is_file(file) and not file.name.endswith(self.omit)]

    def packages(self, snapshot: Snapshot, files: Iterable[Entry]) -> Iterator[Package]:
        """What some of them tell of."""
        for file in files:
            if isinstance(file.content, (Data, Chunked)) and file.content.size <= _LARGEST:
                yield from self.parse(snapshot.read(file.content))


def _without(files: Iterable[Entry], others: Iterable[Entry]) -> list[Entry]:
    """The files of one root that are not the same in another."""
    same = {(file.name, file.content) for file in others}
    return [file for file in files if (file.name, file.content) not in same]


_LARGEST = 256 << 20
"""Bytes of a database; what is larger is none."""
_DEB_FIELD = re.compile(rb"^(Package|Status|Version|Architecture):[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_NOT_INSTALLED = (b"not-installed", b"config-files")
_APK_FIELD = re.compile(rb"^([PVA]):(.*)$", re.MULTILINE)


def _deb_packages(data: bytes) -> Iterator[Package]:
    """dpkg's status file: paragraphs of deb822(5)."""
    for paragraph in data.split(b"\n\n"):
        fields = dict(_DEB_FIELD.findall(paragraph))
        state = fields.get(b"Status", b"").split()[-1:]  # want, error flag, state: see dpkg-query(1)
        if b"Package" in fields and b"Version" in fields and not (state and state[0] in _NOT_INSTALLED):
            words = (fields[b"Package"], fields[b"Version"], fields.get(b"Architecture", b""))
            yield Package("deb", *map(_text, words))


def _apk_packages(data: bytes) -> Iterator[Package]:
    """apk's installed database: paragraphs of one-letter fields."""
    for paragraph in data.split(b"\n\n"):
        fields = dict(_APK_FIELD.findall(paragraph))
        if b"P" in fields and b"V" in fields:
            yield Package("apk", _text(fields[b"P"]), _text(fields[b"V"]), _text(fields.get(b"A", b"")))


_DATABASES = (
    _Database(b"/var/lib/dpkg/status", _deb_packages),
    _Database(b"/var/lib/dpkg/status.d", _deb_packages, omit=b".md5sums"),
    _Database(b"/lib/apk/db/installed", _apk_packages),
)


def _is_file(entry: Entry) -> bool:
    return isinstance(entry.content, (Data, Chunked))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


# -- Python's

_At: TypeAlias = tuple[bytes, Entry]
"""A directory, without a slash at its end, and an entry in it."""

_DEBIANS_OWN = b"/usr/lib/python3/dist-packages"
"""Where Debian's packages put theirs, and nobody else does: they are told of as deb."""
_SUFFIXES = (b".dist-info", b".egg-info")
_DIST_INFO = re.compile(r"(?P<name>[^~].*?)-(?P<version>[^-]+)\.dist-info")
_EGG_INFO = re.compile(r"(?P<name>[^~][^-]*)-(?P<version>[^-]+)(-py[0-9.]+)?(-.*)?\.egg-info")
_NAME_MARKS = re.compile(r"[-_.]+")


def _side(snapshot: Snapshot, found: Iterable[_At]) -> set[Package]:
    return {package for place, entry in found if (package := _python_package(place, entry.name))}


def _python_package(place: bytes, name: bytes) -> Package | None:
    """What a directory of metadata says by its name; None if it names no version, or belongs to somebody else."""
    if place == _DEBIANS_OWN:
        return None
    text = os.fsdecode(name)
    match = _DIST_INFO.fullmatch(text) or _EGG_INFO.fullmatch(text)
    if match is None:
        return None
    normal = _NAME_MARKS.sub("-", match["name"]).lower()  # PEP 503
    return Package("pypi", normal, match["version"], place=place.decode(errors="backslashreplace") or "/")


def _metadata(snapshot: Snapshot, place: bytes, entry: Entry) -> Iterator[_At]:
    """An entry, if it is of metadata; else those below it."""
    if entry.name.endswith(_SUFFIXES):
        yield place, entry
    elif entry.is_dir:
        yield from _below(snapshot, place + b"/" + entry.name, entry)


def _below(snapshot: Snapshot, path: bytes, entry: Entry) -> Iterator[_At]:
    """Every entry of metadata below a directory."""
    todo = [(path, entry)]
    while todo:
        place, directory = todo.pop()
        for child in snapshot.directory(directory):
            if child.name.endswith(_SUFFIXES):
                yield place, child
            elif isinstance(child.content, Tree) and child.content.entries:
                todo.append((place + b"/" + child.name, child))


def _differing(old: Snapshot, new: Snapshot) -> tuple[list[_At], list[_At]]:
    """The entries of metadata that only one of two roots has."""
    gone: list[_At] = []
    come: list[_At] = []
    todo = [(b"", old.root, new.root)]
    while todo:
        place, *pair = todo.pop()
        trees = [entry.content.tree for entry in pair if isinstance(entry.content, Tree)]
        if len(trees) < 2 or trees[0] == trees[1]:
            continue
        before, after = (
            {entry.name: entry for entry in side}
            for side in differing_entries(old.objects, trees[0], new.objects, trees[1])
        )
        for name in before.keys() | after.keys():
            was, now = before.get(name), after.get(name)
            if was and now and was.is_dir and now.is_dir and not name.endswith(_SUFFIXES):
                todo.append((place + b"/" + name, was, now))
            elif not (was and now and name.endswith(_SUFFIXES)):  # else its name says the same
                for snapshot, entry, into in ((old, was, gone), (new, now, come)):
                    into += _metadata(snapshot, place, entry) if entry else ()
    return gone, come


# -- versions


def deb_order(version: str) -> tuple[object, ...]:
    """A key by which dpkg's versions sort as dpkg sorts them (Debian policy 5.6.12, deb-version(7)).

    >>> sorted(["1.0-1", "1.0~rc1-1", "1:0.9-1", "1.0-1+b1", "1.0.1-1"], key=deb_order)
    ['1.0~rc1-1', '1.0-1', '1.0-1+b1', '1.0.1-1', '1:0.9-1']
    """
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch) if epoch.isdecimal() else 0, _part_order(upstream), _part_order(revision or "0")


def _part_order(text: str) -> tuple[object, ...]:
    """Digits by their value, what is between them by its letters: `~` before the end, letters before other signs."""
    found: list[object] = []
    for signs, digits in re.findall(r"([^0-9]*)([0-9]*)", text):
        found.append((*map(_sign_order, signs), 0))
        found.append(int(digits or "0"))
    return tuple(found)


def _sign_order(sign: str) -> int:
    return -1 if sign == "~" else ord(sign) if sign.isascii() and sign.isalpha() else ord(sign) + 256
