"""A package, and what becomes of packages from one root to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from runtime.packages.versions import deb_order

Kind = Literal["deb", "apk", "rpm", "pypi", "npm", "gem"]
Note: TypeAlias = Callable[[str], None]
"""Told what of a database could not be understood."""
Key: TypeAlias = tuple[str, str, str, str]


class Owner(NamedTuple):
    """What files belong to: a package, in whatever version, of whatever architecture."""

    kind: Kind
    name: str
    place: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One installed package."""

    kind: Kind
    name: str
    version: str
    architecture: str = ""
    """`amd64`, `all`; of a gem, its platform; empty of Python's and npm's packages."""
    place: str = ""
    """The directory that a package of Python, npm or Ruby is installed in: there may be a version in each of many.
    Else empty."""
    size: int | None = field(default=None, compare=False)
    """Bytes that it takes when it is installed, as the database says; None if that does not."""

    @property
    def key(self) -> Key:
        """What of a package stays when it is upgraded."""
        return self.kind, self.name, self.architecture, self.place

    @property
    def owner(self) -> Owner:
        """What its files belong to."""
        return Owner(self.kind, self.name, self.place)


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
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What of the databases could not be understood."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def owners(self) -> frozenset[Owner]:
        """What the files of all that came, went or changed belong to."""
        both = [*self.added, *self.removed, *(change.new for change in self.changed)]
        return frozenset(package.owner for package in both)


def text(value: bytes) -> str:
    """Bytes out of a database."""
    return value.decode(errors="replace")


def path_text(path: bytes) -> str:
    """A path as a package's place, or in a note."""
    return path.decode(errors="backslashreplace") or "/"
