"""The fork server: a command that it runs is no different from one that runs by itself, and never fails for it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PROJECT, Cli, environment
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually, is_gone
from tests.support.processes import children_of

SECONDS = 60
CLIENT = (
    "import os, sys\n"
    "from runtime.cli import client\n"
    "code = client.call(sys.argv)\n"
    "os._exit(code if code >= 0 else 99)\n"
)
"""A client that ends with 99 where it would have to go the plain way."""


@dataclass
class Served:
    """Commands on one store, by a fork server of their own."""

    store: Path
    run_directory: Path

    @property
    def environment(self) -> dict[str, str]:
        # Commits of the same second come in the order of a set.
        more = {"TREERING_FORK_SERVER": "1", "XDG_RUNTIME_DIR": str(self.run_directory), "PYTHONHASHSEED": "0"}
        return environment(self.store, more)

    def run(self, command: Sequence[str], **settings: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end. Its output goes through files: whoever holds a pipe could keep us waiting."""
        settings.setdefault("env", self.environment)
        settings.setdefault("stdin", subprocess.DEVNULL)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(command, stdout=out, stderr=err, timeout=SECONDS, check=False, **settings)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, out.read(), err.read())

    def __call__(self, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
        """The `treering` command, whichever way it goes."""
        return self.run([sys.executable, "-P", "-m", "runtime.cli", *arguments], **settings)

    def forked(self, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
        """A command by the server; 99 if it would have gone the plain way."""
        return self.run([*self.client, *arguments], **settings)

    @property
    def client(self) -> list[str]:
        return [sys.executable, "-P", "-c", CLIENT]

    def start(self) -> int:
        """Have a server started, as users do; its process id once it serves."""
        assert self("branch").returncode == 0
        eventually(lambda: self.forked("branch").returncode == 0)
        return self.pid

    @property
    def pid(self) -> int:
        (lock,) = (self.run_directory / "treering").glob("fork-*.lock")
        return int(lock.read_text())

    def sockets(self) -> list[Path]:
        return list((self.run_directory / "treering").glob("*.sock"))

    def close(self) -> None:
        for lock in (self.run_directory / "treering").glob("fork-*.lock"):
            if is_locked(lock) and lock.read_text():
                with suppress(ProcessLookupError):
                    os.kill(int(lock.read_text()), signal.SIGKILL)
            eventually(lambda lock=lock: not is_locked(lock))
        eventually(lambda: not [*self.run_directory.glob("treering/.rehearsal-*")])


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def children(pid: int) -> list[int]:
    """Those of a server that run a command line."""
    return named(pid, "treering")


def waiting(pid: int) -> list[int]:
    """The one that waits for a client, if there is one just now."""
    return named(pid, "treering-next")


def named(pid: int, name: str) -> list[int]:
    found = []
    for child in children_of(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/comm").read_text() == f"{name}\n":
                found.append(child)
    return found


@pytest.fixture
def served(cli: Cli) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="treering-fork-") as place:
        made = Served(cli.store, Path(place))
        yield made
        made.close()


@pytest.fixture
def box(box: Cli, served: Served) -> Served:
    """The same, for containers."""
    return served


# -- the same


LINES = [
    [], ["--help"], ["log", "--help"], ["nonsense"], ["log", "--nonsense"], ["log"], ["log", "--oneline", "other"],
    ["--format", "json", "log"], ["log", "--format", "jsonl"], ["log", "nowhere"],
    ["--format", "json", "log", "nowhere"], ["show", "main"], ["show", "main:/etc/motd"], ["diff", "main~1", "main"],
    ["diff", "--stat", "main~1", "other"],
    ["diff", "--exit-code", "main~1", "main"], ["branch"], ["branch", "--format", "json"], ["tag"], ["reflog", "main"],
    ["ls", "other:/"], ["ls", "-l", "main:/etc"], ["cat", "main:/etc/motd"], ["cat", "main:/etc/added"], ["ps"],
    ["ps", "-a", "--format", "json"], ["du"], ["stats", "--no-stream"], ["fsck"], ["gc", "--dry-run"],
    ["export", "main", "-"],
    ["completion", "bash"], ["run", "nowhere", "true"], ["status", "nobody"], ["--store", "/nowhere", "log"], ["init"],
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_output_is_the_same_both_ways(shared: Served, line: list[str]) -> None:
    plain = shared(*line, env={**shared.environment, "TREERING_FORK_SERVER": "0"})
    forked = shared.forked(*line)
    assert untimed(forked) == untimed(plain)


def untimed(done: subprocess.CompletedProcess[bytes]) -> tuple[int, bytes, bytes]:
    """What a command has answered, but how long it took."""
    return done.returncode, done.stdout, re.sub(rb"in \d+\.\d s$", b"in TIME", done.stderr, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def shared(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for commands that change nothing."""
    store = tmp_path_factory.mktemp("shared") / "store"
    shutil.copytree(prepared, store, symlinks=True)
    with tempfile.TemporaryDirectory(prefix="treering-fork-") as place:
        made = Served(store, Path(place))
        made.start()
        yield made
        made.close()


def test_what_comes_by_standard_input_and_relative_paths(served: Served, tmp_path: Path) -> None:
    served.start()
    archive = served.forked("export", "main", "-").stdout
    (tmp_path / "archive").write_bytes(archive)
    with (tmp_path / "archive").open("rb") as file:
        assert served.forked("import", "-", "-b", "piped", "-m", "again", stdin=file).returncode == 0
    assert served.forked("diff", "--exit-code", "main", "piped").stdout == b""
    make_busybox_root(tmp_path / "here/root")
    assert served.forked("import", "root", "-b", "relative", "-m", "x", cwd=tmp_path / "here").returncode == 0


PROBE = [sys.executable, "-P", "-m", "tests.cli.fork_server_probe"]


@pytest.fixture
def probe(served: Served) -> Iterator[Served]:
    """A server whose children tell what they are like."""
    directory = served.run_directory / "treering"
    directory.mkdir(mode=0o700)
    name = served.run([*PROBE, "name"]).stdout.decode()
    lock = os.open(directory / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    process = subprocess.Popen(
        [*PROBE, "server", str(lock)], env=served.environment, pass_fds=[lock], cwd=PROJECT,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(lock)
    try:
        eventually(served.sockets)
        yield served
    finally:
        process.kill()
        process.wait(SECONDS)


SHELL = {
    "nothing": "",
    "directory": "cd /usr/share",
    "umask": "umask 027",
    "variables": "export SECRET=x TZ=Asia/Tokyo COLUMNS=33; unset HOSTNAME",
    "limits": "ulimit -n 300; ulimit -c 0",
    "descriptors": "exec 3</dev/zero 9>/dev/full",
    "nice": "renice -n 5 $$ >/dev/null",
    "ignored": "trap '' HUP INT TERM USR1",
    "memory": "echo 500 >/proc/self/oom_score_adj",
    "output": "exec 2>/dev/full",
}


@pytest.mark.parametrize("before", SHELL.values(), ids=SHELL)
def test_a_child_is_like_its_client(probe: Served, before: str) -> None:
    found = []
    for how in ("plain", "client"):
        script = f'{before}\nexec "$@"'
        done = probe.run(["sh", "-c", script, "sh", *PROBE, how, "one", "", "t wo\n", "\udcff"], cwd=PROJECT)
        assert done.returncode == 7, done
        found.append(json.loads(done.stdout))
        del found[-1]["descriptors"]["1"]
        found[-1]["descriptors"].pop("2")
    assert found[0] == found[1]


def test_a_command_leaves_nothing_for_the_next(probe: Served) -> None:
    with_secret = {**probe.environment, "SECRET": "x"}
    first = probe.run([*PROBE, "client"], env=with_secret, cwd=PROJECT)
    assert json.loads(first.stdout)["environment"]["SECRET"] == "x"
    assert "SECRET" not in json.loads(probe.run([*PROBE, "client"], cwd=PROJECT).stdout)["environment"]


def test_a_server_has_no_variable_that_it_does_not_need(served: Served) -> None:
    assert served("branch", env={**served.environment, "SECRET": "x"}).returncode == 0
    eventually(lambda: served.forked("branch").returncode == 0)
    assert b"SECRET" not in Path(f"/proc/{served.pid}/environ").read_bytes()


# -- the plain way


@pytest.mark.parametrize(
    "different",
    [{"TREERING_FORK_SERVER": "0"}, {"HOME": "/"}, {"PYTHONOPTIMIZE": "1"}, {"LC_ALL": "C"}],
    ids=lambda different: next(iter(different)),
)
def test_what_differs_goes_the_plain_way(served: Served, different: dict[str, str]) -> None:
    served.start()
    assert served.forked("branch", env={**served.environment, **different}).returncode == 99


def test_who_signs_at_a_terminal_goes_the_plain_way(served: Served) -> None:
    """A key's passphrase is asked for there."""
    served.start()
    words = ("tag", "v9", "main", "-m", "words")
    ours, theirs = os.openpty()
    try:
        assert served.forked(*words, "--key", "/nonexistent", stdin=theirs).returncode == 99
        assert served.forked(*words, "-s", stdin=theirs).returncode == 99
        assert served.forked(*words, "--dry-run", stdin=theirs).returncode == 0
    finally:
        os.close(ours)
        os.close(theirs)
    assert served.forked(*words, "--key", "/nonexistent").returncode == 125


def test_a_closed_stream_goes_the_plain_way(served: Served) -> None:
    served.start()
    done = served.run(["sh", "-c", 'exec "$@" <&-', "sh", *served.client, "branch"])
    assert done.returncode == 99


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_directory_that_others_can_enter_is_not_trusted(served: Served, mode: int) -> None:
    pid = served.start()
    (served.run_directory / "treering").chmod(mode)
    assert served.forked("branch").returncode == 99
    assert served("branch").stdout.startswith(b"main")
    os.kill(pid, 0)


def test_a_killed_server_is_replaced(served: Served) -> None:
    os.kill(served.start(), signal.SIGKILL)
    done = served("branch")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"main")
    eventually(lambda: served.forked("branch").returncode == 0)


def test_a_server_that_hangs_delays_one_command(served: Served) -> None:
    pid = served.start()
    stopped = eventually(lambda: waiting(pid))
    for process in (pid, *stopped):
        os.kill(process, signal.SIGSTOP)
    try:
        done = served("branch")
        assert (done.returncode, done.stderr) == (0, b"")
        assert not served.sockets()
    finally:
        for process in (*stopped, pid):
            os.kill(process, signal.SIGCONT)
    eventually(lambda: all(map(is_gone, (pid, *stopped))))  # it has seen that its socket is not there any more


def test_a_client_that_has_gone_on_gets_no_word(served: Served) -> None:
    """Who waited too long runs the command itself, and the child has his standard error by then."""
    served.start()
    client = (
        "import os, sys\n"
        "from runtime.cli import client\n"
        "def deaf(*arguments, ask=client._Call._ask):\n"
        "    arguments[0]._connection.shutdown(0)  # nothing can be sent to it, before anything is asked\n"
        "    return ask(*arguments)\n"
        "client._Call._ask = deaf\n"
        "assert client.call(sys.argv) == client.ALONE\n"
        "os.close(2)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-P", "-c", client, "branch"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=served.environment
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.communicate()
    assert process.returncode == 0


def test_a_killed_child_that_waits_is_replaced(served: Served) -> None:
    pid = served.start()
    (killed,) = eventually(lambda: len(found := waiting(pid)) == 1 and found)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: waiting(pid) not in ([], [killed]))
    assert served.forked("branch").returncode == 0
    assert served.pid == pid


def test_a_changed_program_is_not_run_by_an_old_server(cli: Cli, tmp_path: Path) -> None:
    for package in ("vcs", "fusefs", "runtime"):
        shutil.copytree(PROJECT / package, tmp_path / "program" / package)
    with tempfile.TemporaryDirectory(prefix="treering-fork-") as place:
        served = _Elsewhere(cli.store, Path(place), tmp_path / "program")
        try:
            pid = served.start()
            refs = tmp_path / "program/runtime/cli/refs.py"
            refs.write_text(refs.read_text().replace("List, make, move", "Do what you like,"))
            assert b"Do what you like" in served("branch", "--help").stdout
            eventually(lambda: is_gone(pid))
            # Whoever was refused by the old one has started a new one only if that was gone by then.
            assert b"Do what you like" in served("branch", "--help").stdout
            eventually(lambda: b"Do what you like" in served.forked("branch", "--help").stdout)
        finally:
            served.close()


@dataclass
class _Elsewhere(Served):
    program: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(self.program)}


def test_a_server_is_told_of_and_stopped(served: Served) -> None:
    pid = served.start()
    assert json.loads(served("service", "--format", "json").stdout)["fork_servers"] == [pid]
    assert f"process {pid}" in served("service").stdout.decode()
    assert served("service", "stop").returncode == 0
    assert is_gone(pid)
    assert json.loads(served("service", "--format", "json").stdout)["fork_servers"] == []
    assert not served.sockets()


def test_many_commands_at_once(served: Served) -> None:
    served.start()
    with tempfile.TemporaryFile() as output:
        running = [
            subprocess.Popen(
                [*served.client, "log", "--format", "json"], env=served.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.DEVNULL,
            )
            for _ in range(12)
        ]  # fmt: skip
        codes = {process.wait(SECONDS) for process in running}
    assert codes <= {0, 99}  # a busy machine may miss a deadline
    assert 0 in codes


# -- signals and deaths


def sleeper(box: Served, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    """A client in the foreground of a container that runs for long, and the server's child for it."""
    server = box.start()
    process = subprocess.Popen(
        [*box.client, "run", *options, "--name", "sleeper", "--network", "none", "main", "sh", "-c",
         "trap 'exit 9' USR1; echo begun; while :; do sleep 0.05; done"],
        env=box.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    (child,) = children(server)
    return process, child


def test_signals_are_passed_on(box: Served) -> None:
    process, child = sleeper(box)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(SECONDS) == 9
    eventually(lambda: is_gone(child))


def test_a_killed_client_takes_its_child_with_it_but_not_the_container(box: Served) -> None:
    process, child = sleeper(box)
    process.kill()
    process.wait(SECONDS)
    eventually(lambda: is_gone(child))
    assert b"sleeper" in box.forked("ps").stdout


def test_a_killed_child_is_a_killed_client(box: Served) -> None:
    process, child = sleeper(box)
    os.kill(child, signal.SIGKILL)
    assert process.wait(SECONDS) == -signal.SIGKILL


def test_commands_outlive_their_server(box: Served) -> None:
    process, child = sleeper(box)
    os.kill(box.pid, signal.SIGKILL)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(SECONDS) == 9
    eventually(lambda: is_gone(child))


def test_a_stopped_client_stops_its_child(box: Served) -> None:
    process, child = sleeper(box)
    process.send_signal(signal.SIGTSTP)
    eventually(lambda: ") T " in Path(f"/proc/{child}/stat").read_text())
    eventually(lambda: ") T " in Path(f"/proc/{process.pid}/stat").read_text())
    process.send_signal(signal.SIGCONT)
    eventually(lambda: ") T " not in Path(f"/proc/{child}/stat").read_text())
    process.send_signal(signal.SIGUSR1)
    assert process.wait(SECONDS) == 9


def test_ctrl_c_ends_a_command_as_it_does_without_a_server(served: Served) -> None:
    served.start()
    codes = []
    for command in (served.client, [sys.executable, "-P", "-m", "runtime.cli"]):
        read, write = os.pipe()
        process = subprocess.Popen(
            [*command, "import", "-", "-m", "never"],
            env=served.environment, stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.write(write, b"x")
        eventually(lambda pipe=write: _is_drained(pipe))
        process.send_signal(signal.SIGINT)
        codes.append(process.wait(SECONDS))
        os.close(write)
    assert codes == [130, 130]


def _is_drained(pipe: int) -> bool:
    """Whether the other side has read all that was written."""
    waiting = fcntl.ioctl(pipe, 0x541B, b"\0\0\0\0")  # FIONREAD
    return waiting == b"\0\0\0\0"


# -- terminals


def on_terminal(served: Served, *words: str, env: dict[str, str]) -> str:
    """What a client shows on a terminal of its own, as the leader of its session."""
    pid, master = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [*served.client, *words], {**served.environment, "TERM": "xterm", **env})
    shown = b""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


def test_the_pager_has_the_terminal(served: Served, tmp_path: Path) -> None:
    served.start()
    pager = tmp_path / "pager"
    pager.write_text(
        "#!/bin/sh\necho \"$LESS $(tty </dev/tty >/dev/null && echo terminal)\"; exec sed 's/^/paged: /'\n"
    )
    pager.chmod(0o755)
    shown = on_terminal(served, "log", env={"TREERING_PAGER": str(pager)})
    assert "FRX terminal" in shown
    assert "paged: " in shown
    assert "paged: " not in on_terminal(served, "log", env={"TREERING_PAGER": "/nowhere/pager"})
    assert "first" not in on_terminal(served, "log", env={"TREERING_PAGER": "true"})


def test_a_pager_gets_an_environment_that_a_socket_does_not_hold(served: Served) -> None:
    """The child waits for room, while the kernel is to kill it when the client is gone."""
    served.start()
    large = {f"LARGE{number}": "x" * 120_000 for number in range(6)}
    assert "first" in on_terminal(served, "log", env={"TREERING_PAGER": "cat", **large})


def test_what_wants_the_terminal_goes_the_plain_way(served: Served) -> None:
    served.start()
    program = (
        "from runtime.cli import client\n"
        "lines = ['run -it main', 'run --rm -ti main sh', '--store /x exec -i name', 'attach name', 'start -ai name']\n"
        "print([client.call(['treering', *line.split()]) for line in lines])\n"
    )
    pid, master = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-P", "-c", program], served.environment)
    shown = os.read(master, 4096).decode().strip()
    os.waitpid(pid, 0)
    os.close(master)
    assert shown == str([-1] * 5)
