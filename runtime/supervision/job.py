"""What a supervisor is to do, as its caller says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.bundle import LaunchSpec
from runtime.engine import FAILED, Engine
from runtime.profiles import Recording
from runtime.state import Run, RunPaths
from runtime.supervision.attachments import Peer
from runtime.supervision.duties import Orders
from runtime.supervision.rebuilding import error_fields, unexpected


@dataclass(frozen=True, slots=True)
class Job:
    """All that a supervisor needs; fixed before the fork. Its descriptors are `control`'s and those of `keep`."""

    paths: RunPaths
    spec: LaunchSpec
    image: Mapping[str, Any]
    lower: Path
    engine: Engine
    run: str
    control: Peer | None
    keep: tuple[int, ...]
    """Descriptors to keep open until the container has ended: locks and leases."""
    output: int | None
    """Where stdout and stderr go if not to the caller's: a descriptor."""
    detach: bool
    terminal_size: tuple[int, int] | None
    recording: Recording | None = None
    """What the service notes of this start."""
    orders: Orders | None = None
    """What else is to be done; None for a container that nobody keeps a record of."""
    is_first: bool = False
    """Whether the container has never been started, so that nothing of an earlier run can be left on the machine."""
    adopted: Run | None = None
    """The run whose supervisor was killed, if there was one."""

    def fail(self, error: BaseException) -> None:
        """Tell the caller, if there is one, that nobody supervises the container, and why."""
        failure = unexpected(error, self.paths.engine_state.parent)
        if self.control:
            self.control.send(error_fields(failure, FAILED))
