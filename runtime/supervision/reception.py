"""A supervisor's dealings with its caller and with those who attach (`attachments` has the messages)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.engine import FAILED
from runtime.supervision.attachments import Door, Message, Peer
from runtime.supervision.rebuilding import error_fields
from runtime.supervision.stdio import Stdio
from runtime.system.streams import Input, Sink
from runtime.system.terminal import set_window_size
from vcs.errors import EngineError


class Reception:
    """Everybody who talks to a supervisor. `deliver` passes a signal on to the container."""

    def __init__(self, caller: Peer | None, deliver: Callable[[Iterable[int]], None]) -> None:
        self.caller = caller
        """Who runs the container in the foreground, or waits until it is started."""
        self.stdio: Stdio | None = None
        """The streams of the present run."""
        self.init = 0
        self._deliver = deliver
        self._door: Door | None = None
        self._others: list[Peer] = []
        self._streams: dict[Peer, list[Sink | Input]] = {}
        """Those of who is attached to a container without a terminal."""

    def open(self, directory: Path) -> None:
        """Let others attach. If the socket cannot be made, nobody can."""
        with suppress(OSError):
            self._door = Door(directory)

    def close(self) -> None:
        """Let nobody in any more."""
        if self._door:
            self._door.close()
            self._door = None

    @property
    def is_empty(self) -> bool:
        """Whether nobody is there."""
        return not self._everybody()

    def admit(self, peer: Peer) -> None:
        """Talk to somebody who has knocked elsewhere."""
        self._others.append(peer)

    @property
    def fds(self) -> list[int]:
        """What to poll for input."""
        door = [self._door.fileno()] if self._door else []
        return [*door, *(peer.fileno() for peer in self._everybody())]

    def serve(self, ready: Container[int]) -> None:
        """Do what those ask for whose descriptors are `ready`."""
        for peer in self._everybody():
            if peer.fileno() in ready:
                self._listen(peer)
        if self._door and self._door.fileno() in ready and (knocking := self._door.accept()):
            self._others.append(knocking)

    def tell_caller(self, fields: dict[str, Any]) -> None:
        """Send the caller a message, if there is one."""
        if self.caller:
            self.caller.send(fields)

    def tell_all(self, fields: dict[str, Any]) -> None:
        """Send everybody a message."""
        for peer in self._everybody():
            peer.send(fields)

    def hang_up(self) -> None:
        """Have no caller any more."""
        if self.caller:
            self.caller.close()
            self.caller = None

    def give_terminal(self, peer: Peer | None, terminal: socket.socket | None) -> None:
        """Send somebody his end of the container's terminal."""
        if terminal is not None:
            with terminal:
                if peer:
                    peer.send({"terminal": True}, terminal.fileno())

    def _everybody(self) -> list[Peer]:
        return [*([self.caller] if self.caller else []), *self._others]

    def _listen(self, peer: Peer) -> None:
        message = peer.receive()
        if message is None:
            self._leave(peer)
            return
        try:
            self._obey(peer, message)
        except OSError as error:  # no more descriptors, say: who asked for much is told, and nobody else suffers
            for fd in message.fds:
                with suppress(OSError):
                    os.close(fd)
            peer.send(error_fields(EngineError(f"the supervisor could not do that: {error.strerror}"), FAILED))
            self._leave(peer)

    def _leave(self, peer: Peer) -> None:
        if peer is not self.caller:
            self._others.remove(peer)
            peer.close()
            if self.stdio:
                self.stdio.dismiss(self._streams.pop(peer, ()))
            return
        self.hang_up()
        if self.stdio:
            self.stdio.caller_left()

    def _obey(self, peer: Peer, message: Message) -> None:
        stdio = self.stdio
        match message.fields:
            case {"signal": int(number)}:
                self._deliver([number])
            case {"resize": [int(columns), int(rows)]} if stdio and stdio.master is not None:
                with suppress(OSError):  # it is about to end
                    set_window_size(stdio.master, (columns, rows))
            case {"leave": True}:
                if peer is self.caller and stdio:
                    stdio.disown()
                peer.send({"left": True})
            case {"attach": way} if stdio:
                self._attach(peer, stdio, way == "in", message.fds)
                return
        for fd in message.fds:
            os.close(fd)

    def _attach(self, peer: Peer, stdio: Stdio, with_input: bool, fds: tuple[int, ...]) -> None:
        def lost(error: OSError) -> None:
            peer.send({"lost": error.errno})

        peer.send({"started": self.init})
        used = 0
        if stdio.master is not None:
            self.give_terminal(peer, stdio.attach_terminal(lost=lost))
        elif len(fds) >= 2:
            stdin = fds[2] if with_input and len(fds) > 2 else None
            self._streams[peer] = stdio.attach(stdin, fds[0], fds[1], lost)
            used = 2 if stdin is None else 3
        for fd in fds[used:]:
            os.close(fd)
