"""A container's terminal, through a pseudoterminal that plays the user's."""

from __future__ import annotations

import os
import pty
import select
import signal
import termios
import time
from collections.abc import Iterator

import pytest

from runtime.state import Exited, Running, state_of
from runtime.system.terminal import set_window_size
from tests.support.containers import PROJECT, Bench, bench, environment, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WAITING = ("sh", "-c", "trap 'exit 8' HUP; echo up; while :; do sleep 0.02; done")


@pytest.fixture(scope="module", params=["crun", "runc"])
def place(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as made:
        yield made


class User:
    """Somebody at a terminal who starts a command. `seen` is what the screen has shown."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(PROJECT)
            os.execve(command[0], command, environment())
        set_window_size(self.fd, (91, 17))
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def expect(self, text: bytes) -> None:
        """Wait until the screen shows this after what was expected before."""
        deadline = time.monotonic() + 10
        while text not in self.seen:
            assert select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0], (text, self.seen)
            try:
                self.seen += os.read(self.fd, 4096)
            except OSError:
                pytest.fail(f"the terminal closed; wanted {text!r}, saw {self.seen!r}")
        self.seen = self.seen.partition(text)[2]

    def modes(self) -> list[object]:
        return termios.tcgetattr(self.fd)[:4]

    def finish(self) -> int:
        """Read to the end; the exit code."""
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            if not data:
                break
            self.seen += data
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def wait_for_raw(user: User) -> None:
    eventually(lambda: not int(user.modes()[3]) & termios.ECHO)  # type: ignore[call-overload]


def test_a_shell_at_a_terminal(place: Bench) -> None:
    # The outer shell stands for the user's: it looks at the terminal after the container has ended.
    command = place.command(place.container(), "sh", tty=True, interactive=True)
    user = User(["/bin/sh", "-c", 'stty -a > "$0.before"; "$@"; echo "code $?"', str(place.path / "stty"), *command])
    before = user.modes()
    wait_for_raw(user)
    user.type(b"tty; stty size; echo $TERM\r")
    user.expect(b"/dev/pts/0\r\n17 91\r\nxterm\r\n")
    set_window_size(user.fd, (120, 40))
    user.type(b"until [ \"$(stty size)\" = '40 120' ]; do :; done; echo resi''zed\r")
    user.expect(b"resized")
    nap = b"%d" % (100_000 + os.getpid())  # no other test's, should one run beside this
    user.type(b"sleep " + nap + b"; echo slept:$''?\r")
    user.expect(b"$''?\r\n")
    eventually(lambda: b"sleep\x00" + nap + b"\x00" in b"".join(_processes()))
    user.type(b"\x03")
    user.expect(b"^C")
    user.type(b"echo a''live\r")
    user.expect(b"alive")
    user.type(b"exit 9\r")
    user.expect(b"code 9")
    assert user.modes() == before
    assert user.finish() == 0


def _processes() -> Iterator[bytes]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    yield file.read()
            except OSError:
                continue


def test_without_a_terminal_of_its_own_it_does_not_get_ours(place: Bench) -> None:
    script = "for n in 0 1 2; do readlink /proc/self/fd/$n; done; read line; echo got $line; cat; exit 6"
    user = User(place.command(place.container(), "sh", "-c", script, interactive=True))
    for _ in range(3):
        user.expect(b"pipe:[")
    user.type(b"this\r")
    user.expect(b"got this")
    user.type(b"\x04")
    assert user.finish() == 6


def test_a_long_output_is_whole(place: Bench) -> None:
    user = User(place.command(place.container(), "seq", "20000", tty=True))
    assert user.finish() == 0
    assert user.seen.split() == [b"%d" % number for number in range(1, 20001)]


def test_input_from_a_pipe_ends_with_end_of_file(place: Bench) -> None:
    process = place.start(place.container(), "sh", "-c", "stty -echo; cat; exit 4", tty=True, interactive=True)
    out, err = process.communicate(b"some\nlines\n")
    assert process.returncode == 4
    assert err == b""
    assert out.decode().endswith("some\r\nlines\r\n")


def test_a_terminal_that_goes_away_hangs_up(place: Bench) -> None:
    paths = place.container()
    user = User(place.command(paths, *WAITING, tty=True, interactive=True))
    user.expect(b"up")
    assert isinstance(state_of(paths.directory), Running)
    os.close(user.fd)
    assert eventually(lambda: isinstance(state := state_of(paths.directory), Exited) and state) == Exited(8)
    os.waitpid(user.pid, 0)


def test_a_killed_caller_hangs_up(place: Bench) -> None:
    paths = place.container()
    user = User(place.command(paths, *WAITING, tty=True, interactive=True))
    user.expect(b"up")
    os.kill(user.pid, signal.SIGKILL)
    os.waitpid(user.pid, 0)
    assert eventually(lambda: isinstance(state := state_of(paths.directory), Exited) and state) == Exited(8)
    os.close(user.fd)


def test_an_engine_that_fails_leaves_the_terminal_as_it_was(place: Bench) -> None:
    user = User(place.command(place.container(), "true", tty=True, interactive=True, hostname="x" * 300))
    before = user.modes()
    user.expect(b"could not start the container")
    assert user.modes() == before
    assert user.finish() == 125
