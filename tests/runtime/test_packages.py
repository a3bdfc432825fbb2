"""Packages: what the databases of package managers say, and what differs between two of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.packages import Package, PackageChanges, changes, database_chunks, deb_order, packages
from tests.support.values import Spec, file, link, root
from vcs.blobs import BlobWriter
from vcs.errors import Missing
from vcs.model import Entry
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.store import Store

_STATUS = b"""\
Package: libc6
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u4
Description: GNU C Library
 Package: not a field
 .
 Version: neither

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36-9+deb12u4

Package: half
Status: install ok half-configured
Architecture: all
Version: 1:1.0-1

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 3

Package: never
Status: unknown ok not-installed
Architecture: all
"""
_APK = (
    b"C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nT:the C library\nF:lib\nR:ld-musl.so.1\n\n"
    b"P:busybox\nV:1.36.1-r5\nA:x86_64\n\n"
)


class Nothing:
    """A store without anything."""

    def get(self, digest: bytes) -> bytes:
        raise AssertionError("nothing is in no store")


def snapshot(spec: Spec) -> Snapshot:
    sink = Scratch(Nothing(), keep=1 << 20)
    return Snapshot(sink, root(sink, spec))


def dpkg(status: bytes | Entry) -> Spec:
    return {"var": {"lib": {"dpkg": {"status": status}}}}


def test_dpkg() -> None:
    found = packages(snapshot(dpkg(_STATUS)))
    assert found == {
        Package("deb", "libc6", "2.36-9+deb12u4", "amd64"),
        Package("deb", "libc6", "2.36-9+deb12u4", "i386"),
        Package("deb", "half", "1:1.0-1", "all"),
    }


def test_a_root_without_dpkg_has_a_file_for_each_package() -> None:
    files = {
        "base": b"Package: base-files\nVersion: 12\nArchitecture: amd64\n",
        "base.md5sums": b"Package: no\nVersion: 1\n",
    }
    found = packages(snapshot({"var": {"lib": {"dpkg": {"status.d": files}}}}))
    assert found == {Package("deb", "base-files", "12", "amd64")}


def test_apk_also_where_lib_is_a_link() -> None:
    database: Spec = {"apk": {"db": {"installed": _APK}}}
    expected = {Package("apk", "musl", "1.2.4-r2", "x86_64"), Package("apk", "busybox", "1.36.1-r5", "x86_64")}
    assert packages(snapshot({"lib": database})) == expected
    assert packages(snapshot({"usr": {"lib": database}, "lib": link("usr/lib")})) == expected


def test_a_database_that_is_none() -> None:
    assert packages(snapshot(dpkg(b"\0\xff" * 100))) == frozenset()
    assert packages(snapshot({"var": {"lib": {"dpkg": {"status": {"a": b"directory"}}}}})) == frozenset()
    assert packages(snapshot({"var": {"lib": {"dpkg": link("dpkg")}}})) == frozenset()
    assert packages(snapshot({})) == frozenset()


def test_python_wherever_it_is() -> None:
    site: Spec = {
        "PyYAML-6.0.1.dist-info": {"METADATA": b""},
        "zope.interface-5.0-py3.11.egg-info": {"PKG-INFO": b""},
        "single_file-1.2-py3.11.egg-info": b"Name: single-file",
        "develop.egg-info": {"PKG-INFO": b"Version: 1"},
        "~ip-23.0.dist-info": {"METADATA": b""},
        "yaml": {"__init__.py": b""},
    }
    found = packages(
        snapshot({
            "usr": {"lib": {"python3": {"dist-packages": {"apt-2.6.dist-info": {}}}}},
            "opt": {"venv": {"lib": {"python3.11": {"site-packages": site}}}},
            "odd-1.dist-info": {},
        })
    )  # fmt: skip
    place = "/opt/venv/lib/python3.11/site-packages"
    assert found == {
        Package("pypi", "pyyaml", "6.0.1", place=place),
        Package("pypi", "zope-interface", "5.0", place=place),
        Package("pypi", "single-file", "1.2", place=place),
        Package("pypi", "odd", "1", place="/"),
    }


def test_changes() -> None:
    later = _STATUS.replace(b"2.36-9+deb12u4", b"2.36-9+deb12u3", 1).replace(b"1:1.0-1", b"1:1.0-2")
    later = later.replace(b"Architecture: i386", b"Architecture: arm64")
    old, new = snapshot(dpkg(_STATUS)), snapshot(dpkg(later))
    found = changes(old, new)
    assert [package.architecture for package in found.added] == ["arm64"]
    assert [package.architecture for package in found.removed] == ["i386"]
    assert [(change.new.name, change.new.version, change.is_downgrade) for change in found.changed] == [
        ("half", "1:1.0-2", False),
        ("libc6", "2.36-9+deb12u3", True),
    ]
    assert not changes(new, new)
    assert not PackageChanges()


class Watched(Scratch):
    """Knows what was read."""

    def __init__(self) -> None:
        super().__init__(Nothing(), keep=1 << 20)
        self.read: set[bytes] = set()

    def get(self, digest: bytes) -> bytes:
        self.read.add(digest)
        return super().get(digest)


def test_what_is_the_same_is_not_opened() -> None:
    """An upgrade by pip far away from everything else."""

    def spec(version: str) -> Spec:
        python = {"site-packages": {f"tool-{version}.dist-info": {"METADATA": b"1"}, "other-1.dist-info": {}}}
        return {
            "opt": {"a": {"python": python}, "b": {"c": {"d": {}}}},
            "usr": {"lib": {"e": {"f": b""}}},
            **dpkg(_STATUS),
        }

    sink = Watched()
    old, new = Snapshot(sink, root(sink, spec("1"))), Snapshot(sink, root(sink, spec("2")))
    sink.read.clear()
    found = changes(old, new)
    assert [(change.old.version, change.new.version) for change in found.changed] == [("1", "2")]
    assert not found.added + found.removed
    for path in (b"/opt/b", b"/usr/lib/e", b"/var/lib/dpkg/status"):
        entry = old.lookup(path)
        assert (entry.content.tree if entry.is_dir else entry.content.chunk) not in sink.read  # type: ignore[union-attr]


_names = st.sampled_from(["a-1.dist-info", "a-2.dist-info", "b-1.dist-info", "c-1-py3.egg-info", "lib", "x", "y"])
_specs = st.recursive(
    st.dictionaries(_names, st.just(b""), max_size=3),
    lambda below: st.dictionaries(_names, below | st.just(b""), max_size=4),
    max_leaves=12,
)


@given(_specs, _specs)
def test_changes_are_the_difference_of_all_packages(old: Spec, new: Spec) -> None:
    one, other = snapshot(old), snapshot(new)
    found = changes(one, other)
    before, after = packages(one), packages(other)
    assert {*found.added, *(change.new for change in found.changed)} == after - before
    assert {*found.removed, *(change.old for change in found.changed)} == before - after


def test_what_a_scratch_must_hold(tmp_path: Path) -> None:
    """The database of a container that is in no commit can be read if its chunks are asked for, and only then."""
    large = b"\n\n".join(b"Package: p%d\nVersion: %d\nDescription: %s\n" % (n, n, b"x" * 1000) for n in range(3000))
    with Store.create(tmp_path / "store") as store:
        files: Spec = dpkg(large)
        blind = Scratch(store)
        wanted = database_chunks(Snapshot(blind, root(blind, files)))
        assert len(wanted) == 1
        with pytest.raises(Missing):
            packages(Snapshot(blind, root(blind, files)))
        seeing = Scratch(store, wanted=wanted)
        assert len(packages(Snapshot(seeing, root(seeing, files)))) == 3000
        writer = BlobWriter(blind)
        writer.feed(large * 4)
        files = dpkg(file(writer.finish()))
        assert len(database_chunks(Snapshot(blind, root(blind, files)))) > 1


# -- the order of versions

_VERSIONS = (
    *("0~0", "0~", "0", "0.0", "0a", "1~~", "1~~a", "1~", "1~rc1-1", "1", "1-0", "1-1~bpo1", "1-1", "1-1+b1", "1-1.1"),
    *("1a", "1+", "1.0", "1.0.0", "1.00", "1.1", "1.02", "1.2", "1.10", "2", "09", "9", "10", "1:0", "1:0~", "0:5"),
    *("2:1.0-1-2", "1.0-1-2", "1.a", "7.6p2-4", "7.6-0", "1.0.4-2", "1.0.3-3", "1:1.18.36:5.4-20", "1.3.3dfsg.1-1"),
)


def _cases() -> Iterator[tuple[str, str]]:
    yield from pairwise(_VERSIONS)
    yield from ((one, other) for one in _VERSIONS[::3] for other in _VERSIONS)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg")
def test_versions_sort_as_dpkg_sorts_them() -> None:
    """One shell asks dpkg for all of them."""
    cases = sorted(set(_cases()))
    script = "".join(
        f"dpkg --compare-versions '{one}' lt '{other}' 2>/dev/null && echo y || echo n\n" for one, other in cases
    )
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=120).stdout.split()
    ours = ["y" if deb_order(one) < deb_order(other) else "n" for one, other in cases]
    assert [case for case, dpkgs, mine in zip(cases, said, ours, strict=True) if dpkgs != mine] == []
    assert {"y", "n"} == set(said)


@given(st.text("0123456789abc~.+-:", max_size=8), st.text("0123456789abc~.+-:", max_size=8))
def test_any_text_has_a_place(one: str, other: str) -> None:
    assert (deb_order(one) < deb_order(other)) + (deb_order(one) > deb_order(other)) + (
        deb_order(one) == deb_order(other)
    ) == 1
