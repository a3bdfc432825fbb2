"""An ordinary user's own store, service, mounts and containers: as a created user, for real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import eventually
from tests.support.ordinary_user import SECONDS, OrdinaryUser
from tests.support.rich_tree import CAPABILITY, acl, make
from tests.system.homes import changes, give, owned_by_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a user")


def entries(user: OrdinaryUser, place: str) -> dict[str, dict[str, Any]]:
    found = user.treering("ls", "--format", "json", place).json()
    return {entry["path"].rpartition("/")[2]: entry for entry in found}


def record(user: OrdinaryUser) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((user.store / "run/namespaces.json").read_text())
    return found


CHANGES = """
set -e
test "$(id -u)" = 0
echo two >> /etc/noted
echo new > /tmp/new; chown 1000:1000 /tmp/new; chmod 6755 /tmp/new
rm /etc/group
rm -r /home/ana; mkdir /home/ana; chown 1000:1000 /home/ana; echo fresh > /home/ana/fresh
mv /etc/old /etc/renamed
chmod 600 /etc/passwd
ln /tmp/new /tmp/also
ln -s /tmp/new /tmp/link
"""


def test_from_the_first_store_to_a_rollback(user: OrdinaryUser) -> None:
    user.treering("run", "--name", "web", "main", "sh", "-c", CHANGES)
    letters = changes(user, "web")
    assert (
        letters.items()
        >= {
            "/etc/noted": "M",
            "/etc/passwd": "M",
            "/etc/group": "D",
            "/home/ana/gone": "D",
            "/home/ana/fresh": "A",
            "/tmp/new": "A",
        }.items()
    )
    user.treering("commit", "web", "-m", "changes", "-b", "changed")

    tmp = entries(user, "changed:/tmp")
    assert (tmp["new"]["uid"], tmp["new"]["gid"]) == (1000, 1000)
    assert tmp["new"]["mode"].endswith("6755")
    assert (entries(user, "changed:/home")["ana"]["uid"], set(entries(user, "changed:/home/ana"))) == (1000, {"fresh"})
    assert "group" not in entries(user, "changed:/etc")
    assert user.treering("cat", "changed:/etc/noted").stdout == "one\ntwo\n"

    look = "import os; print(os.getxattr(os.environ['TREERING_MOUNT'] + '/branches/changed/etc/noted', 'user.note'))"
    assert user.treering("unshare", *user.python, "-c", look).stdout == "b'kept'\n"

    script = "ls /etc/renamed /home/ana; ls -ln /tmp/new; test ! -e /etc/group"
    after = user.treering("run", "--rm", "changed", "sh", "-c", script).stdout.split()
    assert after[:4] == ["/etc/renamed:", "file", "/home/ana:", "fresh"]
    assert after[4:8] == ["-rwsr-sr-x", "2", "1000", "1000"]

    user.treering("rollback", "web", "main")
    assert changes(user, "web") == {}
    assert "M\t/etc/noted\n" in user.treering("diff", "main", "changed", "--name-status").stdout
    user.treering("rm", "web")
    user.treering("gc")
    user.treering("fsck", "--read-data")


def test_what_is_exported_is_what_was_committed(user: OrdinaryUser) -> None:
    user.treering("run", "--name", "web", "main", "sh", "-c", CHANGES)
    user.treering("commit", "web", "-m", "changes", "-b", "changed")
    user.treering("export", "changed", "out")
    assert (user.home / "out/tmp/new").stat().st_uid == user.outside(1000)
    look = "import os; from tests.support.compare import differences; from pathlib import Path\n"
    look += "served = Path(os.environ['TREERING_MOUNT'], 'branches/changed').resolve()\n"
    look += "print(differences(served, Path('out'), ignore=frozenset({'extents'})))"
    assert user.treering("unshare", *user.python, "-c", look).stdout == "[]\n"
    mine = user.treering("export", "--no-owners", "changed", "mine")
    assert "warning" not in mine.stderr
    assert {path.lstat().st_uid for path in (user.home / "mine").rglob("*")} == {user.uid}


def test_a_rich_tree_goes_in_and_comes_out_the_same(user: OrdinaryUser) -> None:
    """But for devices, which are told, and for an owner outside of the range, who is told when he is first seen."""
    source = make(user.home / "rich")
    give(user, source)
    os.setxattr(source / "capable", "security.capability", CAPABILITY)
    own = acl(
        (1, 6, 0xFFFFFFFF), (2, 7, user.outside(4242)), (4, 4, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF)
    )
    os.setxattr(source / "acl", "system.posix_acl_access", own)
    os.removexattr(source / "defaults", "system.posix_acl_default")

    first = user.treering("import", "--format", "json", "rich", "-b", "rich")
    assert first.json()["nobody"] == 1
    assert "1 file belongs to users or groups outside of your range" in first.stderr
    again = user.treering("import", "--format", "json", "rich", "-b", "rich")
    assert (again.json()["made"], again.json()["nobody"]) == (False, 0)

    out = user.treering("export", "rich", "out")
    devices = ("null", "null-link", "disk", "whiteout")
    for name in devices:
        assert f"/{name} was left out: only root can make a" in out.stderr
        (source / name).unlink()
    (source / "nobody").unlink()
    times = source.stat()
    user.treering("unshare", "rm", "out/nobody")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.utime(user.home / "out", ns=(times.st_atime_ns, times.st_mtime_ns))
    plain = user.treering("import", "--format", "json", "rich", "-b", "plain").json()
    back = user.treering("import", "--format", "json", "out", "-b", "back").json()
    assert plain["root"] == back["root"], user.treering("diff", "plain", "back").stdout


def test_what_only_root_may_have_stays_in_the_commit_and_in_nobodys_way(user: OrdinaryUser) -> None:
    """From an archive come owners outside of the range, devices, trusted attributes, and overlayfs's own names."""
    with tarfile.open(user.home / "odd.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(user.home / "root/bin", "bin", filter=owned_by_root)
        attributes = {"SCHILY.xattr.trusted.note": "t", "SCHILY.xattr.user.overlay.opaque": "y"}
        for name in ("far", "null", "noted"):
            member = tarfile.TarInfo(name)
            member.uid = 70000 if name == "far" else 0
            member.type, member.devmajor, member.devminor = b"3" if name == "null" else b"0", 1, 3
            member.pax_headers = attributes if name == "noted" else {}
            archive.addfile(member)
    user.treering("import", "odd.tar", "-b", "odd")
    script = "cat /null; echo more >> /noted && chmod 600 /far"
    done = user.treering("run", "--name", "odd", "odd", "sh", "-c", script, code=1)
    assert "cat: can't open '/null'" in done.stderr
    assert "chmod: /far: Value too large" in done.stderr
    user.treering("commit", "odd", "-m", "changes", "-b", "odd")
    found = entries(user, "odd:/")
    assert (found["far"]["uid"], found["null"]["type"], found["noted"]["size"]) == (70000, "character device", 5)
    look = "import os; print(os.listxattr(os.environ['TREERING_MOUNT'] + '/branches/odd/noted'))"
    assert user.treering("unshare", *user.python, "-c", look).stdout == "['user.overlay.overlay.opaque']\n"


def test_a_container_that_runs_is_known_to_all_commands(user: OrdinaryUser) -> None:
    user.treering("run", "-d", "--name", "loop", "-u", "ana", "main", "sh", "-c", "echo $$ > /tmp/pid; sleep 1000")
    assert user.treering("ps", "--format", "json").json()[0]["name"] == "loop"
    assert eventually(lambda: changes(user, "loop")) == {"/tmp/pid": "A"}
    assert "loop" in user.treering("rm", "loop", code=125).stderr
    user.treering("kill", "loop")
    assert user.treering("ps", "--format", "json", "-a").json()[0]["state"] == "exited"


def test_forks_are_started_compared_and_promoted(user: OrdinaryUser) -> None:
    user.treering("run", "--name", "web", "main", "true")
    user.treering("fork", "web", "-n", "3", "--name", "f", "--wait", "--", "sh", "-c", "echo {i} > /tmp/number")
    rows = user.treering("compare", "--base", "web", "f-1", "f-2", "f-3", "--format", "json").json()
    assert [(row["exit_code"], [path["path"] for path in row["paths"]]) for row in rows] == [(0, ["/tmp/number"])] * 3
    user.treering("promote", "f-2", "--branch", "second")
    assert user.treering("cat", "second:/tmp/number").stdout == "2\n"
    user.treering("rm", "--all")
    user.treering("fsck")


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_both_engines(user: OrdinaryUser, engine: str) -> None:
    script = "id -u; id -u ana; ls /sys/fs/cgroup; test -e /sys/class/net/lo && echo lo; cat /dev/null; exit 7"
    run = ["run", "--rm", "--runtime", engine]
    for network in ("host", "none"):
        done = user.treering(*run, "--network", network, "main", "sh", "-c", script, code=7)
        assert done.stdout == "0\n1000\nlo\n"
    assert user.treering(*run, "-u", "ana", "main", "id", "-u").stdout == "1000\n"


def test_the_machine_sees_nothing_of_a_mount_but_unshare_does(user: OrdinaryUser) -> None:
    told = user.treering("mount", "--driver", "native", "seen").stderr
    assert "treering unshare" in told
    assert list((user.home / "seen").iterdir()) == []
    names = user.treering("unshare", "ls", "seen/branches/main/etc").stdout.split()
    assert "passwd" in names
    assert str(user.place) not in Path("/proc/self/mountinfo").read_text()
    assert user.run("ls", str(user.store / "run/mnt")).stdout == ""
    user.treering("umount", "seen")


def test_a_mount_of_his_own_is_where_he_is(user: OrdinaryUser) -> None:
    """Through libfuse, before there are namespaces; they have it too, and cannot take it away."""
    script = """
        set -eu
        "$@" mount seen
        test ! -e $0/run/namespaces.json
        cat seen/branches/main/etc/noted
        "$@" unshare ls seen/branches/main/etc/noted
        if "$@" unshare "$@" umount seen; then exit 1; fi
        "$@" umount seen
        ls -A seen
    """
    done = user.run("sh", "-c", script, str(user.store), *user.command)
    assert done.code == 0, done.stderr
    assert done.stdout.split() == ["one", "seen/branches/main/etc/noted"]
    assert "unmount it there" in done.stderr
    assert "treering unshare" not in done.stderr


def test_without_fusermount_a_mount_is_in_the_namespaces(user: OrdinaryUser) -> None:
    hidden = [found for name in ("fusermount", "fusermount3") if (found := shutil.which(name))]
    assert hidden, "fuse3 is installed"
    assert "treering unshare" in user.treering("mount", "seen", hidden=hidden).stderr
    user.treering("umount", "seen")


def test_a_command_in_the_namespaces_and_its_exit_code(user: OrdinaryUser) -> None:
    assert user.treering("unshare", "--", "sh", "-c", "id -u; exit 3", code=3).stdout == "0\n"
    assert "containers\n" in user.treering("unshare", "sh", "-c", "ls $TREERING_MOUNT").stdout
    assert "cannot run /nowhere" in user.treering("unshare", "/nowhere", code=127).stderr
    inner = user.treering("unshare", *user.command, "log", "--format", "json", "main").json()
    assert inner[0]["message"].startswith("base")
    assert inner[0]["author"]["name"] == user.name, "root inside, but himself as an author"


def test_relative_paths_are_those_of_the_caller(user: OrdinaryUser) -> None:
    (user.home / "root/etc/only").touch()
    script = 'cd root/etc && exec "$@"'
    user.run("sh", "-c", script, "sh", *user.command, "import", ".", "-b", "here")
    assert "only" in entries(user, "here:/")
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = user.run("sh", "-c", script, "sh", *user.command, "import", ".", "-b", "here")
    assert (done.code, "the current directory does not exist" in done.stderr) == (125, True)


def test_many_first_commands_meet_in_the_same_namespaces(user: OrdinaryUser) -> None:
    with tempfile.TemporaryFile() as output:
        which = [*user.command, "unshare", "readlink", "/proc/self/ns/user", "/proc/self/ns/mnt"]
        started = [user.start(*which, output=output.fileno(), errors=output.fileno()) for _ in range(6)]
        codes = [process.wait(SECONDS) for process in started]
        output.seek(0)
        lines = output.read().decode().splitlines()
    assert codes == [0] * 6, lines
    assert len(set(lines)) == 2


def test_a_command_that_comes_while_the_keeper_leaves(user: OrdinaryUser) -> None:
    for _ in range(4):
        user.treering("service", "stop")
        assert user.treering("unshare", "cat", "/proc/self/uid_map").stdout.split()[:3] == ["0", str(user.uid), "1"]
        user.treering("run", "--rm", "main", "true")


def test_a_killed_keeper_is_replaced_in_the_same_namespaces(user: OrdinaryUser) -> None:
    user.treering("run", "-d", "--name", "loop", "main", "sleep", "1000")
    before = record(user)
    os.kill(before["keeper"][0], signal.SIGKILL)
    eventually(lambda: before["keeper"][0] not in user.processes())
    found = user.treering("unshare", "sh", "-c", "readlink /proc/self/ns/user; ls $TREERING_MOUNT/branches").stdout
    assert found == f"user:[{before['user']}]\nmain\n"
    after = record(user)
    assert (after["user"], after["mount"]) == (before["user"], before["mount"])
    assert after["keeper"] != before["keeper"]
    user.treering("stop", "-t", "0", "loop")
    assert user.treering("start", "-d", "loop").stdout == "loop\n"
    user.treering("kill", "loop")


def test_a_stale_record_is_noticed(user: OrdinaryUser) -> None:
    user.treering("unshare", "true")
    before = record(user)
    assert user.settled()
    ours = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        stat_fields = Path(f"/proc/{ours.pid}/stat").read_text().rpartition(")")[2].split()
        stale = {**before, "keeper": [ours.pid, int(stat_fields[19])]}
        (user.store / "run/namespaces.json").write_text(json.dumps(stale))
        os.chown(user.store / "run/namespaces.json", user.uid, user.uid)
        user.treering("run", "--rm", "main", "true")
        assert record(user)["keeper"][0] != ours.pid
    finally:
        ours.kill()
        ours.wait(SECONDS)


def test_root_cannot_start_what_an_ordinary_user_started(user: OrdinaryUser) -> None:
    """Its upper has overlayfs's notes in other attributes; they would be read as files' own."""
    user.treering("run", "--name", "web", "main", "sh", "-c", "rm -r /home/ana; mkdir /home/ana; echo x > /home/ana/x")
    assert user.settled()
    (user.home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    store = ["--store", str(user.store), "--format", "json"]
    try:
        refused = user.treering(*store, "start", "web", code=125, as_root=True)
        assert "started by an ordinary user" in json.loads(refused.stderr.splitlines()[-1])["error"]["message"]
        found = user.treering(*store, "status", "web", as_root=True).json()
        assert {one["path"]: one["status"] for one in found}.items() >= {
            "/home/ana/gone": "D",
            "/home/ana/x": "A",
        }.items()
        assert not any("xattrs" in one["what"] for one in found)
    finally:
        user.treering(*store, "service", "stop", as_root=True)
        for path in (user.store, *user.store.rglob("*")):
            if path.lstat().st_uid == 0:
                os.chown(path, user.uid, user.uid, follow_symlinks=False)


def test_root_is_told_that_he_needs_no_namespaces(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from runtime.cli.program import program

    result = CliRunner(env={"TREERING_STORE": str(tmp_path)}).invoke(program, ["unshare", "true"])
    assert result.exit_code == 2
    assert "root needs no namespaces" in result.stderr


def test_what_containers_use_without_cgroups(user: OrdinaryUser) -> None:
    """Told by their processes, and at the end by whoever waited for them."""
    script = "n=0; while [ $n -lt 300000 ]; do n=$((n+1)); done"
    user.treering("run", "-d", "--name", "web", "main", "--", "sh", "-c", f"sh -c '{script}'; echo > /done; sleep inf")
    eventually(lambda: "/done" in changes(user, "web"))
    row = user.treering("stats", "--no-stream", "--format", "json").json()[0]
    assert row["source"] == "processes"
    assert row["cpu_seconds"] > 0.1, "the inner shell's, who has ended"
    assert row["memory_bytes"] > 10_000
    assert (row["pids"], row["memory_limit"], row["received_bytes"]) == (1, None, None)
    table = user.treering("stats", "--no-stream").stdout.splitlines()[1]
    assert table.startswith("web ")
    seen = usage(user)
    assert seen["cpu_seconds"] >= row["cpu_seconds"]
    refused = user.treering("update", "--memory", "64m", "web", code=125)
    assert "in no cgroup, so nothing can be limited" in refused.stderr
    assert f'treering_container_pids{{id="{row["id"][:12]}",name="web"}} 1.0' in user.treering("metrics").stdout
    user.treering("kill", "web")
    ended = usage(user)
    assert ended["cpu_seconds"] >= seen["cpu_seconds"] - 0.02
    assert (ended["starts"], ended["oom_kills"]) == (1, 0)


def usage(user: OrdinaryUser) -> dict[str, Any]:
    found: dict[str, Any] = user.treering("ps", "-a", "--usage", "--format", "json").json()[0]["usage"]
    return found


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_options_that_an_ordinary_user_can_have(user: OrdinaryUser, engine: str) -> None:
    shared = user.home / "shared"
    shared.mkdir()
    (shared / "file").write_text("his\n")
    os.chown(shared, user.uid, user.uid)
    script = """
        cat /data/file; touch /data/x 2>/dev/null || echo refused; echo new > /made/here; stat -c %u /made/here
        touch /fast/x && echo fast; grep NoNewPrivs /proc/self/status; hostname; touch /x 2>/dev/null || echo read-only
        head -n 1 /etc/hosts
    """
    options = [
        "--rm", "--runtime", engine, "-v", "./shared:/data:ro", "-v", "./fresh:/made", "--tmpfs", "/fast:size=1m",
        "--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--cap-add", "chown", "--hostname", "far",
        "--read-only", "--add-host", "db:10.0.0.7", "--volatile",
    ]  # fmt: skip
    lines = user.treering("run", *options, "main", "sh", "-c", script).stdout.splitlines()
    assert lines == ["his", "refused", "0", "fast", "NoNewPrivs:\t1", "far", "read-only", "10.0.0.7\tdb"]
    assert (user.home / "fresh/here").stat().st_uid == user.uid

    look = "grep -E 'CapEff|Seccomp:' /proc/self/status; cat /proc/keys > /dev/null && echo keys"
    privileged = user.treering("run", "--rm", "--runtime", engine, "--privileged", "main", "sh", "-c", look)
    assert "Seccomp:\t0" in privileged.stdout
    assert "keys" in privileged.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--memory", "64m"], "limits (--memory, --cpus, --pids-limit) need cgroups"),
        (["--userns", "auto"], "--userns auto is for root"),
    ],
)
def test_options_that_he_cannot_are_refused_at_once(user: OrdinaryUser, options: list[str], said: str) -> None:
    for verb in ("run", "create"):
        assert said in user.treering(verb, *options, "main", "true", code=125).stderr
    assert user.treering("ps", "-aq").stdout == ""


BY_FORK_SERVER = """
set -e
export XDG_RUNTIME_DIR=$HOME
"$@" -m runtime.cli branch
by_server() { "$python" -P -c 'import os, sys
from runtime.cli import client
code = client.call(sys.argv)
os._exit(code if code >= 0 else 99)' "$@"; }
python=$1
tries=0
until by_server branch; do
    tries=$((tries + 1)); [ $tries -lt 300 ]; sleep 0.1
done
by_server run --rm --network none main sh -c 'id -u; touch /made; exit 7'
"""


def test_a_fork_server_runs_his_commands(user: OrdinaryUser) -> None:
    done = user.run("sh", "-c", BY_FORK_SERVER, "sh", *user.python, fork_server=True)
    assert done.code == 7, done
    assert done.stdout.endswith("\n0\n")
    assert not done.stderr
    for pid in user.processes():  # it is in a mount namespace of its own, where nobody can tell it to leave
        with suppress(FileNotFoundError, ProcessLookupError):
            if "runtime.cli.serving" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGTERM)
    eventually(user.settled)


