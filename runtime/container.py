"""One container as it is recorded, and which of several a user means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.records import ContainerPaths, Record
from vcs.errors import NotFound
from vcs.model import CommitId

SHORT = 12
"""How many digits of an id are shown."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Container:
    """A container's record, and where its parts are."""

    record: Record
    paths: ContainerPaths

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def base(self) -> CommitId:
        """The commit below the current upper."""
        return self.record.generation.base

    @property
    def upper(self) -> Path:
        return self.paths.upper(self.record.current)

    @property
    def work(self) -> Path:
        return self.paths.work(self.record.current)

    @property
    def ref(self) -> str:
        return self.record.ref(self.record.current)


def find_among(everything: Sequence[Container], name: str) -> Container:
    """Containers.find() among these."""
    if not name:
        raise NotFound("an empty name is no container's", container=name)
    for container in everything:
        if container.name == name:
            return container
    matches = [container for container in everything if container.id.startswith(name)]
    if not matches:
        raise NotFound(f"no container {name!r}", container=name)
    if len(matches) > 1:
        shown = ", ".join(f"{container.name} ({container.id[:SHORT]})" for container in matches[:_SHOWN])
        more = f" and {len(matches) - _SHOWN} more" if len(matches) > _SHOWN else ""
        candidates = [container.name for container in matches]
        raise NotFound(
            f"{name!r} begins the ids of several containers: {shown}{more}", container=name, candidates=candidates
        )
    return matches[0]
