"""stats, metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, verb
from runtime.cli.output import Output, message, size_text
from vcs.errors import NotFound

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.metering import Reading

_BETWEEN = 0.1
"""Seconds between the first two looks, without which there is no CPU %."""
_NOTE = 10.0
"""Seconds after which what is seen is noted again."""
_TITLES = ("NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS")
_NUMBERS = ("CPU %", "MEM %", "PIDS")
_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """A container between two looks."""

    container: Container
    before: Reading | None
    now: Reading

    @property
    def cpu_percent(self) -> float | None:
        """Of one processor."""
        if self.before is None or self.now.usage.cpu_seconds is None or self.before.usage.cpu_seconds is None:
            return None
        # A container that was started again in between begins at 0 again.
        used = max(0.0, self.now.usage.cpu_seconds - self.before.usage.cpu_seconds)
        return 100 * used / max(self.now.moment - self.before.moment, 1e-6)

    @property
    def memory_limit(self) -> int:
        """Without one of its own, all the machine has."""
        machine = _machine_memory()
        return min(self.now.usage.memory_limit or machine, machine)


@verb("stats", data=True, store_option=False)
@container_argument("names", nargs=-1)
@click.option("-a", "--all", "every", is_flag=True, help="Those that do not run too.")
@click.option("--no-stream", is_flag=True, help="Once, instead of again and again.")
@click.option("--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, metavar="SECONDS",
              help="How long to wait in between.")  # fmt: skip
@click.option("--store", "place", is_flag=False, flag_value="", metavar="[PATH]",
              help="Measure the store instead, or the one at PATH.")  # fmt: skip
def stats(
    invocation: Invocation, names: tuple[str, ...], every: bool, no_stream: bool, interval: float, place: str | None
) -> int:
    """Show what containers use, again and again, or a store in numbers.

    Without an argument, all containers that run. On a terminal the table is drawn anew in its place until Ctrl-C.

    \b
    CPU %      of one processor: 200 % are two
    MEM USAGE  without files that the kernel could drop from memory
    LIMIT      of --memory, or all that the machine has
    NET I/O    received and sent, if its network is its own
    BLOCK I/O  read from disks and written to them, since it was started
    PIDS       threads

    docs/metering.md tells where each number comes from. `treering ps --usage` has what containers have used in all.

    With --store, the store is measured. Needed is what branches, tags, containers and their reflogs keep; garbage the
    rest of the layers, of which `treering gc` frees most; compression the bytes of all objects over the bytes that they
    take; sharing the bytes in the files of all commits over the bytes in chunks.

    \b
    Example:
      treering stats
      treering stats --no-stream web db
      treering stats --format jsonl --interval 10 >> usage.jsonl
      treering stats --store
      treering stats --store /srv/roots --format json
    """
    if place is not None:
        from runtime.cli.usage import show_statistics

        if names:
            raise click.UsageError("--store measures the store: it does not go with names of containers")
        if place:
            invocation.store_option = Path(place)
        show_statistics(invocation)
        return 0
    invocation.enter_namespaces()
    screen = _Screen(invocation.output, live=not no_stream)
    try:
        for rows in _rounds(invocation, names, every, None if no_stream else interval):
            screen.show(rows)
    except KeyboardInterrupt:
        if no_stream:
            raise
    return 0


def _rounds(
    invocation: Invocation, names: Sequence[str], every: bool, interval: float | None
) -> Iterator[list[Row]]:  # fmt: skip
    """What containers use, again and again; once without an interval."""
    from runtime.metering import look

    chosen = [invocation.containers.find(name) for name in names]
    before = _look(invocation, chosen, every)
    time.sleep(_BETWEEN)
    noted = float("-inf")
    while True:
        now = _look(invocation, chosen, every)
        if time.monotonic() - noted >= _NOTE:
            noted = time.monotonic()
            for container, reading in now.values():
                look(container.paths.directory, reading)
        earlier = {identity: reading for identity, (_, reading) in before.items()}
        yield [Row(container, earlier.get(container.id), reading) for container, reading in now.values()]
        if interval is None or (names and not now):
            return
        before = now
        time.sleep(interval)


def _look(
    invocation: Invocation, chosen: Sequence[Container], every: bool
) -> dict[str, tuple[Container, Reading]]:  # fmt: skip
    """One look at all containers, or the chosen ones, by id."""
    from runtime.metering import Meter
    from runtime.state import Running, state_of

    meter = Meter()
    found = {}
    for container in _present(invocation, chosen):
        state = state_of(container.paths.directory)
        if isinstance(state, Running):
            found[container.id] = container, meter.read(container.id, state.pid)
        elif every or chosen:
            found[container.id] = container, meter.read(container.id, None)
    return found


def _present(invocation: Invocation, chosen: Sequence[Container]) -> Iterator[Container]:
    if not chosen:
        yield from invocation.containers.all()
    for container in chosen:
        with suppress(NotFound):  # removed meanwhile
            yield invocation.containers.reload(container)


class _Screen:
    """Where rounds are shown: in one place of a terminal, else one after the other."""

    def __init__(self, output: Output, live: bool) -> None:
        self._output = output
        self._in_place = live and output.is_table and os.isatty(1)
        self._shown = False

    def show(self, rows: list[Row]) -> None:
        """Write one round, and hand it over."""
        if self._in_place:
            self._draw(rows)
        else:
            if self._shown and self._output.is_table:
                self._output.line()
            self._output.rows(rows, _fields, lambda _: self._output.columns(_TITLES, map(_cells, rows), _NUMBERS))
        self._shown = True
        self._output.flush()

    def _draw(self, rows: list[Row]) -> None:
        columns, height = os.get_terminal_size(1)
        lines = self._output.columns_text(_TITLES, map(_cells, rows), _NUMBERS)
        if len(lines) >= height:
            lines = [*lines[: max(1, height - 2)], f"and {len(lines) - max(1, height - 2):,} more"]
        # Home, each line to its end, then the rest of the screen: nothing flickers, as nothing is cleared first.
        text = "".join(f"{line[: columns - 1]}\x1b[K\n" for line in lines)
        self._output.raw(("\x1b[H" if self._shown else "\x1b[2J\x1b[H").encode() + text.encode() + b"\x1b[J")


def _cells(row: Row) -> tuple[str, ...]:
    usage, traffic = row.now.usage, row.now.traffic
    memory = "-" if usage.memory_bytes is None else f"{size_text(usage.memory_bytes)} / {size_text(row.memory_limit)}"
    return (
        row.container.name,
        _percent(row.cpu_percent),
        memory,
        _percent(_memory_percent(row)),
        _pair(traffic and traffic.received_bytes, traffic and traffic.sent_bytes),
        _pair(usage.read_bytes, usage.written_bytes),
        _UNKNOWN if usage.pids is None else f"{usage.pids:,}",
    )


def _fields(row: Row) -> dict[str, Any]:
    usage, traffic = row.now.usage, row.now.traffic
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "name": row.container.name,
        "id": row.container.id,
        "cpu_percent": _rounded(row.cpu_percent),
        "cpu_seconds": usage.cpu_seconds,
        "user_seconds": usage.user_seconds,
        "system_seconds": usage.system_seconds,
        "memory_bytes": usage.memory_bytes,
        "memory_limit": usage.memory_limit,
        "memory_peak": usage.memory_peak,
        "memory_percent": _rounded(_memory_percent(row)),
        "received_bytes": traffic and traffic.received_bytes,
        "sent_bytes": traffic and traffic.sent_bytes,
        "read_bytes": usage.read_bytes,
        "written_bytes": usage.written_bytes,
        "read_operations": usage.read_operations,
        "write_operations": usage.write_operations,
        "pids": usage.pids,
        "pids_limit": usage.pids_limit,
        "oom_kills": usage.oom_kills,
        "source": usage.source,
    }


def _memory_percent(row: Row) -> float | None:
    used = row.now.usage.memory_bytes
    return None if used is None else 100 * used / row.memory_limit


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"


def _pair(one: int | None, other: int | None) -> str:
    return _UNKNOWN if one is None or other is None else f"{size_text(one)} / {size_text(other)}"


@lru_cache(maxsize=1)
def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@verb("metrics")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve them over HTTP there, as /metrics, until Ctrl-C.")
def metrics(invocation: Invocation, listen: str | None) -> int:
    """Print what containers and the store use, for Prometheus.

    In its text format, version 0.0.4. Counters are of a container's whole life, so they go on through restarts. With
    --listen every request is a new look. Whoever reaches that address can read it: names and images of all containers
    are in it.

    \b
    Example:
      treering metrics > /var/lib/node_exporter/treering.prom
      treering metrics --listen 127.0.0.1:9469
    """
    from runtime.exposition import Server, text

    invocation.enter_namespaces()
    if listen is None:
        invocation.output.raw(text(invocation.store_path))
        return 0
    address, port = _address(listen)
    invocation.store  # noqa: B018 - a store that cannot be opened is told now, not to the first who asks
    with Server(address, port, invocation.store_path) as server:
        message(f"Listening at {server.url}")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is no ADDRESS:PORT, as 127.0.0.1:9469", param_hint="--listen")
    return host, int(port)


VERBS: dict[str, click.Command] = {"stats": stats, "metrics": metrics}
