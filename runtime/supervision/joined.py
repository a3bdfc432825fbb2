"""A container's place in a network, as its supervisor makes and ends it.

runtime.network is only imported for a container that has such a place: most have the machine's network, or none.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from runtime.bundle import LaunchSpec
from runtime.bundle.spec import HOST, NONE
from runtime.state import RunPaths
from vcs.errors import TreeringError

if TYPE_CHECKING:
    from runtime.network import Connection


class Joined:
    """The connection of one container, over all its runs."""

    def __init__(self, paths: RunPaths, spec: LaunchSpec) -> None:
        self._paths = paths
        self._spec = spec
        self._has_one = spec.network not in (HOST, NONE)
        self._connection: Connection | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to hold for it while the container runs."""
        return not self._has_one

    @property
    def namespace(self) -> str | None:
        """The path of its network namespace, if it was made here."""
        return self._connection.namespace if self._connection else None

    def connect(self) -> Connection | None:
        """Join the network. EngineError and others of the family if that fails."""
        if self._has_one:
            from runtime import network

            paths, spec = self._paths, self._spec
            self._connection = network.connect(
                paths.directory, paths.store, spec.id, spec.name, spec.network, spec.ports, (spec.hostname,)
            )
        return self._connection

    def refresh(self) -> None:
        """Have the others on the network know its name."""
        if self._has_one:
            from runtime import network

            network.refresh(self._paths.directory)

    def adopt(self) -> None:
        """Go on with what a supervisor made that was killed."""
        if self._has_one:
            from runtime import network

            self._connection = network.adopt(self._paths.directory)

    def disconnect(self) -> None:
        """Leave the network. What fails is tried again by the next command that looks at networks."""
        if self._has_one:
            from runtime import network

            if self._connection:
                self._connection.close()
                self._connection = None
            with suppress(TreeringError, OSError):
                network.disconnect(self._paths.directory)
