"""What tests of containers that run and are committed share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime import running
from runtime.cgroups import Cgroup
from runtime.containers import Container, Containers
from runtime.engine import remove_cgroups
from runtime.settings import Settings
from runtime.state import Running, state_of
from runtime.states import States
from tests.cli.conftest import stop_service
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually
from vcs.errors import Conflict
from vcs.history import Author
from vcs.importer import import_directory
from vcs.snapshot import Snapshot
from vcs.store import Store

ANA = Author("Ana", "ana@example.org", 1_700_000_000)


class Place:
    """A store with a running container."""

    def __init__(self, path: Path) -> None:
        self.store = Store.create(path / "store")
        root = make_busybox_root(path / "root")
        with self.store.batch() as batch:
            found = import_directory(batch, root)
        self.base = self.store.add_commit(found.root, {"config": {"Cmd": ["sleep", "1000"]}}, "base", ANA)
        self.store.history.move("refs/heads/main", self.base, None, "base", ANA)
        self.containers = Containers(self.store)
        self.states = States(self.containers)
        self.made: list[Container] = []

    def start(self, *args: str, name: str = "box", **asked: Any) -> Container:
        settings = Settings(args=args, network="none", profile=False, **asked)
        container = self.containers.create("main", self.base, settings, ANA, name)
        self.made.append(container)
        running.start(self.containers, container, ANA, detach=True)
        return container

    def start_again(self, container: Container) -> None:
        """A container's end is known a moment before its supervisor lets go of it."""

        def started() -> bool:
            with suppress(Conflict):
                running.start(self.containers, container, ANA, detach=True)
                return True
            return False

        eventually(started)

    def init(self, container: Container) -> int:
        state = state_of(container.paths.directory)
        assert isinstance(state, Running)
        return state.pid

    def root_of(self, commit: str) -> Snapshot:
        return self.store.snapshot_of(commit)

    def close(self) -> None:
        for container in self.made:
            with suppress(Exception):
                Cgroup.of(container.id).thaw()
            with suppress(Exception):
                running.stop(self.containers.reload(container), 0)
            remove_cgroups(container.id)  # where a test's supervisor failed, the next command would
        self.store.close()
        stop_service(self.store.path)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()
