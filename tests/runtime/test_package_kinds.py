"""Packages of rpm, npm and Ruby, sizes, and databases that are damaged or mean harm."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.packages import Package, changes, inventory, packages
from runtime.packages.databases import DATABASES
from tests.runtime.test_packages import Nothing, dpkg, snapshot
from tests.support.values import Spec, link
from vcs.importer import import_directory
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot

_STRING, _INT32, _INT64 = 6, 4, 5


def header(name: str, version: str = "1", **more: str | int) -> bytes:
    """A header of rpm's, with tags of strings and numbers."""
    values: dict[int, str | int] = {1000: name, 1001: version}
    values |= {{"release": 1002, "epoch": 1003, "size": 1009, "arch": 1022}[key]: value for key, value in more.items()}
    index, data = b"", b""
    for tag, value in sorted(values.items()):
        if isinstance(value, int):
            data += b"\0" * (-len(data) % 4)
        index += struct.pack(">iIiI", tag, _STRING if isinstance(value, str) else _INT32, len(data), 1)
        data += value.encode() + b"\0" if isinstance(value, str) else struct.pack(">I", value)
    return struct.pack(">II", len(values), len(data)) + index + data


def rpmdb(*statements: str, blobs: list[bytes] | None = None) -> bytes:
    """A database with these statements and headers in it."""
    with closing(sqlite3.connect(":memory:")) as base:
        for statement in statements or ("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)",):
            base.execute(statement)
        if blobs:
            base.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
        base.commit()
        return base.serialize()


def rpm_root(database: bytes, name: str = "rpmdb.sqlite") -> Snapshot:
    return snapshot({"var": {"lib": {"rpm": {name: database}}}})


def test_rpm() -> None:
    database = rpmdb(blobs=[
        header("bash", "5.2.26", release="3.fc40", arch="x86_64", size=8_461_234),
        header("tool", "1", epoch=2, arch="noarch"),
        header("gpg-pubkey", "a15b79cc"),
    ])  # fmt: skip
    expected = {Package("rpm", "bash", "5.2.26-3.fc40", "x86_64"), Package("rpm", "tool", "2:1", "noarch")}
    found = inventory(rpm_root(database))
    assert found.packages == expected
    assert found.notes == ()
    assert {package.size for package in found.packages} == {8_461_234, None}
    fedora: Spec = {
        "usr": {"lib": {"sysimage": {"rpm": {"rpmdb.sqlite": database}}}},
        "var": {"lib": {"rpm": link("../../usr/lib/sysimage/rpm")}},
    }
    assert packages(snapshot(fedora)) == expected
    assert [len(base.files(snapshot(fedora))) for base in DATABASES if b"sqlite" in base.path] == [1, 0]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("rpmbuild") is None, reason="needs root and rpm")
def test_what_rpm_itself_installs(tmp_path: Path) -> None:
    """rpm builds a package and installs it; its database is in its own mode, with a log beside it."""
    (tmp_path / "tool.spec").write_text(
        "Name: tool\nVersion: 1.2\nRelease: 3\nEpoch: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n"
        "%description\nx\n%install\nmkdir -p %{buildroot}/opt\nhead -c 5000 /dev/zero >%{buildroot}/opt/data\n"
        "%files\n/opt/data\n"
    )
    top, made, root = tmp_path / "top", tmp_path / "made", tmp_path / "root"
    defines = ["--define", f"_topdir {top}", "--define", f"_rpmdir {made}", "--define", f"_tmppath {tmp_path}"]
    options: dict[str, Any] = {"check": True, "capture_output": True, "timeout": 60, "stdin": subprocess.DEVNULL}
    options["env"] = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    subprocess.run(["rpmbuild", *defines, "-bb", str(tmp_path / "tool.spec")], **options)
    root.mkdir()
    install = ["rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", "--nodeps", "-i"]
    subprocess.run([*install, *map(str, made.rglob("*.rpm"))], **options)
    sink = Scratch(Nothing(), keep=1 << 24)
    found = inventory(Snapshot(sink, import_directory(sink, root).root))
    assert found.packages == {Package("rpm", "tool", "1:1.2-3", "noarch")}
    assert [package.size for package in found.packages] == [5000]
    assert found.notes == ()


@pytest.mark.parametrize("name", ["Packages", "Packages.db"])
def test_older_formats_of_rpm_are_named(name: str) -> None:
    found = inventory(rpm_root(b"\0" * 100, name))
    assert not found.packages
    assert "not read" in found.notes[0]


def test_a_log_of_rpm_that_is_not_read_is_told() -> None:
    root = snapshot({"var": {"lib": {"rpm": {"rpmdb.sqlite": rpmdb(), "rpmdb.sqlite-wal": b"x" * 32}}}})
    assert "log" in inventory(root).notes[0]


@pytest.mark.parametrize(
    "database",
    [
        b"",
        b"SQLite format 3\0" + b"\0" * 84,
        b"x" * 5000,
        rpmdb("CREATE TABLE Other (blob)", "CREATE VIEW Packages AS SELECT blob FROM Other"),
        rpmdb(blobs=[b"", b"\0" * 8, b"\xff" * 100, struct.pack(">II", 1, 0) + struct.pack(">iIiI", 1000, 6, -5, 9)]),
    ],
    ids=["empty", "nothing", "other", "view", "headers"],
)
def test_a_database_of_rpm_that_is_none(database: bytes) -> None:
    found = inventory(rpm_root(database))
    assert not found.packages
    assert found.notes


