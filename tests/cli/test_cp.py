"""Copying to and from real containers, running and stopped, by Docker's rules."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from runtime.upper.unfinished import noted, remove_unfinished
from tests.cli.conftest import Cli, environment
from tests.support.containers import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WAIT = "trap 'exit 0' TERM; while true; do sleep 0.05; done"


@pytest.fixture(params=["running", "stopped", "created"])
def web(request: pytest.FixtureRequest, box: Cli) -> Cli:
    """A container called web: running, or stopped and with things written, or never started."""
    if request.param == "created":
        box("create", "--name", "web", "main", "sh", "-c", WAIT)
        return box
    started = box.process("run", "-d", "--name", "web", "main", "sh", "-c", f"echo 1 > /etc/written; {WAIT}")
    assert started.returncode == 0, started.stderr
    eventually(lambda: "A  /etc/written" in box.lines("status", "web"))
    if request.param == "stopped":
        box("stop", "web")
    return box


@pytest.fixture
def running(box: Cli) -> Cli:
    assert box.process("run", "-d", "--name", "web", "main", "sh", "-c", WAIT).returncode == 0
    return box


def shown(box: Cli, *command: str) -> str:
    """What a command prints in the container, which is started for it if need be."""
    if box.lines("ps", "-q") == []:
        assert box.process("start", "-d", "web").returncode == 0
    done = box.process("exec", "web", *command)
    assert done.returncode == 0, done.stderr
    text: str = done.stdout.decode()
    return text


def test_there_and_back(web: Cli, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "conf/sub").mkdir(parents=True)
    (here / "conf/sub/file").write_text("content")
    (here / "conf/tool").write_text("#!")
    (here / "conf/tool").chmod(0o750)
    (here / "conf/link").symlink_to("/nowhere")
    os.chown(here / "conf/tool", 1000, 1000)
    os.utime(here / "conf/tool", (1e9, 1e9))

    assert web("cp", str(here / "conf"), "web:/etc").stderr.startswith("Copied 5 files, 9 B")
    web("cp", "web:/etc/conf", str(here / "back"))
    assert (here / "back/sub/file").read_text() == "content"
    assert os.readlink(here / "back/link") == "/nowhere"
    status = (here / "back/tool").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (0o750, 0, 1e9)
    assert "A  /etc/conf/sub/file" in web.lines("status", "web")

    web("cp", "-a", str(here / "conf/tool"), "web:/root/")
    web("cp", "-a", "web:/root/tool", str(here / "kept"))
    assert (here / "kept").stat().st_uid == 1000
    assert shown(web, "stat", "-c", "%u %a", "/etc/conf/tool", "/root/tool").split() == ["0", "750", "1000", "750"]


def test_what_was_written_is_read_as_the_container_sees_it(web: Cli, tmp_path: Path) -> None:
    web("cp", "web:/etc/motd", str(tmp_path / "motd"))
    assert (tmp_path / "motd").read_text() == "one\n2\nthree\nfour\n"
    if web.json("ps", "-a")[0]["state"] != "created":
        web("cp", "web:/etc/written", str(tmp_path))
        assert (tmp_path / "written").read_text() == "1\n"


def test_out_to_where(running: Cli, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "to-dir").symlink_to("dir")
    (tmp_path / "old").write_text("old")
    running("cp", "web:/etc/passwd", str(tmp_path / "dir"))
    running("cp", "web:etc/passwd", str(tmp_path / "to-dir/again"))
    running("cp", "web:/etc/passwd", str(tmp_path / "old"))
    for name in ("dir/passwd", "dir/again", "old"):
        assert (tmp_path / name).read_text().startswith("root:")
    running("cp", "web:/etc/.", str(tmp_path / "dir"))
    assert (tmp_path / "dir/group").exists()
    running("cp", "web:/", str(tmp_path / "whole"), "-q")
    assert (tmp_path / "whole/etc/passwd").exists()
    assert (tmp_path / "whole/dev/null").is_char_device()
    assert list((tmp_path / "whole/proc").iterdir()) == [], "what the kernel shows there is not the container's"
    running("cp", "web:/proc/version", str(tmp_path))
    assert (tmp_path / "version").read_text().startswith("Linux")
    with tarfile.open(fileobj=io.BytesIO(running.process("cp", "web:/proc/version", "-").stdout)) as tar:
        version = tar.extractfile("version")
        assert version
        assert version.read().startswith(b"Linux")
    shown(running, "ln", "-s", "passwd", "/etc/link")
    running("cp", "web:/etc/link", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "passwd"
    running("cp", "-L", "web:/etc/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text().startswith("root:")
    assert running.error("cp", "web:/etc/passwd", str(tmp_path / "no/where"))["kind"] == "NotFound"
    assert running.error("cp", "web:/etc", str(tmp_path / "old"))["kind"] == "BadInput"


def test_from_a_commit(running: Cli, tmp_path: Path) -> None:
    running("cp", "main~1:/etc/motd", str(tmp_path / "motd"))
    assert (tmp_path / "motd").read_text() == "one\ntwo\nthree\n"
    running("cp", "main:/etc", str(tmp_path))
    assert (tmp_path / "etc/added").read_bytes() == bytes(range(256))
    running("cp", "main:/bin/link", str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    running("cp", "-L", "main:/bin/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").stat().st_size > 100_000
    assert running.error("cp", str(tmp_path / "motd"), "main:/etc/motd")["kind"] == "NotFound"
    assert running.error("cp", "main:/nope", str(tmp_path))["kind"] == "NotFound"


def test_archives(web: Cli, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, mode in (("./conf/", 0o700), ("./conf/new", 0o640)):
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.mode, member.uid, member.gid = mode, 1000, 1000
            member.size = 3 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"new"))
    done = web.process("cp", "-", "web:/etc", input=archive.getvalue())
    assert done.returncode == 0, done.stderr
    done = web.process("cp", "-a", "-", "web:/root", input=archive.getvalue())
    assert done.returncode == 0, done.stderr
    done = web.process("cp", "web:/etc/conf", "-")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert [(one.name, one.mode, one.uid) for one in tar] == [("conf", 0o700, 0), ("conf/new", 0o640, 0)]
    with tarfile.open(fileobj=io.BytesIO(web.process("cp", "web:/root/conf/.", "-").stdout)) as tar:
        assert [(one.name, one.uid) for one in tar] == [(".", 1000), ("./new", 1000)]
    assert web.process("cp", "-", "web:/etc/passwd", input=archive.getvalue()).returncode == 125
    assert web.process("cp", "-", "web:/etc", input=b"no archive" * 1000).returncode == 125
    assert shown(web, "cat", "/etc/conf/new") == "new"


def test_a_file_that_is_a_mount_is_written_to(running: Cli, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 here\n")
    running("cp", str(tmp_path / "hosts"), "web:/etc/hosts")
    assert shown(running, "cat", "/etc/hosts") == "127.0.0.1 here\n"
    assert not [line for line in running.lines("status", "web") if ".treering" in line]


def test_read_only_roots_stay_so(box: Cli, tmp_path: Path) -> None:
    box("run", "-d", "--name", "web", "--read-only", "main", "sh", "-c", WAIT)
    (tmp_path / "file").touch()
    assert "Read-only" in box.error("cp", str(tmp_path / "file"), "web:/etc")["message"]
    box("cp", "web:/etc/passwd", str(tmp_path))


def test_containers_with_ids_of_their_own(box: Cli, tmp_path: Path) -> None:
    """Owners are as the container sees them, running or stopped."""
    (tmp_path / "mine").touch()
    os.chown(tmp_path / "mine", 1000, 1000)
    started = box.process("run", "-d", "--name", "web", "--userns", "auto", "main", "sh", "-c", WAIT)
    assert started.returncode == 0, started.stderr
    for number in range(2):
        for options, name in (([], f"roots{number}"), (["-a"], f"kept{number}")):
            done = box.process("cp", *options, str(tmp_path / "mine"), f"web:/etc/{name}")
            assert done.returncode == 0, done.stderr
            done = box.process("cp", "-a", f"web:/etc/{name}", str(tmp_path / name))
            assert done.returncode == 0, done.stderr
        assert (tmp_path / f"roots{number}").stat().st_uid == 0
        assert (tmp_path / f"kept{number}").stat().st_uid == 1000
        box("stop", "web")
    found = shown(box, "stat", "-c", "%u", "/etc/roots0", "/etc/kept0", "/etc/roots1", "/etc/kept1")
    assert found.split() == ["0", "1000", "0", "1000"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["a", "b"], ["-", "-"], ["web:/a", "web:/b"], ["main:/etc", "web:/b"], [":/a", "b"], ["web:", "b"],
        ["", "web:/etc"], ["a"], ["-", "."],
    ],
)  # fmt: skip
def test_misuse(running: Cli, arguments: list[str]) -> None:
    assert running.error("cp", *arguments, code=2)["kind"] == "UsageError"


def test_names_with_colons(running: Cli, tmp_path: Path) -> None:
    (tmp_path / "web:x").write_text("colon")
    assert running.process("cp", "./web:x", "web:/etc", cwd=tmp_path).returncode == 0
    assert shown(running, "cat", "/etc/web:x") == "colon"
    assert running.error("cp", "nope:/etc", str(tmp_path))["kind"] == "NotFound"


def test_a_stopped_container_is_not_started_meanwhile(box: Cli, tmp_path: Path) -> None:
    """Who copies holds it: the archive goes on coming while somebody wants to start it."""
    box("create", "--name", "web", "main", "true")
    process = box.start("cp", "-", "web:/root", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = 1 << 20
        tar.addfile(member, io.BytesIO(bytes(1 << 20)))
    data = archive.getvalue()
    assert process.stdin
    process.stdin.write(data[: 1 << 19])
    process.stdin.flush()
    upper = next(box.store.glob("containers/*/gen/0"))
    eventually(lambda: list(upper.glob("upper/root")))
    starting = box.start("start", "web", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            starting.wait(1)
        process.stdin.write(data[1 << 19 :])
        process.stdin.close()
        assert process.wait(60) == 0
        assert starting.wait(60) == 0
    finally:
        for one in (process, starting):
            one.kill()
            one.wait(60)
        assert process.stderr
        process.stderr.close()
    assert box.lines("status", "web") == ["A  /root/file"]


SWAP = """
mkdir -p /work/dir; echo own > /work/dir/secret; ln -s {outside} /work/out; echo > /ready
while true; do mv /work/dir /work/d; mv /work/out /work/dir; mv /work/dir /work/out; mv /work/d /work/dir; done
"""


def test_links_that_the_container_swaps_lead_nowhere(box: Cli, tmp_path: Path) -> None:
    """The whole way, against a container that makes its directory a link out of it and back, all the time."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("SECRET")
    (tmp_path / "file").write_text("overwritten")
    started = box.process("run", "-d", "--name", "web", "main", "sh", "-c", SWAP.format(outside=outside))
    assert started.returncode == 0, started.stderr
    eventually(lambda: "A  /ready" in box.lines("status", "web"))
    outcomes = set()
    end = time.monotonic() + 4
    number = 0
    while time.monotonic() < end or number < 20:
        number += 1
        code = box.process("cp", str(tmp_path / "file"), "web:/work/dir/secret").returncode
        outcomes.add(code)
        box.process("cp", "web:/work/dir/secret", str(tmp_path / f"out{number}"))
        box.process("cp", "web:/work", str(tmp_path / f"all{number}"))
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "SECRET"
    copies = [path for path in tmp_path.glob("*[0-9]*/**/*") if path.is_file() and not path.is_symlink()]
    copies += [path for path in tmp_path.glob("out[0-9]*") if path.is_file()]
    assert copies
    assert not [path for path in copies if "SECRET" in path.read_text()]
    assert outcomes <= {0, 125}


