"""Real containers on crun and runc: exit codes, streams, signals, terminals, identity, and what is left afterwards."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime import state
from runtime.cgroups import Cgroup
from runtime.engine import failure, find_engine, remove_cgroups
from runtime.state import Created, Exited, Running, Starting, send_signal, state_of
from runtime.supervision.launch import launch, sweep
from tests.support.containers import Bench, bench, eventually
from vcs.errors import Conflict, EngineError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FOREVER = ("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done")


@pytest.fixture(scope="module", params=["crun", "runc"])
def place(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as made:
        yield made


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_containers_exit_code_is_returned_and_recorded(place: Bench, code: int) -> None:
    paths = place.container()
    assert state_of(paths.directory) == Created()
    assert place.run("sh", "-c", f"exit {code}", paths=paths) == (code, "")
    assert state_of(paths.directory) == Exited(code)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("nope",), 127, "cannot run nope: not found"),
        (("/bin/nope",), 127, "cannot run /bin/nope: not found"),
        (("/etc/passwd",), 126, "cannot run /etc/passwd: permission denied"),
        (("/etc",), 126, "cannot run /etc: is a directory"),
        (("/script",), 127, "cannot run /script: its interpreter /no/shell is missing"),
    ],
)
def test_a_command_that_cannot_run(place: Bench, args: tuple[str, ...], code: int, words: str) -> None:
    script = place.root() / "script"
    script.write_text("#!/no/shell -x\n")
    script.chmod(0o755)
    paths = place.container()
    with pytest.raises(EngineError, match=words) as caught:
        place.run(*args, paths=paths)
    assert caught.value.facts["exit_code"] == code
    ended = state_of(paths.directory)
    assert isinstance(ended, Exited)
    assert ended.code == code
    assert words in str(ended.error)


def test_no_command_is_our_failure(place: Bench) -> None:
    with pytest.raises(EngineError, match="no command") as caught:
        place.run()
    assert caught.value.facts["exit_code"] == 125


def test_an_engine_that_refuses_is_one_line(place: Bench) -> None:
    paths = place.container()
    with pytest.raises(EngineError) as caught:
        place.run("true", paths=paths, hostname="x" * 300)
    line = caught.value.facts["line"]
    assert caught.value.facts["engine"] == place.engine
    assert caught.value.facts["exit_code"] == 125
    assert "hostname" in line
    assert "\n" not in str(caught.value)
    process = place.start(place.container(), "true", hostname="x" * 300)
    out, err = process.communicate()
    assert (process.returncode, out) == (125, b"")
    assert len(err.splitlines()) == 1  # and not the engine's own words on top


@pytest.mark.parametrize(
    ("log", "code", "line"),
    [
        ("2026-01-01T00:00:00.1Z: executable file `x` not found in $PATH: No such file or directory\n", 127, None),
        ("2026-01-01T00:00:00.1Z: open executable: Permission denied", 126, None),
        ("2026-01-01T00:00:00.1Z: mount `x` to `y`: No such file or directory", 125, "mount `x` to"),
        ('{"level":"error","msg":"unable to start: exec: \\"x\\": executable file not found in $PATH"}', 127, None),
        ('{"level":"error","msg":"unable to start: exec: \\"/x\\": permission denied"}\n', 126, None),
        ('{"level":"warning","msg":"a"}\n{"level":"error","msg":"two\\nlines"}\n', 125, "two lines"),
        ("", 125, "said nothing"),
    ],
)
def test_what_the_engines_say(tmp_path: Path, log: str, code: int, line: str | None) -> None:
    (tmp_path / "log").write_text(log)
    error = failure(find_engine(tmp_path), tmp_path / "log", 1)
    assert error.facts["exit_code"] == code
    assert (line or "") in error.facts["line"]
    assert "2026" not in str(error)


def test_finding_an_engine(tmp_path: Path) -> None:
    assert find_engine(tmp_path).name == "crun"
    assert find_engine(tmp_path, "/usr/sbin/runc").name == "runc"
    assert find_engine(tmp_path, "runc").version()[0].isdigit()
    with pytest.raises(EngineError, match="there is no OCI runtime nothing"):
        find_engine(tmp_path, "nothing")


def test_standard_input_is_passed_with_interactive_only(place: Bench) -> None:
    for interactive, seen in ((True, b"some bytes\0\xff"), (False, b"")):
        process = place.start(place.container(), "cat", interactive=interactive)
        assert process.communicate(b"some bytes\0\xff") == (seen, b"")
        assert process.returncode == 0


def test_output_and_errors_are_separate_and_whole(place: Bench) -> None:
    script = "dd if=/dev/zero bs=1M count=9 2>/dev/null; echo wrong >&2"
    process = place.start(place.container(), "sh", "-c", script)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, bytes(9 << 20), b"wrong\n")


def test_one_place_for_both_keeps_their_order(place: Bench) -> None:
    script = "for n in $(seq 50); do echo o$n; echo e$n >&2; done"
    process = place.start(place.container(), "sh", "-c", script, stderr=subprocess.STDOUT)
    lines = process.communicate()[0].decode().split()
    assert lines == [f"{kind}{number}" for number in range(1, 51) for kind in "oe"]


def test_output_that_nobody_reads_ends_the_writer(place: Bench) -> None:
    process = place.start(place.container(), "sh", "-c", "trap - PIPE; yes; echo $? >&2")
    assert process.stdout
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == b"141\n"  # 128 + SIGPIPE
    process.wait()


def test_no_descriptor_signal_or_variable_of_ours_gets_in(place: Bench) -> None:
    script = "for f in /proc/self/fd/*; do echo ${f##*/}; done; grep -E 'Sig(Blk|Ign)' /proc/1/status; env"
    lines = place.run("sh", "-c", script)[1].splitlines()
    assert set(lines[:3]) == {"0", "1", "2"}
    # Above the third is only what the shell itself opened to list the directory.
    descriptors = [line for line in lines if line.isdigit()]
    assert len(descriptors) <= 4
    blocked, ignored = (int(line.split()[1], 16) for line in lines if line.startswith("Sig"))
    assert blocked == 0
    assert ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGINT - 1)) == 0
    names = {line.split("=")[0] for line in lines if "=" in line}
    assert names <= {"PATH", "HOME", "HOSTNAME", "PWD", "SHLVL", "OLDPWD"}


def test_who_and_where(place: Bench) -> None:
    image = {"config": {"User": "ana", "WorkingDir": "/home/ana", "Env": ["A=1", "B=2"], "Cmd": ["false"]}}
    script = "id; pwd; echo $A$B$HOME; cat /proc/self/status | grep -E 'Cap(Prm|Eff)'; hostname"
    code, text = place.run("sh", "-c", script, image=image, env=("B=3",))
    assert code == 0
    assert text.splitlines() == [
        "uid=1000(ana) gid=1000(ana) groups=10(wheel),44(video),1000(ana)",
        "/home/ana",
        "13/home/ana",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "box",
    ]
    assert place.run(image=image)[0] == 1  # the image's own command


def test_limits_are_passed_on_as_they_are(place: Bench) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
    try:
        text = place.run("sh", "-c", "ulimit -Sn; ulimit -Hn")[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert text.split() == [str(hard // 2), str(hard)]


def test_network_of_the_host_or_none(place: Bench) -> None:
    ours = os.readlink("/proc/self/ns/net")
    script = "readlink /proc/self/ns/net; ping -c1 -W2 127.0.0.1 >/dev/null && echo reached; cat /etc/hosts"
    code, host = place.run("sh", "-c", script)
    assert code == 0
    assert host.startswith(ours + "\nreached\n127.0.0.1\tlocalhost\n127.0.1.1\tbox\n")
    code, alone = place.run("sh", "-c", script, network="none")
    assert code == 0
    assert not alone.startswith(ours)
    assert "\nreached\n" in alone
    assert place.run("ls", "/sys/class/net", network="none")[1].split() == ["lo"]


def test_it_is_contained(place: Bench) -> None:
    script = """
        echo $$
        echo x > /proc/sys/kernel/hostname
        mount -t tmpfs none /tmp
        mknod /tmp/disk b 254 0 && head -c1 /tmp/disk
        echo hi > /dev/null && echo null
        cat /proc/keys /proc/timer_list
        grep Seccomp: /proc/self/status
    """
    code, text = place.run("sh", "-c", script)
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == "1"
    for words in (
        "can't create /proc/sys/kernel/hostname: Read-only file system",
        "mount: permission denied",
        "/tmp/disk: Operation not permitted",
    ):
        assert any(words in line for line in lines), (words, text)
    assert "null" in lines
    assert "Seccomp:\t2" in lines


def test_read_only(place: Bench) -> None:
    assert "Read-only file system" in place.run("touch", "/x", read_only=True)[1]


def test_what_was_written_is_there_at_the_next_start(place: Bench) -> None:
    paths = place.container()
    assert place.run("sh", "-c", "echo 1 > /x; chmod 700 /", paths=paths)[0] == 0
    assert place.run("sh", "-c", "cat /x; stat -c %a /", paths=paths) == (0, "1\n700\n")


def test_signals_reach_the_container(place: Bench) -> None:
    paths = place.container()
    process = place.start(paths, *FOREVER)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    assert isinstance(state_of(paths.directory), Running)
    with pytest.raises(Conflict, match="is running"):
        place.run("true", paths=paths)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    process.communicate()
    assert state_of(paths.directory) == Exited(7)


def test_the_third_interrupt_kills(place: Bench) -> None:
    process = place.start(place.container(), "sh", "-c", "trap 'echo no' INT; echo ready; while :; do sleep 0.02; done")
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"no\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 137
    process.communicate()


def test_kill_by_another_process(place: Bench) -> None:
    paths = place.container()
    process = place.start(paths, *FOREVER)
    assert process.stdout
    process.stdout.readline()
    send_signal(paths.directory, signal.SIGKILL)
    assert process.wait(10) == 137
    process.communicate()
    assert state_of(paths.directory) == Exited(137)
    with pytest.raises(Conflict, match="not running"):
        send_signal(paths.directory, signal.SIGKILL)


def test_a_killed_caller_changes_nothing_for_the_container(place: Bench) -> None:
    paths = place.container()
    process = place.start(paths, *FOREVER)
    assert process.stdout
    process.stdout.readline()
    process.kill()
    process.wait()
    assert isinstance(state_of(paths.directory), Running)
    send_signal(paths.directory, signal.SIGTERM)
    assert eventually(lambda: isinstance(state := state_of(paths.directory), Exited) and state) == Exited(7)
    process.communicate()


def test_a_killed_supervisor(place: Bench) -> None:
    paths = place.container()
    process = place.start(paths, *FOREVER)
    assert process.stdout
    process.stdout.readline()
    run = state.load_run(paths.directory)
    assert run
    assert run.init
    os.kill(run.supervisor.pid, signal.SIGKILL)
    assert process.wait(10) == 125
    assert b"supervisor was killed; the container may still be running" in process.communicate()[1]
    assert state_of(paths.directory) == Running(run.init.pid, supervised=False)
    with pytest.raises(Conflict, match="is running"):
        place.run("true", paths=paths)
    send_signal(paths.directory, signal.SIGKILL)
    assert eventually(lambda: isinstance(state := state_of(paths.directory), Exited) and state) == Exited(None)
    assert place.leftovers()  # the engine's state, a cgroup: the next start removes them
    assert place.run("echo", "again", paths=paths) == (0, "again\n")
    assert state_of(paths.directory) == Exited(0)


def test_everything_killed_at_once(place: Bench) -> None:
    paths = place.container()
    process = place.start(paths, *FOREVER)
    assert process.stdout
    process.stdout.readline()
    run = state.load_run(paths.directory)
    assert run
    assert run.init
    os.kill(run.supervisor.pid, signal.SIGKILL)
    os.kill(run.init.pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    assert eventually(lambda: isinstance(state := state_of(paths.directory), Exited) and state) == Exited(None)
    assert place.leftovers()
    sweep(paths)
    assert not place.leftovers()


def failing_at(number: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """There are too few descriptors for one call."""
    calls = itertools.count()

    def wrapper(*arguments: object) -> Any:
        if next(calls) == number:
            raise OSError(errno.EMFILE, "too many open files")
        return call(*arguments)

    return wrapper


@pytest.mark.parametrize("failing", [None, *range(12)])
def test_what_stands_still_and_is_unknown_to_its_engine_is_removed(
    place: Bench, monkeypatch: pytest.MonkeyPatch, failing: int | None
) -> None:
    """A live commit that was killed leaves it frozen; in v1 nothing of it can end before it is thawed in one tree. That
    a directory cannot be listed just then is no reason to leave a cgroup."""
    paths = place.container()
    process = place.start(paths, *FOREVER)
    assert process.stdout
    process.stdout.readline()
    run = state.load_run(paths.directory)
    assert run
    Cgroup.of(run.container).freeze()
    os.kill(run.supervisor.pid, signal.SIGKILL)
    process.communicate()
    shutil.rmtree(paths.engine_state / run.container)
    try:
        with monkeypatch.context() as patched:
            if failing is not None:
                for name in ("scandir", "listdir"):
                    patched.setattr(os, name, failing_at(failing, getattr(os, name)))
            assert remove_cgroups(run.container)
        assert not place.leftovers()
    finally:
        with suppress(EngineError):  # it is in none any more
            Cgroup.of(run.container).thaw()
        if run.init is not None and run.init.alive():
            os.kill(run.init.pid, signal.SIGKILL)


def test_another_boot_or_an_unfinished_start(place: Bench) -> None:
    paths = place.container()
    me = state.Process.of(os.getpid())
    assert me
    gone = state.Process(me.pid, me.start - 1)
    state.save_run(paths.directory, state.Run("r", paths.directory.name, "another boot", "crun", me, me))
    assert state_of(paths.directory) == Exited(None)
    state.save_run(paths.directory, state.Run("r", paths.directory.name, state.boot_id(), "crun", me))
    assert state_of(paths.directory) == Starting()
    state.save_run(paths.directory, state.Run("r", paths.directory.name, state.boot_id(), "crun", gone, gone))
    assert state_of(paths.directory) == Exited(None)
    paths.pid_file.write_text(str(me.pid))
    state.save_run(paths.directory, state.Run("r", paths.directory.name, state.boot_id(), "crun", gone))
    assert state_of(paths.directory) == Exited(None)  # the pid file's process is not in the container's cgroup
    state.save_exit(paths.directory, state.Run("earlier", "", "", "", gone), Exited(0))
    assert state_of(paths.directory) == Exited(None)


def test_detached(place: Bench, tmp_path: Path) -> None:
    paths = place.container()
    with (tmp_path / "log").open("wb") as log:
        code = launch(paths, place.spec(paths, *FOREVER), {}, place.root(), detach=True, log=log.fileno())
    assert code == 0
    eventually(lambda: (tmp_path / "log").read_text() == "ready\n")
    send_signal(paths.directory, signal.SIGTERM)
    assert eventually(lambda: isinstance(state := state_of(paths.directory), Exited) and state) == Exited(7)


def test_detached_with_a_terminal(place: Bench, tmp_path: Path) -> None:
    paths = place.container()
    with (tmp_path / "log").open("wb") as log:
        launch(paths, place.spec(paths, "tty", tty=True), {}, place.root(), detach=True, log=log.fileno())
    eventually(lambda: isinstance(state_of(paths.directory), Exited))
    eventually(lambda: (tmp_path / "log").read_bytes() == b"/dev/pts/0\r\n")


def test_a_lease_is_held_until_the_end_but_not_by_the_container(place: Bench, tmp_path: Path) -> None:
    paths = place.container()
    reader, writer = os.pipe()
    with (tmp_path / "log").open("wb") as log:
        spec = place.spec(paths, *FOREVER)
        launch(paths, spec, {}, place.root(), hold=(writer,), detach=True, log=log.fileno())
    eventually(lambda: (tmp_path / "log").read_text() == "ready\n")
    os.close(writer)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    run = state.load_run(paths.directory)
    assert run
    assert run.init
    pipe = os.readlink(f"/proc/self/fd/{reader}")
    assert pipe not in [os.readlink(path) for path in Path(f"/proc/{run.init.pid}/fd").iterdir()]
    assert pipe in [os.readlink(path) for path in Path(f"/proc/{run.supervisor.pid}/fd").iterdir()]
    send_signal(paths.directory, signal.SIGTERM)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # once the supervisor has ended
    assert state_of(paths.directory) == Exited(7)
    os.close(reader)


def test_a_process_that_nobody_has_noted_is_ended(place: Bench) -> None:
    """An engine that is killed when it has started the container, and has written nothing down, leaves it so."""
    paths = place.container()
    with place.start(paths, *FOREVER) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"ready\n"
        run = state.load_run(paths.directory)
        assert run is not None
        assert run.init is not None
        shutil.rmtree(paths.engine_state / run.container)
        os.kill(run.supervisor.pid, signal.SIGKILL)
        caller.wait()
    group = Cgroup.of(run.container)
    assert group.processes()
    state.save_run(paths.directory, replace(run, init=None))
    assert state_of(paths.directory) == Exited(None)
    sweep(paths)
    assert not group.exists
    eventually(lambda: not run.init.alive())  # type: ignore[union-attr]


def test_what_an_engine_left_half_written_goes_too(place: Bench) -> None:
    """It cannot read that itself: a write that was cut short, or a kill."""
    paths = place.container()
    place.run("true", paths=paths)
    run = state.load_run(paths.directory)
    assert run is not None
    left = paths.engine_state / run.container
    left.mkdir()
    for name in ("config.json", "status", "state.json"):
        (left / name).write_text('{"ociVer')
    sweep(paths)
    assert not left.exists()
    assert place.run("echo", "again", paths=paths) == (0, "again\n")
