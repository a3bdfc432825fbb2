"""Changed files that belong to no package, or to one that is as before."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing

import pytest

from runtime.packages import Owner, changes
from runtime.packages.unexplained import unexplained
from tests.runtime.test_packages import snapshot
from tests.support.values import Spec, link
from vcs.snapshot import Snapshot


def found(old: Snapshot, new: Snapshot) -> dict[str, tuple[str, str, Owner | None]]:
    """Path -> letter, why, owner."""
    odd = unexplained(old, new, changes(old, new))
    assert odd.notes == ()
    return {odd.change.path.decode(): (odd.change.letter, odd.why, odd.owner) for odd in odd.changes}


def debian(tool: bytes, binary: bytes, etc: Spec, info: Spec | None = None, **top: Spec) -> Snapshot:
    """A merged /usr, in which the list of `base` has the names from before the merge."""
    lists: Spec = {
        "base:amd64.list": b"/.\n/bin\n/bin/sh\n/etc\n/etc/profile\n/lib\n/lib/python3/a.py\n",
        "base:amd64.postinst": b"#!/bin/sh",
        "tool.list": b"/usr/bin/tool\n/etc/tool.conf\n",
        **(info or {}),
    }
    status = b"Package: base\nVersion: 1\nArchitecture: amd64\n\nPackage: tool\nVersion: %s\nArchitecture: all\n" % tool
    return snapshot({
        "bin": link("usr/bin"),
        "lib": link("usr/lib"),
        "loop": link("loop"),
        "usr": {
            "bin": {"sh": binary, "tool": tool},
            "lib": {"python3": {"a.py": b"1", "__pycache__": {"a.cpython-311.pyc": binary}}},
        },
        "etc": etc,
        "var": {"lib": {"dpkg": {"status": status, "status-old": tool, "info": lists}}},
        **top,
    })  # fmt: skip


def test_debian() -> None:
    base = Owner("deb", "base")
    old = debian(b"1", b"shell", {"profile": b"1", "tool.conf": b"1", "gone": b"x"})
    new = debian(
        b"2",
        b"evil",
        {"tool.conf": b"2", "motd": b"hello"},
        {"base:amd64.postinst": b"#!/bin/evil", "tool.md5sums": b"x", "format": b"1"},
    )
    assert found(old, new) == {
        "/etc/gone": ("D", "unowned", None),
        "/etc/motd": ("A", "unowned", None),
        "/etc/profile": ("D", "modified", base),
        "/usr/bin/sh": ("M", "modified", base),
        "/usr/lib/python3/__pycache__/a.cpython-311.pyc": ("M", "modified", base),
        "/var/lib/dpkg/info/base:amd64.postinst": ("M", "modified", base),
    }
    assert found(new, new) == {}


def test_a_root_without_dpkg() -> None:
    def root(libc: bytes, motd: bytes) -> Snapshot:
        status: Spec = {
            "libc6": b"Package: libc6\nVersion: 1\nArchitecture: amd64\n",
            "libc6.md5sums": b"0123456789abcdef0123456789abcdef  lib/libc.so.6\n",
        }
        return snapshot({
            "lib": {"libc.so.6": libc},
            "motd": motd,
            "var": {"lib": {"dpkg": {"status.d": status}}},
        })  # fmt: skip

    assert found(root(b"1", b"1"), root(b"2", b"2")) == {
        "/lib/libc.so.6": ("M", "modified", Owner("deb", "libc6")),
        "/motd": ("M", "unowned", None),
    }


def test_apk() -> None:
    def root(version: bytes, content: bytes) -> Snapshot:
        database = (
            b"P:musl\nV:1\nF:lib\nR:ld-musl.so.1\nF:\nR:top\n\n"
            b"P:tool\nV:" + version + b"\nF:usr/bin\nM:0:0:1777\nR:tool\nZ:Q1x=\n\n"
        )
        return snapshot({
            "lib": {"ld-musl.so.1": content, "apk": {"db": {"installed": database, "triggers": version}}},
            "usr": {"bin": {"tool": content}},
            "top": content,
        })  # fmt: skip

    musl = Owner("apk", "musl")
    assert found(root(b"1", b"1"), root(b"2", b"2")) == {
        "/lib/ld-musl.so.1": ("M", "modified", musl),
        "/top": ("M", "modified", musl),
    }
    assert found(root(b"1", b"1"), root(b"1", b"2"))["/usr/bin/tool"] == ("M", "modified", Owner("apk", "tool"))


def rpm_header(name: str, version: str, files: list[str]) -> bytes:
    """A header with files in /usr/bin."""
    index, data = b"", b""
    strings = [(1000, 6, [name]), (1001, 6, [version]), (1117, 8, files), (1118, 8, ["/usr/bin/"])]
    for tag, kind, words in strings:
        index += struct.pack(">iIiI", tag, kind, len(data), len(words))
        data += b"".join(word.encode() + b"\0" for word in words)
    index += struct.pack(">iIiI", 1116, 4, len(data), len(files))
    data += struct.pack(f">{len(files)}I", *[0] * len(files))
    return struct.pack(">II", 5, len(data)) + index + data


def test_rpm() -> None:
    def root(version: str, content: bytes) -> Snapshot:
        with closing(sqlite3.connect(":memory:")) as base:
            base.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
            for blob in (rpm_header("bash", "5", ["bash", "sh"]), rpm_header("tool", version, ["tool"])):
                base.execute("INSERT INTO Packages (blob) VALUES (?)", (blob,))
            base.commit()
            database = base.serialize()
        return snapshot({
            "usr": {
                "bin": {"bash": b"same", "sh": content, "tool": content, "other": content},
                "lib": {"sysimage": {"rpm": {"rpmdb.sqlite": database}}},
            }
        })  # fmt: skip

    assert found(root("1", b"1"), root("2", b"2")) == {
        "/usr/bin/other": ("M", "unowned", None),
        "/usr/bin/sh": ("M", "modified", Owner("rpm", "bash")),
    }


def test_python() -> None:
    def root(version: bytes, content: bytes) -> Snapshot:
        tool = f"tool-{version.decode()}.dist-info"
        record = f"tool.py,,\n../../../bin/tool,,\n{tool}/RECORD,,\n".encode()
        site: Spec = {
            "kept.py": content,
            "tool.py": content,
            "odd,name.py": content,
            "__pycache__": {"tool.cpython-311.pyc": content},
            "kept-1.dist-info": {"RECORD": b'kept.py,sha256=x,4\n"odd,name.py",,\n\xff\n'},
            tool: {"RECORD": record},
        }
        return snapshot({"opt": {"bin": {"tool": content}, "lib": {"python3.11": {"site-packages": site}}}})

    place = "/opt/lib/python3.11/site-packages"
    kept = Owner("pypi", "kept", place)
    assert found(root(b"1", b"1"), root(b"2", b"2")) == {
        f"{place}/kept.py": ("M", "modified", kept),
        f"{place}/odd,name.py": ("M", "modified", kept),
    }


def test_npm_and_ruby() -> None:
    def root(version: str, content: bytes) -> Snapshot:
        def package(name: str, version: str) -> Spec:
            return {"package.json": f'{{"name":"{name}","version":"{version}"}}'.encode(), "index.js": content}

        gems: Spec = {
            "specifications": {"kept-1.gemspec": b"", f"tool-{version}.gemspec": b""},
            "gems": {"kept-1": {"lib": {"kept.rb": content}}, f"tool-{version}": {"tool.rb": content}},
            "cache": {"kept-1.gem": content},
            "extensions": {"x86": {"3.1.0": {"kept-1": {"gem.build_complete": content}}}},
        }
        return snapshot({
            "srv": {"node_modules": {"kept": package("kept", "1"), "tool": package("tool", version)}},
            "gems": gems,
        })  # fmt: skip

    odd = found(root("1", b"1"), root("2", b"2"))
    gem = Owner("gem", "kept", "/gems")
    assert odd == {
        "/gems/cache/kept-1.gem": ("M", "modified", gem),
        "/gems/extensions/x86/3.1.0/kept-1/gem.build_complete": ("M", "modified", gem),
        "/gems/gems/kept-1/lib/kept.rb": ("M", "modified", gem),
        "/srv/node_modules/kept/index.js": ("M", "modified", Owner("npm", "kept", "/srv/node_modules")),
    }


@pytest.mark.parametrize("record", [b"\0\0,\n", b'"' * 300_000, b"a" * 200_000 + b"\n", b"../../../../../x\n"])
def test_a_record_that_is_none(record: bytes) -> None:
    def root(content: bytes) -> Snapshot:
        return snapshot({"lib": {"a-1.dist-info": {"RECORD": record}, "a.py": content}})

    odd = unexplained(root(b"1"), root(b"2"), changes(root(b"1"), root(b"2")))
    assert [change.why for change in odd.changes] == ["unowned"]
