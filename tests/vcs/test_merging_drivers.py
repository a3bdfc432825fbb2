"""Files that are more than text: users, packages, logs, caches. Those of dpkg are made, and judged, by dpkg itself."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.values import root
from vcs.merging import Favour, Merge, merge_roots
from vcs.merging.drivers import cache_command, driver_for
from vcs.merging.values import Merged, Texts
from vcs.model import Data
from vcs.snapshot import Snapshot
from vcs.store import Store
from vcs.testing import MemoryStore


def merge(path: str, base: bytes | None, ours: bytes, theirs: bytes, favour: Favour = None) -> Merged:
    driver = driver_for(path.encode())
    assert driver is not None, path
    result = driver(Texts(base, ours, theirs, favour))
    assert result is not None, path
    return result


# -- users and groups

ROOT = b"root:x:0:0:root:/root:/bin/sh\n"
NOBODY = b"nobody:x:65534:65534::/:/bin/false\n"
REDIS = b"redis:x:101:101::/:/bin/false\n"
PG = b"postgres:x:102:102::/:/bin/bash\n"


def test_users_that_each_side_made() -> None:
    result = merge("/etc/passwd", ROOT + NOBODY, ROOT + NOBODY + REDIS, ROOT + PG + NOBODY)
    assert result == Merged(ROOT + PG + NOBODY + REDIS)


def test_a_user_that_both_changed_is_merged_by_field() -> None:
    ours, theirs = ROOT.replace(b"/bin/sh", b"/bin/bash"), ROOT.replace(b"root:/root", b"admin:/root")
    assert merge("/etc/passwd", ROOT, ours, theirs) == Merged(b"root:x:0:0:admin:/root:/bin/bash\n")
    result = merge("/etc/passwd", ROOT, ours, ROOT.replace(b"/bin/sh", b"/bin/zsh"), "theirs")
    assert result == Merged(b"root:x:0:0:root:/root:/bin/zsh\n", ("root",))


def test_a_user_that_one_side_removed() -> None:
    assert merge("/etc/passwd", ROOT + PG, ROOT, ROOT + PG + REDIS) == Merged(ROOT + REDIS)


@pytest.mark.parametrize(("favour", "expected"), [(None, REDIS), ("ours", REDIS), ("theirs", PG)])
def test_one_number_for_two_users_is_a_conflict(favour: Favour, expected: bytes) -> None:
    theirs = PG.replace(b"102", b"101")
    result = merge("/etc/passwd", ROOT, ROOT + REDIS, ROOT + theirs, favour)
    assert result.clashes == ("postgres and redis have the same number",)
    assert result.data == ROOT + expected.replace(b"102", b"101")


def test_users_that_shared_a_number_before_may() -> None:
    toor = ROOT.replace(b"root:x", b"toor:x")
    assert merge("/etc/passwd", ROOT, ROOT + toor, ROOT + PG) == Merged(ROOT + toor + PG)


def test_members_of_a_group_are_a_set() -> None:
    result = merge("/etc/group", b"adm:x:4:a,b\n", b"adm:x:4:a,b,ours\n", b"adm:x:4:b,theirs\n")
    assert result == Merged(b"adm:x:4:b,ours,theirs\n")
    assert merge("/etc/gshadow", b"adm:*::\n", b"adm:*:boss:\n", b"adm:*::x\n") == Merged(b"adm:*:boss:x\n")
    assert merge("/etc/group", b"", b"a:x:101:\n", b"b:x:101:\n").clashes == ("a and b have the same number",)


def test_passwords() -> None:
    base = b"root:*:19000:0:99999:7:::\n"
    result = merge("/etc/shadow", base, base + b"redis:!:1::::::\n", base.replace(b"*", b"$y$x"))
    assert result == Merged(b"root:$y$x:19000:0:99999:7:::\nredis:!:1::::::\n")
    assert merge("/etc/shadow", base, base.replace(b"*", b"a"), base.replace(b"*", b"b")).clashes == ("root",)


def test_ranges_of_ids_must_not_overlap() -> None:
    ours, theirs = b"ada:100000:65536\n", b"bob:165536:65536\n"
    assert merge("/etc/subuid", b"", ours, theirs).clashes == ()
    theirs = b"bob:165535:65536\n"
    assert merge("/etc/subgid", b"", ours, theirs).clashes == ("ada and bob have the same number",)


# -- packages


def stanza(name: str, version: str) -> bytes:
    return f"Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n\n".encode()


def test_packages_are_merged_one_by_one() -> None:
    path = "/var/lib/dpkg/status"
    base = stanza("a", "1") + stanza("b", "1") + stanza("z", "1")
    ours = stanza("a", "2") + stanza("b", "1") + stanza("o", "1") + stanza("z", "1")
    theirs = stanza("a", "1") + stanza("t", "1") + stanza("z", "1")
    expected = stanza("a", "2") + stanza("o", "1") + stanza("t", "1") + stanza("z", "1")
    assert merge(path, base, ours, theirs) == Merged(expected)
    result = merge(path, base, base.replace(b"1", b"2", 1), base.replace(b"1", b"3", 1))
    assert result.clashes == ("a:all",)


def test_a_package_of_two_architectures_is_two() -> None:
    base = stanza("libc6", "1").replace(b"all", b"amd64")
    result = merge("/var/lib/dpkg/status", base, base + stanza("libc6", "1").replace(b"all", b"i386"), b"")
    assert result.data == stanza("libc6", "1").replace(b"all", b"i386")


@pytest.mark.parametrize("path", ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"])
def test_apk(path: str) -> None:
    base = b"C:Q1\nP:musl\nV:1\n\n"
    result = merge(path, base, base + b"C:Q2\nP:curl\nV:1\n\n", base + b"C:Q3\nP:git\nV:1\n\n")
    assert result == Merged(base + b"C:Q2\nP:curl\nV:1\n\nC:Q3\nP:git\nV:1\n\n")
    assert merge("/etc/apk/world", b"base\n", b"base\ncurl\n", b"base\ngit\n").data == b"base\ncurl\ngit\n"


def test_apks_scripts() -> None:
    def archive(**members: bytes) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as out:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
        return stream.getvalue()

    long = "l" * 150
    base = archive(a=b"1", **{long: b"x" * 600})
    path = "/lib/apk/db/scripts.tar"
    result = merge(
        path, base, archive(a=b"1", o=b"2", **{long: b"x" * 600}), archive(a=b"2", t=b"", **{long: b"x" * 600})
    )
    with tarfile.open(fileobj=io.BytesIO(result.data)) as found:
        contents = {member.name: found.extractfile(member).read() for member in found}  # type: ignore[union-attr]
    assert contents == {"a": b"2", "o": b"2", long: b"x" * 600, "t": b""}
    assert not result.clashes


def test_lists_without_an_order() -> None:
    path = "/var/lib/dpkg/triggers/File"
    result = merge(path, b"/a x\n/b x\n", b"/a x\n/b x\n/c o\n", b"/b x\n/c t\n")
    assert result == Merged(b"/b x\n/c o\n/c t\n")


def test_a_record_of_installed_files() -> None:
    path = "/usr/lib/python3/site-packages/x-1.dist-info/RECORD"
    base = b"x/a.py,sha256=1,1\nx/b.py,sha256=1,1\n"
    result = merge(path, base, base + b"x/o.pyc,,\n", base.replace(b"x/b.py,sha256=1", b"x/b.py,sha256=2"))
    assert result == Merged(b"x/a.py,sha256=1,1\nx/b.py,sha256=2,1\nx/o.pyc,,\n")


def test_settings_of_packages() -> None:
    base = b"Name: a/b\nValue: 1\n\n"
    result = merge("/var/cache/debconf/config.dat", base, base + b"Name: o\nValue: 1\n\n", base.replace(b"1", b"2"))
    assert result == Merged(b"Name: a/b\nValue: 2\n\nName: o\nValue: 1\n\n")


def test_a_packages_files_are_of_one_version() -> None:
    driver = driver_for(b"/var/lib/dpkg/info/a.list")
    assert driver is not None
    texts = Texts(b"/a\n/b\n/c\n", b"/a\n/b\n/c\n/d\n", b"/b\n/c\n", None)
    assert driver(texts) is None, "though the lines would merge"


# -- logs and caches


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        (b"1\n", b"1\n2\n", b"1\n3\n", b"1\n2\n3\n"),
        (b"1\n", b"1\n2", b"1\n3\n", b"1\n2\n3\n"),
        (b"1\n1\n", b"1\n1\n1\n", b"1\n1\n1\n", b"1\n1\n1\n1\n"),
        (b"1\n2\n", b"3\n", b"1\n2\n4\n", b"3\n4\n"),
        (None, b"1\n2\n", b"1\n3\n", b"1\n2\n3\n"),
        (b"\0a", b"\0ab", b"\0ac", b"\0abc"),
    ],
)
def test_logs_keep_what_either_side_wrote(base: bytes | None, ours: bytes, theirs: bytes, expected: bytes) -> None:
    assert merge("/var/log/apt/history.log", base, ours, theirs) == Merged(expected)


def merge_all(base: dict[str, bytes], ours: dict[str, bytes], theirs: dict[str, bytes]) -> tuple[Merge, Snapshot]:
    store = MemoryStore()
    snapshots = []
    for files in (base, ours, theirs):
        spec: dict[str, object] = {}
        for path, data in files.items():
            here = spec
            *above, name = path.split("/")
            for part in above:
                here = here.setdefault(part, {})  # type: ignore[assignment]
            here[name] = data
        snapshots.append(Snapshot(store, root(store, spec)))
    found = merge_roots(snapshots[0], snapshots[1], snapshots[2])
    return found, Snapshot(store, found.write(store))


def test_caches_are_ours_and_told() -> None:
    paths = ["etc/ld.so.cache", "var/cache/man/index.db", "var/cache/apt/pkgcache.bin", "var/lib/dpkg/status-old",
             "srv/__pycache__/a.cpython-311.pyc"]  # fmt: skip
    base, ours, theirs = (dict.fromkeys(paths, side) for side in (b"\0001", b"\0002", b"\0003"))
    found, result = merge_all(base, ours, theirs)
    assert not found.conflicts
    assert result.id == found.ours.id
    assert [(stale.path, stale.command) for stale in found.stale] == [
        (b"/etc/ld.so.cache", "ldconfig"),
        (b"/srv/__pycache__/a.cpython-311.pyc", ""),
        (b"/var/cache/apt/pkgcache.bin", "apt-cache gencaches"),
        (b"/var/cache/man/index.db", "mandb --create"),
        (b"/var/lib/dpkg/status-old", ""),
    ]


def test_a_cache_that_one_side_emptied_is_no_conflict() -> None:
    cache = "var/cache/apt/pkgcache.bin"
    found, result = merge_all({cache: b"1"}, {cache: b"2"}, {"var/cache/apt/x": b""})
    assert not found.conflicts
    assert [stale.path for stale in found.stale] == [b"/var/cache/apt/pkgcache.bin"]
    assert result.find(b"/var/cache/apt/pkgcache.bin")


def test_a_cache_that_only_one_side_changed_is_taken() -> None:
    found, result = merge_all({"etc/ld.so.cache": b"1"}, {"etc/ld.so.cache": b"1", "x": b""}, {"etc/ld.so.cache": b"2"})
    assert not found.stale
    entry = result.lookup(b"/etc/ld.so.cache")
    assert isinstance(entry.content, Data)
    assert result.read(entry.content) == b"2"


def test_which_path_is_what() -> None:
    assert driver_for(b"/srv/etc/passwd") is None
    assert driver_for(b"/etc/passwd.d") is None
    assert driver_for(b"/home/var/log/x") is None
    assert cache_command(b"/var/lib/apt/lists/deb.debian.org_dists") == "apt-get update"
    assert cache_command(b"/etc/ld.so.conf") is None
    lastlog = driver_for(b"/var/log/lastlog")
    assert lastlog is not None
    assert lastlog(Texts(b"", b"1", b"2", None)) is None


# -- dpkg


class Debian:
    """Roots in which dpkg itself installs small packages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def package(self, name: str, version: str = "1") -> Path:
        tree = self.directory / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "usr/share" / name).mkdir(parents=True)
        (tree / "usr/share" / name / "data").write_text(f"{name} {version}\n")
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
            "Description: a test\n"
        )
        file = tree.with_suffix(f".{version}.deb")
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", tree, file], check=True, capture_output=True, timeout=60
        )
        return file

    def root(self, name: str) -> Path:
        top = self.directory / name
        for path in ("info", "updates", "triggers"):
            (top / "var/lib/dpkg" / path).mkdir(parents=True)
        (top / "var/lib/dpkg/status").touch()
        (top / "var/log").mkdir()
        return top

    def dpkg(self, top: Path, *arguments: str | Path) -> str:
        options = [f"--root={top}", f"--log={top}/var/log/dpkg.log", "--force-not-root", "--force-script-chrootless"]
        done = subprocess.run(
            ["dpkg", *options, *arguments], check=True, capture_output=True, text=True, timeout=60,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )  # fmt: skip
        return done.stdout


