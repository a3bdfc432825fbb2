"""The caller's side of a connection to a supervisor: of who runs a container, and of who attaches to one that runs."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from runtime.state import is_running
from runtime.supervision.attachments import Message, Peer, knock
from runtime.supervision.rebuilding import rebuild
from runtime.system.signals import FORWARDED, SignalPipe
from runtime.system.terminal import DETACH_KEYS, OutputLost, TerminalProxy, raw_mode
from vcs.errors import Conflict, EngineError

_REACH_SECONDS = 2.0
_PAUSE = 0.01


class Left(Exception):
    """The user typed the keys to leave; the container goes on."""


class Caller:
    """A process that waits for a container, lends it its terminal, and passes signals on."""

    def __init__(
        self,
        control: Peer,
        signals: SignalPipe,
        *,
        interactive: bool,
        detach: bool = False,
        started: Callable[[], None] | None = None,
        keys: bytes = DETACH_KEYS,
        instead: Callable[[int], int] | None = None,
        stays: bool = True,
    ) -> None:
        self._control = control
        self._signals = signals
        self._interactive = interactive
        self._detach = detach
        self._started = started
        self._keys = keys
        self._instead = instead
        self._stays = stays
        """Also when there is no more output to be had: who runs the container waits for its end."""
        self._proxy: TerminalProxy | None = None
        self._lost: OSError | None = None
        self._stack = ExitStack()

    def wait(self) -> int | None:
        """The exit code, None if nobody saw it. Raises what the supervisor reported, and Left."""
        with self._stack:
            while True:
                done, code = self._step()
                if done:
                    if self._proxy:
                        self._proxy.drain()
                    if self._lost:
                        raise OutputLost.since(self._lost)
                    return code

    def _step(self) -> tuple[bool, int | None]:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._signals.fd, select.POLLIN)
        for fd, events in (self._proxy.interests() if self._proxy else {}).items():
            poll.register(fd, events)
        result: tuple[bool, int | None] = False, None
        for fd, events in poll.poll():
            if fd == self._signals.fd:
                self._forward(self._signals.read())
            elif fd == self._control.fileno():
                result = self._receive()
            elif self._proxy:
                self._proxy.ready(fd, events)
        if self._proxy and self._proxy.wants_to_leave:
            self._leave()
        return result

    def _forward(self, numbers: list[int]) -> None:
        for number in numbers:
            if number != signal.SIGWINCH:
                self._control.send({"signal": self._instead(number) if self._instead else number})
            elif self._proxy:
                self._resize()

    def _resize(self) -> None:
        if self._proxy and (size := self._proxy.size()):
            self._control.send({"resize": size})

    def _leave(self) -> None:
        """Go, once the supervisor knows that it is not to hang up."""
        self._control.send({"leave": True})
        while (message := self._control.receive()) is not None:
            if "left" in message.fields or "exit" in message.fields:
                break
        raise Left

    def _receive(self) -> tuple[bool, int | None]:
        message = self._control.receive()
        if message is None:
            raise EngineError("the container's supervisor was killed; the container may still be running")
        fields = message.fields
        if "error" in fields:
            raise rebuild(fields)
        if "terminal" in fields and message.fds:
            self._take_terminal(message)
        if "lost" in fields:
            self._lost = OSError(fields["lost"], os.strerror(fields["lost"]))
            if not self._stays:
                raise OutputLost.since(self._lost)
        if "started" in fields:
            if self._started:
                self._started()
            if self._detach:
                return True, 0
        return "exit" in fields, fields.get("exit")

    def _take_terminal(self, message: Message) -> None:
        if self._interactive:
            self._stack.enter_context(raw_mode(0))
        source = 0 if self._interactive else None
        self._proxy = TerminalProxy(message.fds[0], source, 1, self._keys)
        self._stack.callback(self._proxy.close)
        self._resize()


def attach(directory: Path, *, interactive: bool, proxy_signals: bool = True, keys: bytes = DETACH_KEYS) -> int | None:
    """Stand at a running container's standard streams until it ends; its exit code, None if nobody saw it.

    Conflict if it does not run, or if its supervisor is being replaced. Left if the user leaves. OutputLost as soon as
    he cannot be given what it prints; the container goes on.
    """
    control = _reach(directory)
    numbers = (*FORWARDED, signal.SIGWINCH) if proxy_signals else (signal.SIGWINCH,)
    try:
        with SignalPipe(numbers) as signals:
            fds = [1, 2, *([0] if interactive else [])]
            control.send({"attach": "in" if interactive else "out"}, *fds)
            return Caller(control, signals, interactive=interactive, keys=keys, stays=False).wait()
    finally:
        control.close()


def _reach(directory: Path) -> Peer:
    """The container's supervisor, which may just be handing over to another."""
    deadline = time.monotonic() + _REACH_SECONDS
    while True:
        try:
            return knock(directory)
        except OSError:
            if time.monotonic() > deadline or not is_running(directory):
                raise Conflict("nobody can be reached at the container's streams", container=directory.name) from None
            time.sleep(_PAUSE)
