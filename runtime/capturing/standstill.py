"""A container stands still for a moment, and goes on whatever becomes of us.

    commit ──fork── keeper: freezes when told, and thaws when told, when the commit has ended, or when it takes too long

The keeper holds nothing but one end of a socket. If the commit is killed at whatever moment, the kernel closes the
other end, and the keeper thaws. If the keeper is killed, or cannot thaw, the commit thaws. If both are killed, or can
not, the next command that lists or commits containers thaws: the commit has noted in the container's directory that it
was about to freeze it.

On the socket (SOCK_SEQPACKET): `freeze` is answered by `frozen` or by why not; `thaw` by `thawed`, or by `late` if the
container has been going on for a while. A keeper that is killed, or cannot thaw, ends without an answer.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from runtime.cgroups import Cgroup, NoCgroup
from runtime.state import Process, read_json, write_json
from runtime.system import mounts
from runtime.system.descriptors import close_all_but
from vcs.errors import Conflict, EngineError, NoSpace
from vcs.existing import is_there

NOTE = "standstill.json"
"""In a container's directory: pid and start of the process that makes it stand still."""
LONGEST = 30.0
"""Seconds after which a container goes on in any case."""
_FREEZING = 10.0
_SLACK = 5.0
_ATTEMPTS = 2


class StaysFrozen(EngineError):
    """A container stands still that should go on."""


class Standstill:
    """Holds a cgroup still between freeze() and thaw(). A context manager: at its end the container goes on."""

    def __init__(self, group: Cgroup, longest: float = LONGEST) -> None:
        self._group = group
        self._frozen_at: float | None = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._keeper = os.fork()
        if not self._keeper:
            _keep(group, theirs, longest)
        theirs.close()

    def __enter__(self) -> Standstill:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._frozen_at is not None:
                with suppress(Conflict):
                    self.thaw()
        finally:
            self._socket.close()
            with suppress(ChildProcessError):
                os.waitpid(self._keeper, 0)

    def freeze(self) -> None:
        """Stop all processes. EngineError if they do not stop in time; then they go on, or it is a StaysFrozen."""
        self._frozen_at = time.monotonic()
        answer = self._ask(b"freeze", _FREEZING + _SLACK)
        if answer != b"frozen":
            self._frozen_at = None
            if answer:  # what failed after some stood may have failed for letting them go on, too
                _let_go_on(self._group)
            raise EngineError(answer.decode() or "the process that freezes the container was killed")

    def thaw(self) -> float:
        """Let all go on; returns for how long they stood (s). Conflict if they went on earlier: it took too long.
        StaysFrozen."""
        assert self._frozen_at is not None
        since, self._frozen_at = self._frozen_at, None
        answer = self._ask(b"thaw", _FREEZING + _SLACK)
        stood = time.monotonic() - since
        if answer == b"late":
            raise Conflict(f"the container could not be read in {LONGEST:g} s, so it went on; nothing was committed")
        return stood

    def _ask(self, what: bytes, seconds: float) -> bytes:
        """The keeper's answer. If there is none, the container is let go on: empty. StaysFrozen."""
        with suppress(OSError):
            self._socket.send(what)
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if poll.poll(seconds * 1000) and (answer := self._socket.recv(1024)):
                return answer
        _let_go_on(self._group)
        return b""


def freeze(directory: Path, group: Cgroup) -> None:
    """Stop all processes of a container, for as long as its user wants. EngineError if they do not stop in time; then
    they go on, or it is a StaysFrozen. If we are killed before all stand, they go on when somebody looks (release)."""
    with noted(directory):
        try:
            group.freeze()
        except EngineError:
            _let_go_on(group)
            raise


@contextmanager
def noted(directory: Path) -> Iterator[None]:
    """Note in a container's directory that we may freeze it, for as long as that is so, or it stays frozen."""
    me = Process.of(os.getpid())
    assert me is not None
    with suppress(OSError, NoSpace):  # a full disk keeps nobody from committing
        write_json(directory / NOTE, {"pid": me.pid, "start": me.start})
    try:
        yield
    except StaysFrozen:
        raise
    except BaseException:
        (directory / NOTE).unlink(missing_ok=True)
        raise
    (directory / NOTE).unlink(missing_ok=True)


def is_noted(directory: Path) -> bool:
    """Whether somebody makes a container stand still, or did and could not let it go on."""
    return is_there(directory / NOTE)


def release(directory: Path, group: Cgroup) -> None:
    """Let a container go on if whoever made it stand still was killed, or could not let it. Not for a process that
    makes it stand still itself."""
    noted = read_json(directory / NOTE)
    if noted is None or (noted["pid"] != os.getpid() and Process(noted["pid"], noted["start"]).alive()):
        return
    if _thaw(group):
        (directory / NOTE).unlink(missing_ok=True)


def _keep(group: Cgroup, control: socket.socket, longest: float) -> NoReturn:
    """The whole life of a keeper."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        close_all_but({control.fileno()})
        mounts.set_process_name(b"treering-still")
        if control.recv(64) == b"freeze":
            control.send(_answer_to_freeze(group))
            poll = select.poll()
            poll.register(control, select.POLLIN)
            late = not poll.poll(longest * 1000)
            goes_on = _thaw(group)
            if late:
                control.recv(64)
            if goes_on:
                control.send(b"late" if late else b"thawed")
    except BaseException:
        _thaw(group)
    finally:
        os._exit(0)


def _answer_to_freeze(group: Cgroup) -> bytes:
    try:
        group.freeze(_FREEZING)
    except EngineError as error:
        return str(error).encode()
    return b"frozen"


def _let_go_on(group: Cgroup) -> None:
    if not _thaw(group):
        raise StaysFrozen(
            "the container stands still, and should go on: its freezer cannot be used",
            advice="`treering ps` tries again",
        )


def _thaw(group: Cgroup) -> bool:
    """Whether it goes on, or has ended. What fails may do so for a moment only: too few descriptors, or no memory."""
    for _ in range(_ATTEMPTS):
        try:
            group.thaw()
        except NoCgroup:
            return True
        except EngineError:
            continue
        return True
    return False
