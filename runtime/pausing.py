"""Pausing a container: the kernel stops all its processes where they are, by the freezer of its cgroup.

An ordinary user's containers have no cgroup, and cannot be paused.
"""

from __future__ import annotations

from contextlib import suppress

from runtime.capturing.standstill import freeze, release
from runtime.cgroups import Cgroup, Hierarchies, NoCgroup
from runtime.containers import Container
from runtime.reaching import reached
from vcs.errors import Conflict


def paused(container_id: str, hierarchies: Hierarchies | None = None) -> bool:
    """Whether a container is paused. Cheap, a read of one small file, if `hierarchies` have been looked up."""
    return Cgroup.of(container_id, hierarchies).frozen


def pause(container: Container) -> None:
    """Stop a container's processes where they are. Conflict if it does not run or is paused; EngineError
    if it has no cgroup, or a process does not stop."""
    with reached(container):
        group = Cgroup.of(container.id)
        release(container.paths.directory, group)
        if paused(container.id):
            raise Conflict(f"container {container.name!r} is paused", container=container.name, wanted="unpaused")
        freeze(container.paths.directory, group)


def unpause(container: Container) -> None:
    """Let a paused container go on. Conflict if it is not paused."""
    if not paused(container.id):
        raise Conflict(f"container {container.name!r} is not paused", container=container.name, wanted="paused")
    Cgroup.of(container.id).thaw()


def let_signals_through(container: Container) -> None:
    """Let a container go on that was paused when it was to end: before that, it does not see the signal.
    EngineError if it stays paused, OSError if that cannot be told."""
    if paused(container.id):
        with suppress(NoCgroup):  # it has ended
            Cgroup.of(container.id).thaw()