def test_hooks_of_his_store(user: OrdinaryUser) -> None:
    """They run in the namespaces of his containers, where what is his is root's."""
    folder = user.store / "hooks"
    folder.mkdir(mode=0o755)
    hook = folder / "pre-commit"
    hook.write_text('#!/bin/sh\nid -u\ntr "\\0" " "\n[ "$TREERING_BRANCH" = allowed ]\n')
    hook.chmod(0o755)
    for path in (folder, hook):
        os.chown(path, user.uid, user.uid)
    user.treering("run", "--name", "web", "main", "touch", "/new")
    refused = user.treering("commit", "web", "-m", "new", "-b", "other", code=125)
    assert "the hook pre-commit refused it (exit code 1), so nothing was changed: 0\nA /new" in refused.stderr
    user.treering("commit", "web", "-m", "new", "-b", "allowed")
    os.chown(hook, user.uid + 1, -1)
    assert "was not run" in user.treering("commit", "web", "-m", "again", "--allow-empty").stderr


def test_programs_are_plain_files_for_his_containers_too(user: OrdinaryUser) -> None:
    plain = user.store / "caches/plain"
    script = "cat /bin/busybox > /dev/null; echo ran"
    assert user.treering("run", "--rm", "main", "sh", "-c", script).stdout == "ran\n"
    (made,) = eventually(lambda: [path for path in plain.glob("*") if not path.suffix] if plain.is_dir() else [])
    assert made.read_bytes() == Path("/bin/busybox").read_bytes()
    assert user.treering("run", "--rm", "main", "sh", "-c", script).stdout == "ran\n"
    linked = [path.name.partition(".")[2] for path in (user.store / "run/data").glob("*/*.*")]
    has_data = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 16)
    assert linked == ([made.name] if has_data else [])
