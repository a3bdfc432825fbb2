"""The end of a service's socket that clients connect to: who is let in, and when nobody can be.

Each running container is a connection. Where there is no descriptor left for one more, whoever connects waits in the
kernel's queue. That queue stays ready to be read, so a loop that went on looking at it would do nothing else: the
listener is left alone until the next tick, or until a client has left.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable
from selectors import EVENT_READ, BaseSelector

_log = logging.getLogger(__name__)

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


class Listener:
    """A listening socket in the holder's loop. Methods are called from there alone."""

    def __init__(
        self, listening: socket.socket, selector: BaseSelector, on_client: Callable[[socket.socket], None]
    ) -> None:
        """`listening` is ours from now on. `on_client` gets the connection of each client who is let in."""
        self._socket = listening
        self._selector = selector
        self._on_client = on_client
        self._is_paused = True
        self._is_said = False
        """Whether the log has it that nobody can be let in."""
        self.resume()

    def resume(self) -> None:
        """Look at those who connect again, if there was no room for them; called at each tick, and when a client has
        left."""
        if self._is_paused and self._socket.fileno() >= 0:
            self._selector.register(self._socket, EVENT_READ, self._accept)
            self._is_paused = False

    def close(self) -> None:
        """Let nobody in any more; whoever waits is hung up on."""
        self._pause()
        self._socket.close()

    def _pause(self) -> None:
        if not self._is_paused:
            self._selector.unregister(self._socket)
            self._is_paused = True

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # whoever it was is gone
        except OSError as error:
            self._pause()
            if not self._is_said:
                _log.warning("clients have to wait, since none can be let in: %s", error)
            self._is_said = True
            return
        self._is_said = False
        if _is_allowed(connection):
            self._on_client(connection)
        else:
            connection.close()


def _is_allowed(connection: socket.socket) -> bool:
    """Whether a client is the service's own user, or root."""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid in (0, os.geteuid()):
        return True
    _log.warning("refused a client of user %d", uid)
    return False
