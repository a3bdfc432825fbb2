"""`treering metrics`: as text and over HTTP."""

from __future__ import annotations

import http.client
import os
import re
import select
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import Cli
from tests.cli.meters import started

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def samples(text: str) -> dict[tuple[str, str], float]:
    """By metric and container."""
    return {
        (sample.name, sample.labels.get("name", sample.labels.get("state", ""))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def fetch(url: str, method: str = "GET") -> tuple[bytes, http.client.HTTPMessage]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
        return answer.read(), answer.headers


@contextmanager
def listening(box: Cli, address: str = "127.0.0.1:0") -> Iterator[str]:
    """A server of metrics; yields its URL. Ctrl-C ends it, quietly."""
    with started(box, "metrics", "--listen", address, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr
        ready, _, _ = select.select([process.stderr], [], [], 60)
        assert ready
        line = process.stderr.readline().decode()
        assert line.startswith("Listening at http://"), line
        yield line.split()[-1]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_metrics_over_http(box: Cli, burner: str, until: Callable[..., Any]) -> None:
    box("run", "-d", "--name", "web", "--network", "none", burner, "/burn", "0.3", "2", "wait")
    box.process("run", "--name", "ended", "main", "sh", "-c", "exit 7")
    box("run", "-d", "--name", "still", "main", "sleep", "inf")
    box("pause", "still")
    box("branch", 'odd"name', "main")
    box.process("run", "--name", "odd", 'odd"name', "true")
    with listening(box) as url:
        until(lambda: samples(fetch(url)[0].decode())["treering_container_cpu_seconds_total", "web"] >= 0.9)
        body, headers = fetch(url)
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert fetch(url, "HEAD")[0] == b""
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(url.removesuffix("metrics"))
        with pytest.raises(urllib.error.HTTPError, match="501"):
            fetch(url, "POST")
    text = body.decode()
    found = samples(text)
    assert 0.9 <= found["treering_container_cpu_seconds_total", "web"] <= 1.2
    assert found["treering_container_pids", "web"] == 1
    assert found["treering_container_memory_bytes", "web"] > 0
    assert found["treering_container_network_received_bytes_total", "web"] == 0
    assert ("treering_container_network_received_bytes_total", "ended") not in found
    assert ("treering_container_pids", "ended") not in found
    assert ("treering_container_memory_limit_bytes", "web") not in found
    assert found["treering_container_exit_code", "ended"] == 7
    assert found["treering_container_restarts_total", "ended"] == 0
    counts = {state: found["treering_containers", state] for state in ("running", "paused", "exited", "restarting")}
    assert counts == {"running": 1, "paused": 1, "exited": 2, "restarting": 0}
    assert found["treering_store_commits", ""] == 4
    assert found["treering_store_layer_bytes", ""] == sum(
        path.stat().st_size for path in (box.store / "layers").iterdir()
    )
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(family.documentation for family in families.values())
    assert {family.type for name, family in families.items() if name.endswith("_seconds")} == {"counter"}
    states = {sample.labels["state"]: sample.value for sample in families["treering_container_state"].samples
              if sample.labels["name"] == "web"}  # fmt: skip
    assert {state for state, value in states.items() if value} == {"running"}
    images = {sample.labels["name"]: sample.labels["image"] for sample in families["treering_container_info"].samples}
    assert images["odd"] == 'odd"name'
    assert all(len(sample.labels["id"]) == 12 for sample in families["treering_container_info"].samples)


def test_counters_go_on_through_restarts(box: Cli, burner: str) -> None:
    box.process("run", "--name", "web", burner, "/burn", "0.2", "0")
    first = samples(box("metrics").stdout)
    box.process("start", "web")
    second = samples(box("metrics").stdout)
    name = "treering_container_cpu_seconds_total", "web"
    assert second[name] >= first[name] + 0.2
    assert second["treering_container_restarts_total", "web"] == 1


def test_a_client_that_says_nothing_keeps_nobody_waiting(box: Cli) -> None:
    with listening(box, "[::1]:0") as url:
        found = re.fullmatch(r"http://\[::1\]:(\d+)/metrics", url)
        assert found
        with socket.create_connection(("::1", int(found[1])), timeout=60):
            assert b"treering_store_layers" in fetch(url)[0]


def test_addresses(cli: Cli, tmp_path: Path) -> None:
    for address in ("9469", ":9469", "localhost:x", "127.0.0.1:70000"):
        assert "is no ADDRESS:PORT" in cli("metrics", "--listen", address, code=2).stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = cli.error("metrics", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert "in use" in error["message"]
    done = Cli(tmp_path / "none").process("metrics", "--listen", "127.0.0.1:0")
    assert done.returncode == 125
    assert b"there is no store" in done.stderr.lower() or b"not a store" in done.stderr.lower(), done.stderr
