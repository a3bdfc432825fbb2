"""What ps and inspect tell of containers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runtime.state import Created, Exited, Restarting, Running, Starting, State

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.settings import Port

STATUSES = ("created", "starting", "running", "paused", "restarting", "exited")


@dataclass(frozen=True, slots=True)
class Seen:
    """A container with what it does at the moment."""

    container: Container
    state: State
    paused: bool
    health: str | None
    """starting, healthy or unhealthy; None if it is not looked after."""

    @property
    def status(self) -> str:
        """One word of STATUSES."""
        return "paused" if self.paused else type(self.state).__name__.lower()

    @property
    def text(self) -> str:
        """The state for people."""
        match self.state:
            case Created() | Starting() | Running():
                notes = [self.health] if self.health else []
                notes += ["merging"] if self.container.record.merging else []
                return f"{self.status} ({', '.join(notes)})" if notes else self.status
            case Restarting(code):
                return f"restarting ({code})"
            case Exited(None):
                return "exited (unknown)"
            case Exited(code):
                return f"exited ({code}{', merging' if self.container.record.merging else ''})"

    @property
    def exit_code(self) -> int | None:
        """Of the last run that ended, unless it was started again."""
        return self.state.code if isinstance(self.state, (Exited, Restarting)) else None

    def fields(self) -> dict[str, Any]:
        """The state for JSON."""
        return {
            "state": self.status,
            "pid": self.state.pid if isinstance(self.state, Running) else None,
            "exit_code": self.exit_code,
            "error": self.state.error if isinstance(self.state, Exited) else None,
        }


class Look:
    """Looks at containers; where cgroups lie is found out once."""

    def __init__(self) -> None:
        from runtime.cgroups import Hierarchies

        self._hierarchies = Hierarchies.here()

    def __call__(self, container: Container, state: State) -> Seen:
        from runtime.pausing import paused
        from runtime.supervision.healthchecks import health_of

        if not isinstance(state, Running):
            return Seen(container, state, False, None)
        health = health_of(container.paths.directory)
        return Seen(container, state, paused(container.id, self._hierarchies), health["status"] if health else None)


def moment(seconds: float | None) -> str | None:
    """A point in time for JSON; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def ports_of(container: Container) -> tuple[Port, ...]:
    """A container's published ports: those that the machine really has for it, if it is connected."""
    asked = container.record.settings.ports
    if not asked:
        return ()
    from runtime.network import published

    return published(container.paths.directory) or asked


def ports_text(ports: Iterable[Port]) -> str:
    """Ports as Docker writes them."""
    return ", ".join(f"{port.address or '*'}:{port.host or '?'}->{port.container}/{port.protocol}" for port in ports)


def port_fields(ports: Iterable[Port]) -> list[dict[str, Any]]:
    """Ports for JSON."""
    return [
        {"address": port.address, "host": port.host or None, "container": port.container, "protocol": port.protocol}
        for port in ports
    ]
