"""The containers of a store as they were after an operation, as far as the operation log tells: to be looked at.

Names, settings and states are theirs of then; of files and processes there are only those of now. Containers that are
removed at their end (--rm) are in no operation, and so not here.
"""

from __future__ import annotations

from runtime.containers import Container, Containers, find_among
from runtime.records import ContainerPaths, record_of
from vcs.errors import NotFound
from vcs.past import PastStore


class PastContainers(Containers):
    """Whatever would change them raises ReadOnly, for it changes refs or the store."""

    def __init__(self, store: PastStore) -> None:
        super().__init__(store)
        now = super().all()  # before the log: what is changed was noted in it before
        records = {container.id: container.record for container in now if not container.record.settings.remove}
        for one in reversed(store.later):
            for identity, (old, _) in one.containers.items():
                if old is None:
                    records.pop(identity, None)
                else:
                    records[identity] = record_of(old)
        found = (
            Container(record, ContainerPaths(store.path / "containers" / record.id)) for record in records.values()
        )
        self._found = sorted(found, key=lambda container: container.record.created)

    def all(self) -> list[Container]:
        return list(self._found)

    def find(self, name: str) -> Container:
        return find_among(self._found, name)

    def get(self, identity: str, name: str = "") -> Container:
        for container in self._found:
            if container.id == identity:
                return container
        raise NotFound(f"there was no container {name or identity!r}", container=name or identity)

    def _finish_moves(self) -> None:
        """Who looks at the past leaves that to others."""
