"""What Prometheus is told: containers and the store as metrics, in its text format 0.0.4, once or over HTTP.

All that is counted over a container's life (runtime.metering) is a counter and survives restarts; all that is of now is
a gauge. A metric that is not known of a container is left out for it, not 0. Each scrape is a look of its own: nothing
is kept in between, so a scrape shows what is true, and two programs that scrape see the same.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime import __version__, metering
from runtime.cgroups import Usage
from runtime.containers import Container, Containers
from runtime.metering import Lifetime
from runtime.state import Exited, Running, State, state_of
from vcs.errors import TreeringError
from vcs.store import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHORT = 12
"""Characters of a container's id."""
_STATES = (*(state.__name__.lower() for state in get_args(State)), "paused")
_SECONDS = 10
"""How long a client may take to ask, or to read."""

_COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("cpu_seconds", "cpu_seconds", "Processor time used, in all starts."),
    ("cpu_user_seconds", "user_seconds", "Of it, in programs."),
    ("cpu_system_seconds", "system_seconds", "Of it, in the kernel."),
    ("read_bytes", "read_bytes", "Bytes read from disks."),
    ("written_bytes", "written_bytes", "Bytes written to disks."),
    ("read_operations", "read_operations", "Reads from disks."),
    ("write_operations", "write_operations", "Writes to disks."),
    ("network_received_bytes", "received_bytes", "Bytes that its own network received."),
    ("network_sent_bytes", "sent_bytes", "Bytes that its own network sent."),
    ("oom_kills", "oom_kills", "Processes killed for want of memory."),
    ("up_seconds", "seconds_up", "How long it has run, in all starts."),
)
"""Metric, field of Lifetime, help."""
_GAUGES: tuple[tuple[str, str, str], ...] = (
    ("memory_bytes", "memory_bytes", "Memory in use, without files that could be dropped from it."),
    ("memory_limit_bytes", "memory_limit", "How much memory it may use."),
    ("pids", "pids", "Threads."),
    ("pids_limit", "pids_limit", "How many threads it may have."),
)
"""Metric, field of Usage, help."""


_NETWORK = ("received_bytes", "sent_bytes")


class _Measured(NamedTuple):
    container: Container
    state: State
    status: str
    """One of _STATES."""
    usage: Usage | None
    """None if it does not run."""
    total: Lifetime
    connected: bool
    """Whether it runs with a network of its own."""

    @property
    def labels(self) -> list[str]:
        return [self.container.name, self.container.id[:_SHORT]]


Families: TypeAlias = Iterable[Metric]


def text(store: Path) -> bytes:
    """All metrics of a store and its containers, as they are now. TreeringError if the store cannot be read."""
    with Store.open(store) as opened:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Look([*_of_containers(Containers(opened)), *_of_store(opened)]))
        return generate_latest(registry)


class _Look(Collector):
    """What was seen, for a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Families:
        return self._families


def _of_containers(containers: Containers) -> Iterator[Metric]:
    measured = list(_measure(containers))
    names = ["name", "id"]
    info = GaugeMetricFamily("treering_container_info", "What a container was made from.", labels=[*names, "image"])
    states = GaugeMetricFamily("treering_container_state", "1 for the state it is in.", labels=[*names, "state"])
    codes = GaugeMetricFamily("treering_container_exit_code", "Of its last start, if it has ended.", labels=names)
    peaks = GaugeMetricFamily("treering_container_memory_peak_bytes", "The most memory it ever used.", labels=names)
    restarts = CounterMetricFamily("treering_container_restarts", "Starts after the first.", labels=names)
    counts = dict.fromkeys(_STATES, 0)
    for one in measured:
        counts[one.status] += 1
        info.add_metric([*one.labels, one.container.record.image], 1)
        for status in _STATES:
            states.add_metric([*one.labels, status], int(one.status == status))
        if isinstance(one.state, Exited) and one.state.code is not None:
            codes.add_metric(one.labels, one.state.code)
        if one.total.memory_peak:
            peaks.add_metric(one.labels, one.total.memory_peak)
        restarts.add_metric(one.labels, max(0, one.total.starts - 1))
    number = GaugeMetricFamily("treering_containers", "Containers in each state.", labels=["state"])
    for status, count in counts.items():
        number.add_metric([status], count)
    yield from (number, info, states, codes, restarts, peaks)
    for name, field, help_ in _COUNTERS:
        counter = CounterMetricFamily(f"treering_container_{name}", help_, labels=names)
        for one in measured:
            value = getattr(one.total, field)
            if value or one.connected or field not in _NETWORK:
                counter.add_metric(one.labels, value)
        yield counter
    for name, field, help_ in _GAUGES:
        gauge = GaugeMetricFamily(f"treering_container_{name}", help_, labels=names)
        for one in measured:
            if one.usage and (value := getattr(one.usage, field)) is not None:
                gauge.add_metric(one.labels, value)
        yield gauge


def _measure(containers: Containers) -> Iterator[_Measured]:
    meter = metering.Meter()
    for container in containers.all():
        directory = container.paths.directory
        state = state_of(directory)
        reading = meter.read(container.id, state.pid if isinstance(state, Running) else None)
        usage = reading.usage if isinstance(state, Running) else None
        paused = usage is not None and meter.cgroup(container.id).frozen
        status = "paused" if paused else type(state).__name__.lower()
        yield _Measured(container, state, status, usage, metering.look(directory, reading), reading.traffic is not None)


def _of_store(store: Store) -> Iterator[Metric]:
    layers = store.index.layers()
    found: tuple[tuple[str, str, float], ...] = (
        ("layers", "Layers in the store.", len(layers)),
        ("layer_bytes", "Bytes of all layers.", sum(layers.values())),
        ("commits", "Commits that branches, tags and containers lead to.", len(store.commit_ids())),
        ("branches", "Branches.", len(store.branches())),
        ("tags", "Tags.", len(store.tags())),
    )
    for name, help_, value in found:
        yield GaugeMetricFamily(f"treering_store_{name}", help_, value=value)
    build = GaugeMetricFamily("treering_info", "The program that tells this.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build


class Server(ThreadingHTTPServer):
    """An HTTP server that answers GET /metrics. The caller serves (serve_forever) and closes it."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: str, port: int, store: Path) -> None:
        """Listen; OSError if that cannot be. Port 0 is any free one."""
        if ":" in address:
            self.address_family = socket.AF_INET6
        self.store = store
        self.one_at_a_time = threading.Lock()
        super().__init__((address, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, (bytes, bytearray)) else host
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/metrics"


class _Handler(BaseHTTPRequestHandler):
    """Answers one request and hangs up."""

    server: Server
    timeout = _SECONDS
    server_version = "treering"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "Only /metrics is here")
            return
        try:
            with self.server.one_at_a_time:
                body = text(self.server.store)
        except (TreeringError, OSError) as error:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "The store cannot be read", str(error))
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Libraries do not print."""
