"""What a user namespace changes, and what a machine may lack for one: the parts that need no namespace."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle import Host, LaunchSpec, config, mount_targets
from runtime.cli.errors import advice
from runtime.engine import Engine
from runtime.identity import Identity
from runtime.namespace import in_user_namespace
from runtime.namespace.keeper import Record, members
from runtime.namespace.mapping import Mapped, Span, arguments, free_span, parse_map, subordinate
from runtime.namespace.needs import Machine, User, check_device, find_means, no_range, refusal
from runtime.state import Exited, Process, Run, Running, boot_id, save_run, state_of
from tests.support.containers import eventually
from tests.support.processes import children_of
from vcs.errors import Denied

ANA = User(1000, 1000, "ana")


def machine(top: Path, subuid: str = "ana:100000:65536\n", subgid: str | None = None, **sysctls: str) -> Machine:
    """A machine that has everything, but for what the arguments say."""
    programs = top / "bin"
    programs.mkdir()
    for name in ("newuidmap", "newgidmap"):
        (programs / name).touch(0o755)
    (top / "subuid").write_text(subuid)
    (top / "subgid").write_text(subuid if subgid is None else subgid)
    for name, value in sysctls.items():
        path = top / "sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    (top / "fuse").touch(0o600)
    return Machine(top / "subuid", top / "subgid", top / "sys", top / "fuse", (programs,))


class TestMapping:
    def test_ranges_are_of_a_name_or_a_number_and_may_be_several(self) -> None:
        text = "ana:100000:65536\nbob:200000:10\n1000:300000:5\n\nbroken\nana:x:1\nana:7:0\n"
        assert subordinate(text, ["ana", "1000"]) == [Span(100000, 65536), Span(300000, 5)]
        assert subordinate(text, ["carl"]) == []

    def test_the_user_is_root_and_his_ids_follow_without_a_gap(self) -> None:
        found = arguments(1000, [Span(100000, 10), Span(300000, 5)])
        assert " ".join(found) == "0 1000 1 1 100000 10 11 300000 5"

    def test_what_is_recommended_collides_with_nobody(self) -> None:
        assert free_span("") == Span(100000, 65536)
        assert free_span("a:100000:65536\nb:524288:10\nodd\n") == Span(524298, 65536)

    def test_a_map_as_the_kernel_prints_it(self) -> None:
        assert parse_map("         0       1000          1\n         1     100000      65536\n") == [
            Mapped(0, 1000, 1),
            Mapped(1, 100000, 65536),
        ]

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, of the machine itself")
    def test_here_is_none(self) -> None:
        assert not in_user_namespace()


class TestWhatIsMissing:
    """An error each, with what root must do."""

    def test_nothing(self, tmp_path: Path) -> None:
        means = find_means(ANA, machine(tmp_path))
        assert means is not None
        assert (means.uids, means.gids) == ((Span(100000, 65536),), (Span(100000, 65536),))
        assert means.newuidmap == tmp_path / "bin/newuidmap"

    @pytest.mark.parametrize("name", ["newuidmap", "newgidmap"])
    def test_a_program(self, tmp_path: Path, name: str) -> None:
        where = machine(tmp_path)
        (tmp_path / "bin" / name).chmod(0o644)
        with pytest.raises(Denied, match=f"there is no {name}") as caught:
            find_means(ANA, where)
        assert "apt-get install uidmap" in advice(caught.value)

    @pytest.mark.parametrize("file", ["subuid", "subgid"])
    def test_a_range(self, tmp_path: Path, file: str) -> None:
        texts = {"subuid": "ana:100000:65536\n", "subgid": "ana:100000:65536\n", file: "bob:165536:65536\n"}
        with pytest.raises(Denied, match=f"{file} gives ana no ids") as caught:
            find_means(ANA, machine(tmp_path, **texts))
        assert advice(caught.value) == "as root: usermod --add-subuids 231072-296607 --add-subgids 231072-296607 ana"

    def test_who_has_no_ids_needs_no_programs(self, tmp_path: Path) -> None:
        where = machine(tmp_path, "bob:165536:65536\n")
        where.subgid.unlink()
        for program in where.programs[0].iterdir():
            program.unlink()
        assert find_means(ANA, where) is None
        assert "231072-296607 ana" in advice(no_range(ANA, where.subuid, where))

    @pytest.mark.parametrize("error", [errno.ENFILE, errno.EIO, errno.EACCES])
    @pytest.mark.parametrize("file", ["subuid", "subgid"])
    def test_a_file_that_cannot_be_read_is_not_one_that_gives_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, error: int
    ) -> None:
        where, really = machine(tmp_path), Path.read_text

        def read(path: Path, *arguments: Any, **settings: Any) -> str:
            if path.name == file:
                raise OSError(error, os.strerror(error), str(path))
            return really(path, *arguments, **settings)

        monkeypatch.setattr(Path, "read_text", read)
        with pytest.raises(OSError, match=file):
            find_means(ANA, where)
        with pytest.raises(OSError, match=file):
            no_range(ANA, where.subuid, where)

    def test_a_sysctl_that_is_not_for_him_forbids_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, *_: Any, **__: Any) -> str:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(Path, "read_text", refuse)
        assert "not permitted" in str(refusal(errno.EPERM, "a user namespace cannot be had", machine(tmp_path)))

    @pytest.mark.parametrize(
        ("sysctl", "forbids", "allows"),
        [
            ("kernel.unprivileged_userns_clone", "0", "1"),
            ("user.max_user_namespaces", "0", "15000"),
            ("user.max_mnt_namespaces", "0", "15000"),
            ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ],
    )
    def test_the_sysctl_that_forbids(self, tmp_path: Path, sysctl: str, forbids: str, allows: str) -> None:
        error = refusal(errno.EPERM, "a user namespace", machine(tmp_path, **{sysctl.replace(".", "__"): forbids}))
        assert f"{sysctl} is {forbids}" in str(error)
        assert advice(error) == f"as root: sysctl -w {sysctl}={allows}"

    def test_a_limit_that_is_reached(self, tmp_path: Path) -> None:
        error = refusal(errno.ENOSPC, "a user namespace", machine(tmp_path, user__max_user_namespaces="3"))
        assert advice(error) == "as root: sysctl -w user.max_user_namespaces=15000"

    def test_something_else(self, tmp_path: Path) -> None:
        error = refusal(errno.EPERM, "a user namespace cannot be had", machine(tmp_path))
        assert str(error) == "a user namespace cannot be had: Operation not permitted"
        assert "forbids user namespaces" in advice(error)

    def test_dev_fuse(self, tmp_path: Path) -> None:
        where = machine(tmp_path)
        check_device(where)
        where.device.unlink()
        with pytest.raises(Denied, match="there is no") as caught:
            check_device(where)
        assert advice(caught.value) == "as root: modprobe fuse"


class TestRecord:
    def test_it_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        record = Record(Process(1, 2), boot_id(), 3, 4)
        record.save(tmp_path)
        assert Record.load(tmp_path) == record

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"keeper": 1}', "null"])
    def test_what_is_no_record_counts_as_none(self, tmp_path: Path, text: str) -> None:
        assert Record.load(tmp_path) is None
        (tmp_path / "namespaces.json").write_text(text)
        assert Record.load(tmp_path) is None

    def test_one_of_an_earlier_boot_counts_as_none(self, tmp_path: Path) -> None:
        Record(Process(1, 2), "another", 3, 4).save(tmp_path)
        assert Record.load(tmp_path) is None

    def test_members_are_the_others_in_the_same_namespaces(self) -> None:
        user, mount = (os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("user", "mnt"))
        other = subprocess.Popen(["sleep", "60"])
        try:
            assert other.pid in members(user, mount)
            assert os.getpid() not in members(user)
        finally:
            other.kill()
            other.wait()
        assert members(user, 1) == []


class TestBundle:
    """The OCI config of a container in a user namespace."""

    def config(self, last_group: int | None, network: str = "host") -> dict[str, dict[str, Any]]:
        last_ids = None if last_group is None else (last_group, last_group)
        host = Host(Path("/etc-of-ours"), Path("/rootfs"), {}, (), (1024, 1024), last_ids=last_ids)
        spec = LaunchSpec("id", "host", ("true",), network=network)
        placed = {target.path: target.path for target in mount_targets(spec, "/", {})}
        made = config(spec, {}, Identity(0, 0, (), "/root"), placed, host)
        return {**made["linux"], "mounts": {mount["destination"]: mount for mount in made["mounts"]}}

    def test_it_has_no_cgroups_and_no_rules_for_devices(self) -> None:
        made = self.config(65536)
        assert "cgroupsPath" not in made
        assert "resources" not in made
        assert made["mounts"]["/sys/fs/cgroup"]["type"] == "tmpfs"
        assert {"cgroupsPath", "resources"} <= self.config(None).keys()

    @pytest.mark.parametrize(("network", "kind"), [("host", "bind"), ("none", "sysfs")])
    def test_sysfs_is_only_made_with_a_network_of_its_own(self, network: str, kind: str) -> None:
        sys = self.config(65536, network)["mounts"]["/sys"]
        assert sys["type"] == kind
        assert "ro" in sys["options"]

    def test_groups_that_may_ping_are_those_that_there_are(self) -> None:
        assert self.config(65536, "none")["sysctl"]["net.ipv4.ping_group_range"] == "0 65536"
        assert self.config(None, "none")["sysctl"]["net.ipv4.ping_group_range"] == "0 2147483647"

    def test_with_one_id_there_is_no_group_for_terminals(self) -> None:
        assert "gid=5" in self.config(None)["mounts"]["/dev/pts"]["options"]
        assert "gid=5" in self.config(5)["mounts"]["/dev/pts"]["options"]
        assert not [option for option in self.config(4)["mounts"]["/dev/pts"]["options"] if option.startswith("gid=")]

    def test_crun_leaves_cgroups_alone(self) -> None:
        engines = [
            Engine(name, Path("/e"), Path("/s"), cgroups) for name in ("crun", "runc") for cgroups in (True, False)
        ]
        told = ["--cgroup-manager=disabled" in engine.delete("id", Path("/log")) for engine in engines]
        assert told == [False, True, False, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a pid namespace")
@pytest.mark.parametrize("first", [True, False])
def test_an_init_without_a_cgroup_is_known_by_its_pid_namespace(tmp_path: Path, first: bool) -> None:
    """A supervisor was killed before it could note the init that the engine had written down."""
    alone = ["unshare", "--pid", "--fork", "--kill-child"] if first else ["sh", "-c", '"$@" & wait', "sh"]
    parent = subprocess.Popen([*alone, "sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    child = 0
    try:
        (child,) = eventually(lambda: children_of(parent.pid))
        eventually(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
        (tmp_path / "init.pid").write_text(f"{child}")
        save_run(tmp_path, Run("run", "container", boot_id(), "/engine", Process(1 << 30, 0)))
        assert state_of(tmp_path) == (Running(child, supervised=False) if first else Exited(None))
    finally:
        for pid in filter(None, (child, parent.pid)):
            os.kill(pid, signal.SIGKILL)
        parent.wait(60)
