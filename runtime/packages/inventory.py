"""Everything that is installed in a root, and what differs between two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.packages import places
from runtime.packages.databases import DATABASES, without
from runtime.packages.model import Key, Package, PackageChange, PackageChanges, Packages
from vcs.blobreader import list_items
from vcs.model import Chunked, Data, Entry
from vcs.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is installed in a root."""

    packages: Packages
    notes: tuple[str, ...]
    """What of the databases could not be understood."""


def inventory(snapshot: Snapshot) -> Inventory:
    """Every package of a root. Missing or Corrupt if the store has lost what must be read."""
    notes: list[str] = []
    found: set[Package] = set()
    for base in DATABASES:
        found.update(base.packages(snapshot, base.files(snapshot), notes.append))
    found |= places.all_packages(snapshot, places.below(snapshot, b"", snapshot.root), notes.append)
    return Inventory(frozenset(found), _once(notes))


def packages(snapshot: Snapshot) -> Packages:
    """The same, without the notes."""
    return inventory(snapshot).packages


def changes(old: Snapshot, new: Snapshot) -> PackageChanges:
    """What came, went and changed from one root to the other. Opens only what differs between them."""
    notes: list[str] = []
    before: set[Package] = set()
    after: set[Package] = set()
    for base in DATABASES:
        files, others = base.files(old), base.files(new)
        before.update(base.packages(old, without(files, others), notes.append))
        after.update(base.packages(new, without(others, files), notes.append))
    ours, theirs = places.differing(old, new)
    before |= places.all_packages(old, ours, notes.append)
    after |= places.all_packages(new, theirs, notes.append)
    return _compare(before, after, _once(notes))


def database_chunks(snapshot: Snapshot, more: Iterable[Entry] = ()) -> set[bytes]:
    """The digests of what inventory() would read, and of `more` files."""
    found: set[bytes] = set()
    for files in (*(base.files(snapshot) for base in DATABASES), places.manifests(snapshot), more):
        for file in files:
            if isinstance(file.content, Data) and file.content.size:
                found.add(file.content.chunk)
            elif isinstance(file.content, Chunked):
                found.update(item.digest for item in list_items(snapshot.objects, file.content.list) if item.digest)
    return found


def _compare(before: set[Package], after: set[Package], notes: tuple[str, ...]) -> PackageChanges:
    old, new = _by_key(before - after), _by_key(after - before)
    # Of two versions in one place (which pip would not leave) nobody can say which became which.
    both = sorted(key for key in old.keys() & new.keys() if len(old[key]) == len(new[key]) == 1)
    changed = tuple(PackageChange(*old.pop(key), *new.pop(key)) for key in both)
    return PackageChanges(_sorted(new), _sorted(old), changed, notes)


def _by_key(found: Iterable[Package]) -> dict[Key, list[Package]]:
    groups: dict[Key, list[Package]] = defaultdict(list)
    for package in found:
        groups[package.key].append(package)
    return groups


def _sorted(groups: dict[Key, list[Package]]) -> tuple[Package, ...]:
    return tuple(sorted(package for group in groups.values() for package in group))


def _once(notes: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))
