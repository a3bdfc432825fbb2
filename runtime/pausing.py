"""Pausing a container: the kernel stops all its processes where they are, by the freezer of its cgroup.

    v1    freezer.state is FROZEN; a frozen process does not even die of SIGKILL before it is thawed
    v2    cgroup.freeze is 1; a frozen process can be killed

An ordinary user's containers have no cgroup, and cannot be paused.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from runtime import engine as engines
from runtime.containers import Container, Containers
from runtime.engine import find_engine
from runtime.namespace import in_user_namespace
from runtime.reaching import not_running, reached
from runtime.state import CGROUP_PREFIX, load_run
from vcs.errors import Conflict, Denied

_ROOT = "/sys/fs/cgroup"


def paused(container_id: str) -> bool:
    """Whether a container is paused. Cheap: a read of one small file."""
    name = CGROUP_PREFIX + container_id
    for path, frozen in ((f"{_ROOT}/freezer/{name}/freezer.state", b"FR"), (f"{_ROOT}/{name}/cgroup.freeze", b"1")):
        with suppress(OSError), open(path, "rb") as file:
            return file.read(2).startswith(frozen)  # FREEZING too
    return False


def pause(containers: Containers, container: Container) -> None:
    """Stop a container's processes where they are. Conflict if it does not run or is paused; Denied for an ordinary
    user; EngineError."""
    with reached(container):
        if paused(container.id):
            raise Conflict(f"container {container.name!r} is paused already", container=container.name, wanted="unpaused")
        if in_user_namespace():
            raise Denied(
                f"container {container.name!r} cannot be paused: an ordinary user's containers have no cgroup",
                missing="cgroup",
            )
        _tell_engine(containers, container, "pause")


def unpause(containers: Containers, container: Container) -> None:
    """Let a paused container go on. Conflict if it is not paused; EngineError."""
    if not paused(container.id):
        raise Conflict(f"container {container.name!r} is not paused", container=container.name, wanted="paused")
    _tell_engine(containers, container, "resume")


def _tell_engine(containers: Containers, container: Container, what: Literal["pause", "resume"]) -> None:
    run = load_run(container.paths.directory)
    if run is None:
        raise not_running(container)
    engine = find_engine(containers.store.path / "run" / "engine", run.engine)
    log = container.paths.directory / f"{what}.log"
    try:
        code = engines.wait(engines.spawn(engine.tell(what, container.id, log), (None, None, None)))
        if code:
            raise engines.failure(engine, log, code, f"{what} the container")
    finally:
        log.unlink(missing_ok=True)