def test_dpkg_finds_both_sides_packages_in_what_was_merged(tmp_path: Path) -> None:
    from vcs.exporter import export_directory
    from vcs.importer import import_directory

    debian = Debian(tmp_path)
    top = debian.root("root")
    with Store.create(tmp_path / "store") as store:

        def snapshot() -> Snapshot:
            with store.batch() as batch:
                result = import_directory(batch, top)
            return store.snapshot(result.root)

        debian.dpkg(top, "--install", debian.package("common"), debian.package("upgraded"))
        base = snapshot()
        debian.dpkg(top, "--install", debian.package("first"), debian.package("upgraded", "2"))
        ours = snapshot()
        debian.dpkg(top, "--purge", "first")
        debian.dpkg(top, "--force-downgrade", "--install", tmp_path / "upgraded-1.1.deb", debian.package("second"))
        debian.dpkg(top, "--purge", "common")
        theirs = snapshot()
        found = merge_roots(base, ours, theirs)
        assert not found.conflicts
        with store.batch() as batch:
            merged = found.write(batch)
        export_directory(store.snapshot(merged), b"/", tmp_path / "merged")
    result = tmp_path / "merged"
    assert debian.dpkg(result, "--audit") == ""
    assert debian.dpkg(result, "--verify") == ""
    listed = [line.split()[:3] for line in debian.dpkg(result, "--list").splitlines() if line.startswith("ii")]
    assert listed == [["ii", "first", "1"], ["ii", "second", "1"], ["ii", "upgraded", "2"]]
    log = (result / "var/log/dpkg.log").read_text()
    assert "install first:all" in log
    assert "install second:all" in log
