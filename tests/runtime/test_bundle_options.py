"""What options come to in config.json: mounts, capabilities, limits, devices, namespaces. Values in, values out."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import devices, seccomp, stubs
from runtime.bundle import DEFAULT_CAPABILITIES, Host, LaunchSpec, Source, config, etc_files, granted, mount_targets
from runtime.bundle.capabilities import CAPABILITIES, capability
from runtime.bundle.spec import Device
from runtime.identity import Identity
from runtime.idranges import SIZE, UNUSED, free_range
from runtime.settings import Limits, Mount, Security
from runtime.system.rootaccess import Root
from tests.support.oci_config import problems
from vcs.errors import BadInput, EngineError

ROOT = Identity(0, 0, (0,), "/root")
EVERYTHING = (1 << len(CAPABILITIES)) - 1
HEADER = Path("/usr/include/linux/capability.h")
GOLDEN = Path(__file__).parents[1] / "golden/bundle.json"


def make(placed: dict[bytes, bytes] | None = None, host: dict[str, Any] | None = None, **options: Any) -> Any:
    """A config, checked against the specification."""
    spec = LaunchSpec("i", "h", ("true",), **options)
    sources = {mount.target: Source(mount.source, True) for mount in spec.mounts if mount.kind == "bind"}
    values: dict[str, Any] = {
        "etc": Path("/c/etc"),
        "rootfs": Path("/c/rootfs"),
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
        "capabilities": granted(spec.security, EVERYTHING),
        "open_files": (100, 200),
        "sources": sources,
    }
    where = placed or {target.path: target.path for target in mount_targets(spec, "/", sources)}
    made = config(spec, {}, ROOT, where, Host(**{**values, **(host or {})}))
    assert problems(made) == []
    return made


def by_destination(made: Any) -> dict[str, Any]:
    return {mount["destination"]: mount for mount in made["mounts"]}


class TestTheCheckItself:
    """It must see what is wrong."""

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("process", "args"), []),
            (("process", "cwd"), "relative"),
            (("process", "user", "uid"), -1),
            (("process", "noNewPriviledges"), True),
            (("process", "env"), ["A"]),
            (("linux", "resources", "pids"), {}),
            (("linux", "namespaces"), [{"type": "net"}]),
            (("linux", "resources", "memory"), {"limit": "64m"}),
            (("linux", "resources", "memory"), {"limit": True}),
            (("mounts",), [{"type": "bind"}]),
            (("root",), {}),
        ],
    )
    def test_it_sees(self, path: tuple[str, ...], value: Any) -> None:
        made = make()
        *parents, last = path
        place = made
        for name in parents:
            place = place[name]
        place[last] = value
        assert len(problems(made)) == 1


class TestTheWhole:
    def test_with_every_option_it_is_as_it_was(self) -> None:
        """If this fails and shall: write the new text into the golden file."""
        options: dict[str, Any] = {
            "tty": True,
            "read_only": True,
            "mounts": (
                Mount("bind", "/data/deep", "/srv/deep", options=("rshared",)),
                Mount("bind", "/data", "/srv", read_only=True),
                Mount("tmpfs", "/run", options=("size=64m", "exec")),
            ),
            "limits": Limits(64 << 20, 1.5, 100),
            "security": Security(cap_add=("CAP_NET_ADMIN",), cap_drop=("CAP_MKNOD",), no_new_privileges=True),
            "network": "none",
            "ids": 0x70000000,
        }
        made = make(host={"terminal_size": (80, 24)}, **options)
        assert json.dumps(made, indent=1) + "\n" == GOLDEN.read_text()

    def test_the_distributions_filter_is_valid_too(self) -> None:
        made = seccomp.to_oci(seccomp.load_profile(), granted(Security(), EVERYTHING))
        assert make(host={"seccomp": made})["linux"]["seccomp"] == made
        assert "seccomp" not in make(host={"seccomp": None})["linux"]


class TestMounts:
    def test_shorter_paths_come_first_and_the_kernels_before_all(self) -> None:
        mounts = (Mount("bind", "/b/c", "/2"), Mount("tmpfs", "/b"), Mount("bind", "/a", "/1"))
        asked = [mount["destination"] for mount in make(mounts=mounts)["mounts"]][7:]
        assert asked == ["/a", "/b", "/b/c", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"]

    def test_a_bind_is_private_and_deep_unless_it_says_otherwise(self) -> None:
        found = by_destination(
            make(
                mounts=(
                    Mount("bind", "/a", "/1"),
                    Mount("bind", "/b", "/1", read_only=True),
                    Mount("bind", "/c", "/1", options=("rslave", "noexec")),
                )
            )
        )
        assert found["/a"]["options"] == ["rbind", "rprivate"]
        assert found["/b"]["options"] == ["rbind", "rprivate", "rro"]
        assert found["/c"]["options"] == ["rbind", "rslave", "noexec"]
        old = make(mounts=(Mount("bind", "/b", "/1", read_only=True),), host={"deep_read_only": False})
        assert by_destination(old)["/b"]["options"] == ["rbind", "rprivate", "ro"]

    def test_a_tmpfs_has_dockers_options_where_it_has_none(self) -> None:
        mounts = (Mount("tmpfs", "/a"), Mount("tmpfs", "/b", read_only=True, options=("mode=755", "exec")))
        found = by_destination(make(mounts=mounts))
        assert found["/a"]["options"] == ["nosuid", "noexec", "nodev", "mode=1777"]
        assert found["/b"]["options"] == ["nosuid", "nodev", "mode=755", "exec", "ro"]

    def test_what_is_asked_for_is_there_instead_of_ours(self) -> None:
        mounts = (Mount("bind", "/dev/shm", "/1"), Mount("bind", "/etc/hosts", "/2"))
        placed = {target.path: target.path for target in mount_targets(LaunchSpec("i", "h"), "/", {})}
        del placed[b"/etc/hosts"]  # as stubs.place leaves it out
        placed |= {b"/dev/shm": b"/dev/shm"}
        made = make({**placed, b"/etc/hosts": b"/etc/hosts"}, mounts=mounts)
        assert [mount["destination"] for mount in made["mounts"]].count("/dev/shm") == 1
        assert by_destination(made)["/dev/shm"]["source"] == "/1"


class TestPlaces:
    """stubs.place: where mounts go in a real root."""

    def place(self, top: Path, *mounts: Mount, cwd: str = "/") -> tuple[dict[bytes, bytes], list[bytes]]:
        fd = os.open(top, os.O_PATH)
        try:
            spec = LaunchSpec("i", "h", mounts=mounts)
            sources = {mount.target: Source(mount.source, not mount.source.endswith("file")) for mount in mounts}
            placed, missing = stubs.place(Root(fd), mount_targets(spec, cwd, sources))
            return placed, [stub.path for stub in missing if not stub.path.startswith((b"/etc", b"/dev"))]
        finally:
            os.close(fd)

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for name in ("proc", "sys", "dev", "etc", "srv"):
            (tmp_path / name).mkdir()
        (tmp_path / "link").symlink_to("/srv")
        (tmp_path / "toproc").symlink_to("/proc")
        (tmp_path / "todev").symlink_to("../dev")
        (tmp_path / "file").touch()
        return tmp_path

    def test_what_is_missing_becomes_a_stub(self, root: Path) -> None:
        placed, missing = self.place(root, Mount("bind", "/a/b", "/1"), Mount("bind", "/srv/f", "/a-file"))
        assert missing == [b"/a", b"/a/b", b"/srv/f"]
        assert placed[b"/a/b"] == b"/a/b"

    def test_links_are_followed_inside(self, root: Path) -> None:
        placed, missing = self.place(root, Mount("bind", "/link/x", "/1"))
        assert (placed[b"/link/x"], missing) == (b"/srv/x", [b"/srv/x"])

    def test_what_is_below_another_mount_is_not_made(self, root: Path) -> None:
        placed, missing = self.place(root, Mount("bind", "/srv", "/1"), Mount("bind", "/link/x/y", "/2"), cwd="/srv/w")
        assert (placed[b"/link/x/y"], missing) == (b"/srv/x/y", [])

    def test_ours_in_etc_give_way(self, root: Path) -> None:
        assert b"/etc/hosts" not in self.place(root, Mount("bind", "/etc", "/1"))[0]
        placed, _ = self.place(root, Mount("bind", "/etc/hosts", "/a-file"))
        assert placed[b"/etc/hosts"] == b"/etc/hosts"
        assert placed[b"/etc/hostname"] == b"/etc/hostname"

    @pytest.mark.parametrize("target", ["/proc", "/proc/sys", "/sys", "/sys/fs", "/dev", "/", "/toproc", "/toproc/x"])
    def test_the_containers_own_places_are_refused(self, root: Path, target: str) -> None:
        with pytest.raises(EngineError, match="nothing can be mounted at"):
            self.place(root, Mount("bind", target, "/1"))

    def test_below_dev_the_engine_makes_them(self, root: Path) -> None:
        placed, missing = self.place(root, Mount("bind", "/dev/x", "/1"), Mount("bind", "/todev/y", "/1"))
        assert (placed[b"/dev/x"], placed[b"/todev/y"], missing) == (b"/dev/x", b"/dev/y", [])

    def test_two_at_one_place(self, root: Path) -> None:
        with pytest.raises(EngineError, match="two mounts are asked for at /srv"):
            self.place(root, Mount("bind", "/srv", "/1"), Mount("bind", "/link", "/2"))

    def test_a_directory_over_a_file(self, root: Path) -> None:
        with pytest.raises(EngineError, match="must be a directory"):
            self.place(root, Mount("bind", "/file", "/1"))


class TestCapabilities:
    def test_the_list_is_linuxs(self) -> None:
        lines = HEADER.read_text().splitlines()
        found = {}
        for words in map(str.split, lines):
            if words[:1] == ["#define"] and len(words) == 3 and words[1].startswith("CAP_") and words[2].isdecimal():
                found[words[1]] = int(words[2])
        assert {name: CAPABILITIES.index(name) for name in found} == found
        assert len(found) >= 38

    @pytest.mark.parametrize(
        ("security", "more", "fewer"),
        [
            (Security(), (), ()),
            (Security(cap_add=("CAP_NET_ADMIN",)), ("CAP_NET_ADMIN",), ()),
            (Security(cap_drop=("CAP_MKNOD", "CAP_SYS_ADMIN")), (), ("CAP_MKNOD",)),
            (Security(cap_drop=("ALL",)), (), DEFAULT_CAPABILITIES),
            (Security(cap_drop=("ALL",), cap_add=("CAP_BPF",)), ("CAP_BPF",), DEFAULT_CAPABILITIES),
            (Security(cap_add=("ALL",), cap_drop=("CAP_BPF",)), set(CAPABILITIES) - {"CAP_BPF"}, ("CAP_BPF",)),
            (Security(privileged=True, cap_drop=("ALL",)), CAPABILITIES, ()),
        ],
    )  # fmt: skip
    def test_more_and_fewer(self, security: Security, more: Any, fewer: Any) -> None:
        assert granted(security, EVERYTHING) == sorted((set(DEFAULT_CAPABILITIES) - set(fewer)) | set(more))

    def test_only_what_we_have_can_be_granted(self) -> None:
        assert granted(Security(), 1 << 27 | 1) == ["CAP_CHOWN", "CAP_MKNOD"]
        assert granted(Security(cap_add=("ALL",)), 1 << 27 | 1) == ["CAP_CHOWN", "CAP_MKNOD"]
        with pytest.raises(EngineError, match="CAP_SYS_ADMIN cannot be given"):
            granted(Security(cap_add=("CAP_SYS_ADMIN",)), 1 << 27 | 1)

    def test_names(self) -> None:
        assert [capability(text) for text in ("net_admin", "CAP_NET_ADMIN", "Cap_Net_Admin", "all")] == [
            *["CAP_NET_ADMIN"] * 3, "ALL",
        ]  # fmt: skip
        with pytest.raises(BadInput, match="'NET' is no capability"):
            capability("NET")

    def test_without_new_privileges(self) -> None:
        assert make(security=Security(no_new_privileges=True))["process"]["noNewPrivileges"] is True


class TestLimits:
    def test_they_are_in_the_units_of_cgroups(self) -> None:
        found = make(limits=Limits(64 << 20, 0.01, 7))["linux"]["resources"]
        assert found["memory"] == {"limit": 64 << 20}
        assert found["cpu"] == {"quota": 1000, "period": 100_000}
        assert found["pids"] == {"limit": 7}

    def test_an_ordinary_user_is_told(self) -> None:
        with pytest.raises(EngineError, match="need cgroups"):
            make(limits=Limits(pids=5), host={"last_ids": (65536, 65536)})


class TestPrivileged:
    DISK = Device("/dev/sda", "b", 8, 0, 0o660, 0, 6)

    def test_nothing_is_kept_from_it(self) -> None:
        made = make(security=Security(privileged=True), host={"seccomp": None, "devices": [self.DISK]})
        linux = made["linux"]
        assert not {"maskedPaths", "readonlyPaths", "seccomp"} & linux.keys()
        assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
        assert linux["devices"] == [
            {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0, "fileMode": 0o660, "uid": 0, "gid": 6}
        ]
        assert not [mount for mount in made["mounts"] if "ro" in mount["options"]]
        assert made["process"]["capabilities"]["effective"] == sorted(CAPABILITIES)

    def test_the_machines_sys_stays_read_only_for_an_ordinary_user(self) -> None:
        made = make(security=Security(privileged=True), host={"seccomp": None, "last_ids": (9, 9)})
        assert "ro" in by_destination(made)["/sys"]["options"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
    def test_devices_are_found(self, tmp_path: Path) -> None:
        (tmp_path / "net").mkdir()
        os.mknod(tmp_path / "net/tun", stat.S_IFCHR | 0o666, os.makedev(10, 200))
        os.mknod(tmp_path / "sda", stat.S_IFBLK | 0o640, os.makedev(8, 0))
        os.mknod(tmp_path / "console", stat.S_IFCHR | 0o600, os.makedev(5, 1))
        (tmp_path / "stdin").symlink_to("sda")
        (tmp_path / "disk").symlink_to("sda")
        (tmp_path / "log").touch()
        found = [(Path(one.path).relative_to(tmp_path).as_posix(), *one[1:4]) for one in devices.devices(tmp_path)]
        assert found == [("net/tun", "c", 10, 200), ("sda", "b", 8, 0)]


class TestNetworks:
    def test_one_that_was_made_is_joined(self) -> None:
        linux = make(network="web", host={"network_namespace": "/proc/7/fd/9"})["linux"]
        assert {"type": "network", "path": "/proc/7/fd/9"} in linux["namespaces"]
        assert linux["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"

    def test_one_that_nobody_made(self) -> None:
        with pytest.raises(EngineError, match="not connected to the network 'web'"):
            make(network="web")

    def test_etc_files(self) -> None:
        hosts = etc_files("box", b"", ("10.0.0.7\tdb", "10.0.0.2\tbox\n"))["hosts"].decode().splitlines()
        assert hosts[:2] == ["10.0.0.7\tdb", "10.0.0.2\tbox"], "the first line that has a name counts"
        assert "127.0.1.1\tbox" in hosts


class TestIdsOfItsOwn:
    def test_the_map(self) -> None:
        linux = make(ids=0x70010000)["linux"]
        assert {"type": "user"} in linux["namespaces"]
        assert linux["uidMappings"] == [{"containerID": 0, "hostID": 0x70010000, "size": SIZE}]
        assert linux["gidMappings"] == linux["uidMappings"]

    def test_the_machines_sys_is_bound_unless_the_network_is_its_own(self) -> None:
        assert by_destination(make(ids=SIZE))["/sys"]["type"] == "bind"
        assert by_destination(make(ids=SIZE, network="none"))["/sys"]["type"] == "sysfs"
        assert make(ids=SIZE, network="none")["linux"]["sysctl"]["net.ipv4.ping_group_range"] == "0 65535"
        joined = make(ids=SIZE, network="web", host={"network_namespace": "/n"})
        assert by_destination(joined)["/sys"]["type"] == "bind"
        assert "sysctl" not in joined["linux"], "it is not the container's to set"

    def test_users_beyond(self) -> None:
        with pytest.raises(EngineError, match="user 70000 of group 0 cannot be had"):
            config(LaunchSpec("i", "h", ("x",), ids=SIZE), {}, Identity(70000, 0, (), "/"), {}, Host(
                Path("/e"), Path("/r"), None, (), (1, 1)
            ))  # fmt: skip


class TestRanges:
    def test_nobody_elses(self) -> None:
        first = free_range([], "", "")
        assert first == UNUSED.first
        assert free_range([first], "", "") == first + SIZE
        assert free_range([first + 1], "", "") == first + 2 * SIZE, "one that reaches into it"

    def test_what_root_has_of_its_own_comes_first(self) -> None:
        text = f"ana:100000:65536\nroot:500000:{2 * SIZE}\n"
        assert free_range([], text, text) == 500000
        assert free_range([500000], text, text) == 500000 + SIZE
        with pytest.raises(EngineError, match="all 2 ranges"):
            free_range([500000, 500000 + SIZE], text, text)
        assert free_range([], text, "root:600000:70000\n") == UNUSED.first, "not in both"
        assert free_range([], "root:1:100\n", "root:1:100\n") == UNUSED.first, "too few"

    @given(st.integers(0, 1 << 62), st.sets(st.integers(0, 4093)))
    def test_wherever_one_begins(self, start: int, taken: set[int]) -> None:
        used = [UNUSED.first + SIZE * number for number in taken]
        found = free_range(used, "", "", start)
        assert found not in used
        assert UNUSED.first <= found <= UNUSED.first + UNUSED.size - SIZE
        assert (found - UNUSED.first) % SIZE == 0
