"""How what a container has used in its life is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runtime.cli.output import size_text
from runtime.cli.progress import duration_text
from runtime.state import Running, State

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.metering import Lifetime

TITLES = ("CPU SECONDS", "PEAK MEMORY", "I/O", "TIME UP")


def measure(rows: Iterable[tuple[Container, State]]) -> dict[str, Lifetime]:
    """What containers have used until now, by id; noted, too, as far as they run."""
    from runtime.metering import Meter, look

    meter = Meter()
    found = {}
    for container, state in rows:
        reading = meter.read(container.id, state.pid if isinstance(state, Running) else None)
        found[container.id] = look(container.paths.directory, reading)
    return found


def cells(used: Lifetime) -> tuple[str, ...]:
    """Cells of a table with TITLES."""
    return (
        f"{used.cpu_seconds:,.2f}",
        size_text(used.memory_peak),
        f"{size_text(used.read_bytes)} / {size_text(used.written_bytes)}",
        duration_text(used.seconds_up),
    )


def fields(used: Lifetime) -> dict[str, Any]:
    """The same for programs, and more."""
    found = {name: getattr(used, name) for name in used.__struct_fields__}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in found.items()}
