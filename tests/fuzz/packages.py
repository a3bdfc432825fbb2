"""The databases of package managers: what is damaged in them is noted, and nothing is raised."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing, suppress

from runtime.packages import gem, npm, owners, pypi, rpm
from runtime.packages.apk import apk_packages
from runtime.packages.databases import DATABASES
from runtime.packages.deb import deb_packages
from runtime.packages.versions import deb_order
from tests.fuzz.target import Target

assert DATABASES


def _note(_: str) -> None:
    """It may say whatever it likes."""


def deb(data: bytes) -> None:
    for package in deb_packages(data, _note):
        deb_order(package.version)
    list(owners._dpkg_list(b"a:amd64.list", data, _note))
    list(owners._dpkg_sums(b"a.md5sums", data, _note))


def apk(data: bytes) -> None:
    list(apk_packages(data, _note))
    list(owners._apk_files(b"installed", data, _note))


def _header(*entries: tuple[int, int, int, bytes]) -> bytes:
    table, store = b"", b""
    for tag, kind, count, data in entries:
        table += struct.pack(">iIiI", tag, kind, len(store), count)
        store += data
    return struct.pack(">II", len(entries), len(store)) + table + store


_RPM = _header(
    (1000, 6, 1, b"bash\0"), (1001, 6, 1, b"5.1\0"), (1002, 6, 1, b"1\0"), (1003, 4, 1, b"\0\0\0\1"), (1022, 6, 1, b"x86\0"),
    (1116, 4, 1, b"\0\0\0\0"), (1117, 8, 1, b"sh\0"), (1118, 8, 1, b"/bin/\0"), (5009, 5, 1, bytes(8)),
)  # fmt: skip


def rpm_header(data: bytes) -> None:
    found = rpm._header(data)
    if found is not None:
        found.string(1000)
        found.number(5009)
        list(rpm._files(found))


def _database() -> bytes:
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("PRAGMA page_size = 512")
        base.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        base.execute("INSERT INTO Packages (blob) VALUES (?)", (_RPM,))
        base.commit()
        return bytes(base.serialize())


def rpm_database(data: bytes) -> None:
    list(rpm.rpm_packages(data, _note))
    for _, files in rpm.rpm_files(data, _note):
        list(files)


def npm_manifest(data: bytes) -> None:
    npm.npm_package(b"/srv/node_modules/@a/b", data, _note)


def names(data: bytes) -> None:
    """A directory and a name in it, apart by a NUL."""
    place, _, name = data.partition(b"\0")
    with suppress(IndexError):
        npm.is_manifest(place, name)
    npm.package_directory(data)
    pypi.python_package(place, name)
    if gem.is_specification(place, name):
        gem.gem_package(place, name)
    owners._dpkg_owner(data)
    owners.is_bookkeeping(data)
    owners._GEM_FILE.fullmatch(data)
    owners._BYTECODE.fullmatch(data)


_DEB = b"Package: libc6\nStatus: install ok installed\nVersion: 1:2.36-9\nArchitecture: amd64\nInstalled-Size: 7\n\nPackage: b\n"
_APK = b"P:musl\nV:1.2.4-r2\nA:x86_64\nI:7\nF:lib\nR:ld.so\n\n"
_NAMES = (
    b"/srv/node_modules/@a/b\0package.json", b"/v/lib/site-packages\0PyYAML-6.0.1.dist-info", b"/p\0a-1-py3.egg-info",
    b"/g/specifications/default\0rake-1.2-x86.gemspec", b"/var/lib/dpkg/info/libc6:amd64.list",
    b"/g/extensions/a/b/rake-1/x", b"/u/__pycache__/a.cpython-311.pyc",
)  # fmt: skip

TARGETS = (
    Target("deb", deb, lambda: [_DEB], (b"Package: ", b"Version: ", b"~", b"\n\n")),
    Target("apk", apk, lambda: [_APK], (b"P:", b"V:", b"F:", b"R:", b"\n\n")),
    Target("rpm-header", rpm_header, lambda: [_RPM], (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")),
    Target("rpm-database", rpm_database, lambda: [_database()], (_RPM, b"CREATE VIEW", b"\xff\xff\xff\xff")),
    Target(
        "npm", npm_manifest, lambda: [b'{"name":"@a/b","version":"1.0","x":{"y":[1]}}'],
        (b"[[[[", b'"version":', b'{"a":', b"\\ud800"),
    ),
    Target("package-names", names, lambda: _NAMES, (b"/node_modules/", b".dist-info", b".gemspec", b"-1", b"/")),
)  # fmt: skip
