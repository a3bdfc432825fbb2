"""config.json and who a container runs as: values in, values out. That the engines take it is shown in test_engine.

What options come to is in test_bundle_options, what an image says in test_imageconfig."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import bundle
from runtime.bundle import Host, LaunchSpec
from runtime.identity import Identity, resolve_user
from vcs.errors import EngineError

HOST = Host(
    etc=Path("/c/etc"),
    rootfs=Path("/c/rootfs"),
    seccomp={"defaultAction": "SCMP_ACT_ERRNO"},
    capabilities=bundle.DEFAULT_CAPABILITIES,
    open_files=(100, 200),
    terminal_size=(80, 24),
)
ROOT = Identity(0, 0, (0,), "/root")
PLACED = {target.path: target.path for target in bundle.mount_targets(LaunchSpec("i", "h"), "/", {})}


def make(image: dict[str, Any] | None = None, who: Identity = ROOT, **spec: Any) -> dict[str, Any]:
    spec = {"args": ("true",)} | spec
    return bundle.config(LaunchSpec("i", "h", **spec), image or {}, who, PLACED, HOST)


def test_the_whole_of_it() -> None:
    config = make()
    assert sorted(config) == ["hostname", "linux", "mounts", "ociVersion", "process", "root"]
    assert config["root"] == {"path": "/c/rootfs", "readonly": False}
    assert config["process"]["noNewPrivileges"] is False
    assert config["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    assert config["linux"]["cgroupsPath"] == "/treering-i"
    assert [item["type"] for item in config["linux"]["namespaces"]] == ["pid", "ipc", "uts", "mount", "cgroup"]
    assert [(item["destination"], item["type"]) for item in config["mounts"]] == [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/sys", "sysfs"),
        ("/sys/fs/cgroup", "cgroup"),
        ("/dev/mqueue", "mqueue"),
        ("/dev/shm", "tmpfs"),
        ("/etc/hostname", "bind"),
        ("/etc/hosts", "bind"),
        ("/etc/resolv.conf", "bind"),
    ]
    rules = config["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"} in rules
    assert json.loads(json.dumps(config)) == config


def test_mounts_go_where_their_targets_really_are() -> None:
    placed = {b"/proc": b"/proc", b"/etc/hosts": b"/run/hosts"}
    config = bundle.config(LaunchSpec("i", "h", ("x",)), {}, ROOT, placed, HOST)
    assert [item["destination"] for item in config["mounts"]] == ["/proc", "/run/hosts"]
    assert config["mounts"][1]["source"] == "/c/etc/hosts"


def test_networks() -> None:
    assert "sysctl" not in make(network="host")["linux"]
    alone = make(network="none")["linux"]
    assert {"type": "network"} in alone["namespaces"]
    assert alone["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"


def test_a_user_other_than_root_has_no_capabilities_but_can_get_them() -> None:
    capabilities = make(who=Identity(1, 2, (2, 3), "/"))["process"]["capabilities"]
    assert capabilities["effective"] == capabilities["permitted"] == []
    assert len(capabilities["bounding"]) == 14
    assert "inheritable" not in capabilities
    assert "ambient" not in capabilities
    assert make()["process"]["capabilities"]["effective"] == sorted(bundle.DEFAULT_CAPABILITIES)


def test_terminal() -> None:
    assert make(tty=True)["process"]["consoleSize"] == {"width": 80, "height": 24}
    assert make(tty=True)["process"]["terminal"] is True
    assert "consoleSize" not in make()["process"]


FILES = {
    b"/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n# c:x:9:9::/:\nbroken\nana:x:1000:1001:A:/home/ana:/bin/sh\n"
    b"nohome:x:7:7:::\nodd:x:-1:5::/:\n12:x:44:45::/twelve:\n\xff:x:8:8::/bytes:",
    b"/etc/group": b"root:x:0:\nana:x:1001:\nwheel:x:10:root,ana\nvideo:x:44:ana\nbad:x:y:ana\n",
}


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (0, 10), "/root")),
        ("root", Identity(0, 0, (0, 10), "/root")),
        ("ana", Identity(1000, 1001, (1001, 10, 44), "/home/ana")),
        ("1000", Identity(1000, 1001, (1001, 10, 44), "/home/ana")),
        ("ana:video", Identity(1000, 44, (44,), "/home/ana")),
        ("ana:77", Identity(1000, 77, (77,), "/home/ana")),
        (":video", Identity(0, 44, (44,), "/root")),
        ("5555", Identity(5555, 0, (0,), "/")),
        ("nohome", Identity(7, 7, (7,), "/")),
        ("12", Identity(44, 45, (45,), "/twelve")),
        ("\udcff", Identity(8, 8, (8,), "/bytes")),
    ],
)
def test_users(user: str, expected: Identity) -> None:
    assert resolve_user(user, FILES.get) == expected


@pytest.mark.parametrize("user", ["nobody", "ana:nogroup", "odd", "4294967295", "0:99999999999999999999999", "-1", "²"])
def test_users_that_are_not_there(user: str) -> None:
    with pytest.raises(EngineError):
        resolve_user(user, FILES.get)


def test_a_root_without_users() -> None:
    assert resolve_user("", lambda _: None) == Identity(0, 0, (0,), "/root")
    assert resolve_user("5:6", lambda _: None) == Identity(5, 6, (6,), "/")


@given(st.binary(), st.binary(), st.text(max_size=9))
def test_no_file_makes_it_fail_otherwise(passwd: bytes, group: bytes, user: str) -> None:
    try:
        who = resolve_user(user, {b"/etc/passwd": passwd, b"/etc/group": group}.get)
    except EngineError:
        return
    assert 0 <= who.uid < 1 << 31
    assert all(0 <= gid < 1 << 31 for gid in (who.gid, *who.groups))


def test_etc_files() -> None:
    files = bundle.etc_files("box", b"nameserver 192.0.2.1\n")
    assert sorted(files) == sorted(bundle.ETC_FILES)
    assert files["hostname"] == b"box\n"
    assert b"127.0.1.1\tbox\n" in files["hosts"]
    assert files["resolv.conf"] == b"nameserver 192.0.2.1\n"
