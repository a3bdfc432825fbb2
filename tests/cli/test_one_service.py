"""Containers with one server: its data is committed, rolled back and forked."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, remove_containers
from tests.support.containers import eventually
from tests.support.service_root import make_service_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

REDIS, REDIS_CLI, MEMCACHED = map(Path, ("/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/memcached"))


@pytest.fixture
def services(empty: Cli, tmp_path: Path) -> Iterator[Cli]:
    """A store whose branch `services` has both servers."""
    root = make_service_root(tmp_path / "root", [REDIS.resolve(), REDIS, REDIS_CLI.resolve(), REDIS_CLI, MEMCACHED])
    (root / "data").mkdir()
    empty("init")
    empty("import", str(root), "--branch", "services", "-m", "redis and memcached")
    try:
        yield empty
    finally:
        remove_containers(empty)


def redis(box: Cli, name: str, *words: str) -> str:
    done = box.process("exec", name, "redis-cli", *words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.decode().strip()


def answers(box: Cli, name: str) -> None:
    eventually(lambda: box.process("exec", name, "redis-cli", "ping").stdout == b"PONG\n")


def start_redis(box: Cli, name: str) -> None:
    command = ("redis-server", "--dir", "/data", "--save", "", "--daemonize", "no")
    done = box.process("run", "-d", "--name", name, "--network", "none", "services", *command)
    assert done.returncode == 0, done.stderr
    answers(box, name)


def test_redis_rolled_back_has_the_data_of_then(services: Cli) -> None:
    start_redis(services, "db")
    for number in (0, 25, 50, 75):
        redis(services, "db", "set", f"key{number}", str(number))
    redis(services, "db", "set", "state", "before")
    done = services.process("commit", "db", "-m", "with data", "--branch", "data", "--pre-hook", "redis-cli save")
    assert done.returncode == 0, done.stderr
    redis(services, "db", "set", "state", "after")
    redis(services, "db", "flushall")
    redis(services, "db", "save")
    services("stop", "db")
    services("rollback", "db", "data")
    assert services.process("start", "-d", "db").returncode == 0
    answers(services, "db")
    assert redis(services, "db", "get", "state") == "before"
    assert [redis(services, "db", "get", f"key{number}") for number in (0, 25, 50, 75)] == ["0", "25", "50", "75"]


def test_ten_forks_of_redis_serve_ten_states(services: Cli) -> None:
    start_redis(services, "db")
    redis(services, "db", "set", "who", "the first")
    redis(services, "db", "save")
    names = services.lines("fork", "db", "--count", "10", "--start")
    assert len(names) == 10
    for name in names:
        answers(services, name)
        assert redis(services, name, "get", "who") == "the first"
        redis(services, name, "set", "who", name)
    assert [redis(services, name, "get", "who") for name in names] == names
    assert redis(services, "db", "get", "who") == "the first"


def test_memcached_on_a_published_port(services: Cli) -> None:
    options = ("--name", "cache", "-p", "127.0.0.1::11211", "-u", "daemon")
    done = services.process("run", "-d", *options, "services", "memcached", "-l", "0.0.0.0")
    assert done.returncode == 0, done.stderr
    where = services.lines("port", "cache", "11211")[0]
    host, _, port = where.rpartition(":")

    def talk(line: bytes) -> bytes:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(line + b"quit\r\n")
            with connection.makefile("rb") as answer:
                return answer.read()

    def stored() -> bool:
        try:
            return talk(b"set ring 0 0 5\r\nyears\r\n") == b"STORED\r\n"
        except OSError:
            return False

    eventually(stored)
    assert b"years" in talk(b"get ring\r\n")
