"""Options of run and create, in real containers on both engines."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import find_engine
from tests.cli.conftest import PROJECT, Cli, remove_containers, stop_service
from tests.support.busybox_root import BUSYBOX, make_busybox_root
from tests.support.oci_config import problems

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ENGINES = ("crun", "runc")
NET_RAW = 1 << 13
V2_EFFECTIVE = 0x02000001
ACL_USER = 0x02


def capability_bytes(mask: int) -> bytes:
    """A file capability as setcap writes it (struct vfs_cap_data, version 2)."""
    return struct.pack("<5I", V2_EFFECTIVE, mask, 0, 0, 0)


def acl_bytes(uid: int) -> bytes:
    """An access list that gives a user the right to read."""
    entries = ((0x01, 6, -1), (ACL_USER, 4, uid), (0x04, 4, -1), (0x10, 4, -1), (0x20, 0, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a root that has owners, an access list and a file with a capability."""
    directory = tmp_path_factory.mktemp("options")
    root = make_busybox_root(directory / "root")
    (root / "capable").mkdir()
    shutil.copy2(BUSYBOX, root / "capable/cat")
    os.setxattr(root / "capable/cat", "security.capability", capability_bytes(NET_RAW))
    (root / "etc/shared").write_text("shared\n")
    os.setxattr(root / "etc/shared", "system.posix_acl_access", acl_bytes(1000))
    (root / "etc/far").touch()
    os.chown(root / "etc/far", 100_000, 100_000)
    cli = Cli(directory / "store")
    cli("init")
    cli("import", str(root), "-m", "base")
    stop_service(cli.store)
    return cli.store


@pytest.fixture
def box(imported: Path, tmp_path: Path) -> Iterator[Cli]:
    store = tmp_path / "store"
    shutil.copytree(imported, store, symlinks=True)
    cli = Cli(store)
    try:
        yield cli
    finally:
        remove_containers(cli)


def run(box: Cli, *arguments: str, code: int = 0, **settings: Any) -> str:
    """What a container prints."""
    done = box.process("run", *arguments, **settings)
    assert done.returncode == code, done.stderr.decode()
    output: str = done.stdout.decode()
    return output