def test_a_view_that_never_ends_is_not_asked() -> None:
    """SQLite would count for ever."""
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS blob FROM n"
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute(f"CREATE VIEW Packages AS {endless}")
        database = base.serialize()
    assert inventory(rpm_root(database)).notes


_GOOD = rpmdb(blobs=[header(f"p{number}", release="1", size=number) for number in range(60)])


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(_GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_bytes_that_changed_in_a_database_of_rpm(flips: list[tuple[int, int]]) -> None:
    """Whatever they are: what can be read is, and nothing is raised."""
    database = bytearray(_GOOD)
    for place, value in flips:
        database[place] = value
    assert len(inventory(rpm_root(bytes(database))).packages) <= 60


@given(st.binary(max_size=300))
def test_any_bytes_may_be_a_header(blob: bytes) -> None:
    inventory(rpm_root(rpmdb(blobs=[blob])))


# -- npm


def modules(**more: bytes) -> dict[str, Spec]:
    return {name.replace("_", "-"): {"package.json": data} for name, data in more.items()}


def test_npm() -> None:
    site: Spec = {
        **modules(left_pad=b'{"name": "left-pad", "version": "1.3.0"}'),
        "@types": modules(node=b'{"name": "@types/node", "version": "20.1.0"}'),
        "cjs": {"package.json": b'{"name": "string-width", "version": "4.2.3"}'},
        "a": {
            "package.json": b'\xef\xbb\xbf{"name":"a","version":"2.0.0-rc.1"}',
            "node_modules": modules(b=b'{"name":"b","version":"1"}'),
            "dist": {"package.json": b'{"name":"no","version":"1"}'},
        },
        ".bin": {"package.json": b'{"name":"no","version":"1"}'},
        ".package-lock.json": b"{}",
    }
    spec: Spec = {
        "usr": {
            "local": {"lib": {"node_modules": site}},
            "share": {"nodejs": {"npm": {"node_modules": modules(debian=b'{"name":"debian","version":"1"}')}}},
        },
        "node_modules": modules(top=b'{"name":"top","version":"0"}'),
    }
    place = "/usr/local/lib/node_modules"
    assert packages(snapshot(spec)) == {
        Package("npm", "left-pad", "1.3.0", place=place),
        Package("npm", "@types/node", "20.1.0", place=place),
        Package("npm", "string-width", "4.2.3", place=place),
        Package("npm", "a", "2.0.0-rc.1", place=place),
        Package("npm", "b", "1", place=f"{place}/a/node_modules"),
        Package("npm", "top", "0", place="/node_modules"),
    }


def test_package_json_that_is_none() -> None:
    site = modules(
        broken=b"{", deep=b"[" * 100_000, number=b"7", none=b"{}", bad=b'{"name":"\xff"}',
        odd=b'{"name":7,"version":[]}',
        evil=b'{"name":"../../etc\\u001b[2J","version":"1"}', long=b'{"name":"x","version":"' + b"1" * 9999 + b'"}',
    )  # fmt: skip
    site["link"] = {"package.json": link("../broken/package.json")}
    site["large"] = {"package.json": b'{"name":"large","version":"1"}' + b" " * (1 << 20)}
    found = inventory(snapshot({"node_modules": site}))
    assert {package.name for package in found.packages} == {"evil", "x"}
    assert all(len(package.version) <= 256 for package in found.packages)
    assert any("/node_modules/broken/package.json" in note for note in found.notes)


def test_an_upgrade_by_npm_is_one_change() -> None:
    def spec(version: bytes) -> Spec:
        return {"srv": {"node_modules": modules(a=b'{"name":"a","version":"%s"}' % version)}}

    found = changes(snapshot(spec(b"1")), snapshot(spec(b"2")))
    assert [(change.old.version, change.new.version) for change in found.changed] == [("1", "2")]
    assert not found.added + found.removed


# -- Ruby


def test_gems() -> None:
    specifications: Spec = {
        "rake-13.0.6.gemspec": b"",
        "net-http-2-1.0.pre1.gemspec": b"",
        "nokogiri-1.15.4-x86_64-linux.gemspec": b"",
        "noversion.gemspec": b"",
        "default": {"json-2.6.1.gemspec": b""},
    }
    spec: Spec = {
        "var": {"lib": {"gems": {"3.1.0": {"specifications": specifications}}}},
        "usr": {"share": {"rubygems-integration": {"all": {"specifications": {"debian-1.gemspec": b""}}}}},
        "src": {"tool-1.gemspec": b""},
    }
    home = "/var/lib/gems/3.1.0"
    assert packages(snapshot(spec)) == {
        Package("gem", "rake", "13.0.6", place=home),
        Package("gem", "net-http-2", "1.0.pre1", place=home),
        Package("gem", "nokogiri", "1.15.4", "x86_64-linux", home),
        Package("gem", "json", "2.6.1", place=home),
    }


# -- sizes and notes


def test_sizes() -> None:
    status = b"Package: a\nVersion: 1\nInstalled-Size: 12\n\nPackage: b\nVersion: 1\nInstalled-Size: much\n"
    apk = b"P:musl\nV:1\nI:622592\n\n"
    spec: Spec = {**dpkg(status), "lib": {"apk": {"db": {"installed": apk}}}}
    assert {package.name: package.size for package in packages(snapshot(spec))} == {
        "a": 12 * 1024,
        "b": None,
        "musl": 622_592,
    }


def test_paragraphs_that_say_nothing_are_told() -> None:
    found = inventory(snapshot(dpkg(b"Package: a\nVersion: 1\n\nrubbish\n\nPackage: b\n")))
    assert len(found.packages) == 1
    assert found.notes == ("/var/lib/dpkg/status: paragraphs without a package and a version: 2",)