_KILLED = """
import os, sys
from runtime.copying import placing
from runtime.cli.program import run
placing.put = lambda *_: os.kill(os.getpid(), 9)
run(tuple(sys.argv[1:]))
"""


@pytest.mark.parametrize("next_command", ["status", "commit", "start", "cp"])
def test_a_copy_that_is_killed_leaves_no_second_name(box: Cli, tmp_path: Path, next_command: str) -> None:
    new = tmp_path / "new"
    new.write_text("new")
    box("create", "--name", "web", "main", "true")
    box("cp", str(new), "web:/etc/first")
    killed = [sys.executable, "-P", "-c", _KILLED, "cp", str(new), "web:/etc/motd"]
    assert subprocess.run(killed, env=environment(box.store), timeout=60, check=False).returncode == -signal.SIGKILL
    (upper,) = box.store.glob("containers/*/gen/*/upper")
    assert [path.name for path in (upper / "etc").iterdir() if path.name.startswith(".treering-")]
    if next_command == "status":
        assert box.lines("status", "web") == ["A  /etc/first"]
    elif next_command == "commit":
        box("commit", "web", "-m", "one", "-b", "web")
        assert box.lines("diff", "main", "web") == ["A  /etc/first"]
    elif next_command == "start":
        assert box.process("start", "web").returncode == 0
    else:
        box("cp", str(new), "web:/etc/second")
    assert not list(box.store.glob("containers/*/gen/*/upper/etc/.treering-*"))
    assert not list(box.store.glob("containers/*/gen/*/copying"))


def test_the_names_that_a_copy_needs_are_left_alone_while_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "upper/etc").mkdir(parents=True)
    with noted(tmp_path) as begin:
        needed = tmp_path / "upper/etc" / os.fsdecode(begin + b"1")
        needed.touch()
        remove_unfinished(tmp_path)
        assert needed.exists()
        needed.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["upper"]


def test_a_note_that_is_taken_for_a_killed_copys_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "upper").mkdir()
    lock = fcntl.flock
    looked: list[int] = []

    def after_a_look(fd: int, how: int) -> None:
        if not looked:
            looked.append(how)
            remove_unfinished(tmp_path)
        lock(fd, how)

    monkeypatch.setattr("runtime.upper.unfinished.fcntl.flock", after_a_look)
    with noted(tmp_path) as begin:
        assert (tmp_path / "copying").read_bytes() == begin
    assert looked
    assert [path.name for path in tmp_path.iterdir()] == ["upper"]