def fields(text: str) -> dict[str, str]:
    """`Name: value` lines, as of /proc/PID/status."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def record(box: Cli, name: str) -> tuple[Path, dict[str, Any]]:
    """A container's directory and record."""
    for path in (box.store / "containers").glob("*/record.json"):
        found: dict[str, Any] = json.loads(path.read_text())
        if found["name"] == name:
            return path.parent, found
    raise AssertionError(f"no container {name}")


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_at_once(box: Cli, tmp_path: Path, engine: str) -> None:
    """All options that go together; the bundle is valid, and the engine does what it says."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("from outside\n")
    script = """
        cat /data/file /single; touch /data/no 2>/dev/null || echo refused
        touch /data/scratch/yes && echo made; touch /fresh/here
        while read -r _ place type options _; do
            case $place in /data|/single|/fresh|/data/scratch|/run/fast) echo mount $place $type $options;; esac
        done < /proc/mounts
        grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status
        echo $A $B; pwd; hostname; cat /etc/hosts | head -n 1; touch /root/x 2>/dev/null || echo root is read-only
        ls -ld /run/fast; cat /proc/self/cgroup
    """
    (source / "scratch").mkdir()
    arguments = [
        "--rm", "--runtime", engine, "--name", "all", "-e", "A=1", "-e", "B=2", "-w", "/home/ana", "--hostname", "far",
        "-v", f"{source}:/data:ro", "-v", f"{source}/file:/single:ro", "-v", f"{tmp_path}/made/deep:/fresh",
        "--mount", "type=tmpfs,dst=/data/scratch,tmpfs-size=1m", "--tmpfs", "/run/fast:mode=700,exec",
        "--add-host", "db:10.0.0.7", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--read-only",
        "--cap-add", "net_admin", "--cap-drop", "MKNOD", "--security-opt", "no-new-privileges", "--network", "none",
        "-l", "a=b", "--stop-signal", "INT", "--volatile", "--no-log", "--entrypoint", "sh -c", "main", script,
    ]  # fmt: skip
    lines = run(box, *arguments).splitlines()
    assert lines[:4] == ["from outside", "from outside", "refused", "made"]
    mounts = {line.split()[1]: line.split()[2:] for line in lines if line.startswith("mount ")}
    assert mounts["/data"][1].startswith("ro,")
    assert mounts["/single"][1].startswith("ro,")
    assert mounts["/data/scratch"][0] == "tmpfs"
    assert {"size=1024k", "noexec", "nosuid", "nodev"} <= set(mounts["/data/scratch"][1].split(","))
    assert "noexec" not in mounts["/run/fast"][1]
    status = fields("\n".join(lines))
    granted = int(status["CapEff"], 16)
    assert granted >> 12 & 1, "NET_ADMIN"
    assert not granted >> 27 & 1, "MKNOD"
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {"1 2", "/home/ana", "far", "10.0.0.7\tdb", "root is read-only"} <= set(lines)
    assert any(line.startswith("drwx------") for line in lines)
    assert (tmp_path / "made/deep/here").exists(), "-v makes a missing source"
    assert not (source / "scratch/yes").exists(), "the tmpfs lies over it"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bundle_is_valid(box: Cli, tmp_path: Path, engine: str) -> None:
    arguments = ["-v", f"{tmp_path}:/t", "--memory", "64m", "--userns", "auto", "--pids-limit", "9", "-t"]
    for name, options in (("c", arguments), ("p", ["--privileged"])):
        run(box, "-d", "--runtime", engine, "--name", name, *options, "main", "sleep", "1000")
        directory = record(box, name)[0]
        place = find_engine(box.store / "run/engine", engine).config(directory.name, directory / "bundle")
        assert problems(json.loads(place.read_text())) == []


def test_a_read_only_bind_is_so_in_all_its_depth(box: Cli, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Also where something else is mounted below it (Docker's own weakness until 25)."""
    (tmp_path / "outer/inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "deep", str(tmp_path / "outer/inner")], check=True, timeout=60)
    request.addfinalizer(lambda: subprocess.run(["umount", str(tmp_path / "outer/inner")], check=True, timeout=60))
    for engine in ENGINES:
        look = ["main", "sh", "-c", "touch /o/inner/x 2>/dev/null || echo refused"]
        assert run(box, "--rm", "--runtime", engine, "-v", f"{tmp_path}/outer:/o:ro", *look) == "refused\n"


def test_mounts_leave_nothing_in_a_commit(box: Cli, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    arguments = ["-v", f"{tmp_path}:/new/place", "-v", f"{tmp_path}/f:/etc/conf", "--tmpfs", "/scratch"]
    run(box, "--name", "c", *arguments, "main", "sh", "-c", "touch /new/place/x /scratch/y; echo z > /etc/conf")
    assert box.lines("status", "c") == []
    assert (tmp_path / "f").read_text() == "z\n"
    assert (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mount", "src=/no/such/place,dst=/d"], "/no/such/place, to be mounted at /d, cannot be had: No such file"),
        (["-v", "/etc/hosts:/etc"], "/etc in the root must not be a directory"),
        (["--security-opt", "seccomp=/etc/hosts"], "cannot read the seccomp profile /etc/hosts"),
        (["--security-opt", "seccomp=/no/such"], "there is no seccomp profile at /no/such"),
        (["--network", "nosuch"], "nosuch"),
        (["--userns", "auto", "-u", "100000"], "user 100000 of group 0 cannot be had"),
        (["--rm", "-u", "nobody-there"], "user nobody-there is not in the root's /etc/passwd"),
        (["--rm", "-d", "-u", "nobody-there"], "user nobody-there is not in the root's /etc/passwd"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(box: Cli, arguments: list[str], said: str) -> None:
    done = box.process("run", *arguments, "main", "true")
    assert done.returncode == 125
    lines = done.stderr.decode().splitlines()
    assert said in lines[0]
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert box.lines("ps", "-aq") == []


def test_a_mount_over_a_link_to_proc_is_refused(box: Cli, tmp_path: Path) -> None:
    run(box, "--name", "c", "main", "ln", "-s", "/proc", "/trap")
    box("commit", "c", "-m", "a trap", "-b", "trap")
    done = box.process("run", "-v", f"{tmp_path}:/trap/sys", "trap", "true")
    assert "nothing can be mounted at /proc/sys, to which /trap/sys leads" in done.stderr.decode()


class TestLimits:
    @staticmethod
    def limit(name: str, controller: str, old: str) -> list[str]:
        """A shell's words for a limit as the container sees it, in cgroup v2 or v1."""
        return [f"cat /sys/fs/cgroup/{name} 2>/dev/null || cat /sys/fs/cgroup/{controller}/{old}"]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_they_are_set(self, box: Cli, engine: str) -> None:
        script = [
            *self.limit("memory.max", "memory", "memory.limit_in_bytes"),
            *self.limit("pids.max", "pids", "pids.max"),
            *self.limit("cpu.max", "cpu", "cpu.cfs_quota_us"),
        ]
        arguments = ["--rm", "--runtime", engine, "-m", "32m", "--pids-limit", "15", "--cpus", "0.25"]
        memory, pids, cpu = run(box, *arguments, "main", "sh", "-c", "; ".join(script)).splitlines()
        assert (memory, pids, cpu.split()[0]) == (str(32 << 20), "15", "25000")

    @pytest.mark.parametrize("engine", ENGINES)
    def test_they_hold(self, box: Cli, engine: str) -> None:
        script = "i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; echo all"
        done = box.process("run", "--rm", "--runtime", engine, "--pids-limit", "12", "main", "sh", "-c", script)
        assert done.returncode != 0
        assert b"all" not in done.stdout
        # A tmpfs is memory of who writes to it.
        script = "dd if=/dev/zero of=/big/x bs=1M count=64 2>/dev/null"
        arguments = ["--rm", "--runtime", engine, "-m", "24m", "--tmpfs", "/big:size=100m"]
        done = box.process("run", *arguments, "main", "sh", "-c", script)
        assert done.returncode != 0


class TestPrivileges:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_privileged(self, box: Cli, engine: str) -> None:
        script = """
            grep -E 'CapEff|CapBnd|Seccomp:' /proc/self/status; ls /dev | wc -l; ls -d /dev/kmsg
            echo $(cat /proc/sys/kernel/printk_ratelimit) > /proc/sys/kernel/printk_ratelimit && echo sysctl
            mkdir /sys/fs/cgroup/pids/inner 2>/dev/null || mkdir /sys/fs/cgroup/inner && echo cgroup
            mount -t tmpfs x /tmp && echo mounted; cat /proc/keys > /dev/null && echo keys
        """
        lines = run(box, "--rm", "--runtime", engine, "--privileged", "main", "sh", "-c", script).splitlines()
        status = fields("\n".join(lines))
        ours = fields(Path("/proc/self/status").read_text())
        assert status["CapEff"] == ours["CapBnd"]
        assert status["Seccomp"] == "0"
        assert {"/dev/kmsg", "sysctl", "cgroup", "mounted", "keys"} <= set(lines)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_without_it_nothing_of_that(self, box: Cli, engine: str) -> None:
        script = """
            echo 1 > /proc/sys/kernel/printk_ratelimit; mkdir /sys/fs/cgroup/pids/inner /sys/fs/cgroup/inner
            mount -t tmpfs x /tmp; head -c 1 /proc/keys | wc -c; mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk
            ls -d /dev/kmsg /dev/mem; echo x > /sys/kernel/profiling; mount -o remount,rw /proc/sys
            unshare -r true; chroot / true; echo end
        """
        done = box.process("run", "--rm", "--runtime", engine, "main", "sh", "-c", script)
        assert done.stdout.decode().split() == ["0", "end"], "no line but the empty keys and the end"

    @pytest.mark.parametrize("engine", ENGINES)
    def test_seccomp(self, box: Cli, tmp_path: Path, engine: str) -> None:
        base = ["--rm", "--runtime", engine]
        look = ["main", "grep", "Seccomp:", "/proc/self/status"]
        assert run(box, *base, "--security-opt", "seccomp=unconfined", *look).split()[1] == "0"
        profile = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
        }
        (tmp_path / "profile.json").write_text(json.dumps(profile))
        own = ["--security-opt", f"seccomp={tmp_path}/profile.json"]
        assert run(box, *base, *own, *look).split()[1] == "2"
        assert "Permission denied" in box.process("run", *base, *own, "main", "mkdir", "/x").stderr.decode()

    def test_no_new_privileges_keeps_programs_from_them(self, box: Cli) -> None:
        look = ["main", "/capable/cat", "/proc/self/status"]
        assert int(fields(run(box, "--rm", "-u", "ana", *look))["CapEff"], 16) == NET_RAW
        none = run(box, "--rm", "-u", "ana", "--security-opt", "no-new-privileges", *look)
        assert int(fields(none)["CapEff"], 16) == 0


class TestIdsOfItsOwn:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("network", ["host", "none"])
    def test_its_root_is_nobodys(self, box: Cli, tmp_path: Path, engine: str, network: str) -> None:
        (tmp_path / "shown").mkdir(mode=0o755)
        (tmp_path / "shown/mine").write_text("x")
        (tmp_path / "shown/mine").chmod(0o600)
        script = """
            id -u; stat -c %u:%g /etc/passwd /home/ana /data/mine; cat /data/mine 2>&1; cat /proc/self/uid_map
            echo 1 > /proc/sys/kernel/printk_ratelimit 2>/dev/null; stat -c %u /etc/hosts; stat -c %u:%g /etc/far
            cat /etc/shared > /dev/null && echo read
        """
        arguments = [
            "--rm",
            "--runtime",
            engine,
            "--network",
            network,
            "--userns",
            "auto",
            "-v",
            f"{tmp_path}/shown:/data",
        ]
        lines = run(box, *arguments, "main", "sh", "-c", script).splitlines()
        assert lines[:4] == ["0", "0:0", "1000:1000", "65534:65534"]
        assert "Permission denied" in lines[4]
        inside, outside, size = map(int, lines[5].split())
        assert (inside, size) == (0, 65536)
        assert outside >= 65536
        assert lines[6:] == ["0", "65534:65534", "read"]

    def test_from_the_first_start_to_a_fork(self, box: Cli) -> None:
        script = """
            echo 1 > /home/ana/new; chown 1000:1000 /home/ana/new; chmod 640 /etc/shared; mkdir /d; chown 7:65535 /d
            chown 1000 /etc/passwd; mv /etc/group /etc/groups; ln /etc/passwd /etc/also; rm /capable/cat; true
        """
        run(box, "--userns", "auto", "--name", "web", "main", "sh", "-c", script)
        directory, made = record(box, "web")
        first = made["ids"]
        upper = directory / "gen/0/upper"
        assert (upper / "home/ana/new").stat().st_uid == first + 1000
        assert (upper / "d").stat().st_gid == first + 65535
        assert box.lines("status", "web") == [
            "D  /capable/cat",
            "A  /d/",
            "A  /etc/also",
            "R  /etc/group -> /etc/groups",
            "M  /etc/passwd  (owner 0:0 -> 1000:0, hard links 1 -> 2)",
            "A  /home/ana/new",
        ]  # fmt: skip
        box("commit", "web", "-m", "changed", "-b", "changed")
        listed = {row["path"]: row for row in box.json("ls", "changed:/home/ana")}
        assert (listed["/home/ana/new"]["uid"], listed["/home/ana/new"]["gid"]) == (1000, 1000)
        shared = run(box, "--rm", "changed", "sh", "-c", "stat -c %u:%g /d /etc/also /etc/shared")
        assert shared.split() == ["7:65535", "1000:0", "0:0"]
        assert box.process("start", "web").returncode == 0
        assert record(box, "web")[1]["ids"] == first, "the same over its starts"
        box("fork", "web", "--count", "2", "--name", "twin")
        ids = {record(box, name)[1]["ids"] for name in ("web", "twin-1", "twin-2")}
        assert len(ids) == 3
        assert box.process("start", "twin-1").returncode == 0
        box("fsck", "--read-data")

    def test_access_lists_and_capabilities_are_the_containers(self, box: Cli) -> None:
        """A copied-up access list names the container's user in the commit, whoever wrote it."""
        run(
            box,
            "--userns",
            "auto",
            "--name",
            "web",
            "main",
            "sh",
            "-c",
            "chmod o+x /etc/shared; touch -d @1000 /etc/shared",
        )
        box("commit", "web", "-m", "x", "-b", "shifted")
        run(box, "--name", "plain", "main", "sh", "-c", "chmod o+x /etc/shared; touch -d @1000 /etc/shared")
        box("commit", "plain", "-m", "x", "-b", "plain")
        assert box.lines("diff", "shifted", "plain") == []
        run(
            box,
            "--userns",
            "auto",
            "--name",
            "moved",
            "main",
            "sh",
            "-c",
            "mv /capable/cat /capable/dog; chmod 700 /capable",
        )
        box("commit", "moved", "-m", "x", "-b", "moved")
        assert box.lines("diff", "main", "moved") == [
            "M  /capable/  (mode 755 -> 700)",
            "R  /capable/cat -> /capable/dog",
        ]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_network_that_was_made_for_it(self, box: Cli, engine: str) -> None:
        """It did not make it, so root of its user namespace may not set it up: that is done for it."""
        script = "ls /sys/class/net; ip addr show eth0 | grep -c 'inet '; nc -l -p 80 & kill $! && echo listened"
        arguments = ["--rm", "--runtime", engine, "--userns", "auto", "--network", "bridge"]
        lines = run(box, *arguments, "main", "sh", "-c", script).split()
        assert {"eth0", "lo", "listened"} == set(lines) - {"1"}

    def test_two_containers_share_none(self, box: Cli) -> None:
        for name in ("one", "two"):
            box("create", "--userns", "auto", "--name", name, "main", "true")
        assert abs(record(box, "one")[1]["ids"] - record(box, "two")[1]["ids"]) >= 65536
        box("create", "--name", "plain", "main", "true")
        assert record(box, "plain")[1]["ids"] is None

    @pytest.mark.parametrize("engine", ENGINES)
    def test_its_processes_are_of_no_user_of_the_machine(self, box: Cli, engine: str) -> None:
        run(box, "-d", "--userns", "auto", "--runtime", engine, "--name", "web", "main", "sleep", "600")
        assert box.process("exec", "web", "sh", "-c", "id -u; touch /root/x; stat -c %u /root/x").stdout == b"0\n0\n"
        pid = box.json("ps")[0]["pid"]
        assert os.stat(f"/proc/{pid}").st_uid == record(box, "web")[1]["ids"]
        assert "/run/treering-stage" not in Path("/proc/self/mountinfo").read_text()


class TestVolatile:
    def test_it_starts_again(self, box: Cli) -> None:
        run(box, "--volatile", "--name", "web", "main", "sh", "-c", "echo x >> /x; grep ' / ' /proc/mounts")
        generation = record(box, "web")[0] / "gen/0"
        assert (generation / "work/work/incompat/volatile").is_dir()
        assert box.process("start", "web").returncode == 0
        assert box.lines("status", "web") == ["A  /x"]
        assert (generation / "upper/x").read_text() == "x\nx\n"

    def test_the_kernel_is_told(self, box: Cli) -> None:
        assert "volatile" in run(box, "--rm", "--volatile", "main", "grep", " / ", "/proc/mounts")

    def test_after_the_machine_has_stopped_it_does_not(self, box: Cli) -> None:
        run(box, "--volatile", "--name", "web", "main", "sh", "-c", "echo x >> /x")
        (record(box, "web")[0] / "gen/0/volatile").write_text("another boot")
        error = box.error("start", "web")
        assert "was never flushed" in error["message"]
        assert "treering rollback NAME NAME" in error["advice"]
        box("rollback", "web", "web")
        assert box.process("start", "web").returncode == 0


def descriptors(lines: str) -> set[str]:
    return {line.rpartition("/")[2] for line in lines.split() if line.startswith("/proc/self/fd/")}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "options",
    [[], ["--userns", "auto"], ["--privileged"], ["-i"], ["--network", "none"], ["-v", "/tmp:/t"]],
    ids="-".join,
)
def test_no_descriptor_of_ours_gets_in(box: Cli, engine: str, options: list[str]) -> None:
    """Neither the first process nor what it starts has more than the three; the glob itself opens the directory."""
    script = "echo /proc/self/fd/*; for fd in /proc/self/fd/*; do readlink $fd; done; true"
    text = run(box, "--rm", "--runtime", engine, *options, "main", "sh", "-c", script, stdin=subprocess.DEVNULL)
    assert {"0", "1", "2"} <= descriptors(text)
    assert len(descriptors(text)) <= 4
    leaked = [line for line in text.splitlines() if str(box.store) in line or "socket:" in line or "anon_inode" in line]
    assert leaked == []
    assert text.count("pipe:") <= 3


def test_the_store_is_roots_alone(box: Cli) -> None:
    run(box, "--name", "web", "--userns", "auto", "main", "true")
    directory, _ = record(box, "web")
    for path in (box.store, box.store / "containers", directory, box.store / "run"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


class TestCreate:
    def test_it_prints_the_name_and_starts_nothing(self, box: Cli) -> None:
        assert box("create", "--name", "web", "-t", "main", "echo", "hello").stdout == "web\n"
        assert box.json("ps", "-a")[0]["state"] == "created"
        assert box.process("start", "web").stdout == b"hello\r\n"

    @pytest.mark.parametrize(("name", "number"), [("SIGRTMIN+3", 37), ("HUP", 1)])
    def test_the_stop_signal_is_its_own(self, box: Cli, until: Callable[..., Any], name: str, number: int) -> None:
        script = f"trap 'echo > /bye; exit 9' {number}; echo > /ready; while :; do sleep 0.05; done"
        run(box, "-d", "--name", "web", "--stop-signal", name, "main", "sh", "-c", script)
        until(lambda: "A  /ready" in box.lines("status", "web"))
        box("stop", "web")
        assert box.json("ps", "-a")[0]["exit_code"] == 9

    def test_a_name_that_is_taken(self, box: Cli) -> None:
        box("create", "--name", "web", "main")
        assert box.error("create", "--name", "web", "main")["kind"] == "AlreadyExists"

    def test_rm_goes_with_detach(self, box: Cli, until: Callable[..., Any]) -> None:
        assert run(box, "-d", "--rm", "--name", "web", "main", "sleep", "600") == "web\n"
        assert record(box, "web")[1]["settings"]["remove"] is True


_PREPARE = """
import json, sys
from dataclasses import dataclass
from pathlib import Path
from runtime import preparation
from runtime.system import mounts
from runtime.bundle import LaunchSpec
from runtime.state import RunPaths
directory, lower = map(Path, sys.argv[1:])
@dataclass
class Connection:
    namespace = "/proc/self/ns/net"
    hosts = ("10.0.0.3\\tpeer", "10.0.0.2\\tbox")
    resolv_conf = b"nameserver 10.0.0.1\\n"
mounts.private_mount_namespace()
paths = RunPaths(directory, directory / "gen", directory / "state")
for path in (paths.bundle, paths.rootfs, paths.etc, paths.generation):
    path.mkdir(parents=True)
spec = LaunchSpec("id", "box", ("true",), network="web", hosts=("10.9.9.9\\tfar",))
preparation.prepare(paths, spec, {}, lower, None, Connection())
"""


def test_a_connection_gets_into_the_bundle(tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    command = [sys.executable, "-P", "-c", _PREPARE, str(tmp_path / "c"), str(root)]
    subprocess.run(command, env={"PYTHONPATH": str(PROJECT)}, stdin=subprocess.DEVNULL, timeout=60, check=True)
    config = json.loads((tmp_path / "c/bundle/config.json").read_text())
    assert problems(config) == []
    assert {"type": "network", "path": "/proc/self/ns/net"} in config["linux"]["namespaces"]
    lines = (tmp_path / "c/etc/hosts").read_text().splitlines()
    assert lines[:3] == ["10.9.9.9\tfar", "10.0.0.3\tpeer", "10.0.0.2\tbox"]
    assert (tmp_path / "c/etc/resolv.conf").read_text() == "nameserver 10.0.0.1\n"
