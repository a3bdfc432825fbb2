"""What ps and inspect tell of containers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runtime.state import Created, Exited, Restarting, Running, Starting, State

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.settings import Port

STATUSES = ("created", "starting", "running", "paused", "restarting", "exited")


class Paused:
    """Which containers are paused; where cgroups lie is looked up once."""

    def __init__(self) -> None:
        from runtime.cgroups import Hierarchies

        self._hierarchies = Hierarchies.here()

    def __call__(self, container: Container, state: State) -> bool:
        from runtime.pausing import paused

        return isinstance(state, Running) and paused(container.id, self._hierarchies)


def status_of(state: State, paused: bool) -> str:
    """One word of STATUSES."""
    return "paused" if paused else type(state).__name__.lower()


def state_text(state: State, paused: bool) -> str:
    """The state for people."""
    match state:
        case Created() | Starting() | Running():
            return status_of(state, paused)
        case Restarting(code):
            return f"restarting ({code})"
        case Exited(None):
            return "exited (unknown)"
        case Exited(code):
            return f"exited ({code})"


def state_fields(state: State, paused: bool) -> dict[str, Any]:
    """The state for JSON."""
    return {
        "state": status_of(state, paused),
        "pid": state.pid if isinstance(state, Running) else None,
        "exit_code": state.code if isinstance(state, (Exited, Restarting)) else None,
        "error": state.error if isinstance(state, Exited) else None,
    }


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
