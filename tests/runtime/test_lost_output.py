"""Output that cannot be written is not taken for output that nobody wants."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from runtime import carriers
from runtime.system import descriptors
from runtime.system.streams import Output, Sink
from runtime.system.terminal import OutputLost, TerminalProxy, write_all


@pytest.fixture
def full() -> Iterator[int]:
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    with suppress(OSError):
        os.close(fd)


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def closed_socket() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def hung_up_terminal() -> int:
    master, slave = pty.openpty()
    os.close(master)
    return slave


LEFT = pytest.mark.parametrize("make", [closed_pipe, closed_socket, hung_up_terminal])


def output_to(sink: int, *, owner: bool) -> Output:
    """An output that has read a few bytes, with one sink."""
    reader, writer = os.pipe()
    os.write(writer, b"printed")
    os.close(writer)
    output = Output(reader, last_reader=True)
    output.sinks.append(Sink(sink, owner=owner))
    output.ready(reader)
    return output


def test_a_sink_that_is_full_is_not_one_whose_reader_has_left(full: int) -> None:
    output = output_to(full, owner=True)
    assert output.done, "nobody is left who would take the rest"
    assert output.failure is not None
    assert output.failure.errno == errno.ENOSPC


def test_what_an_onlooker_cannot_write_is_his_affair(full: int) -> None:
    assert output_to(full, owner=False).failure is None


@LEFT
def test_a_reader_who_has_left_is_no_failure(make: Callable[[], int]) -> None:
    output = output_to(make(), owner=True)
    assert output.done
    assert output.failure is None


@LEFT
def test_all_is_written_or_nobody_is_there_or_it_fails(make: Callable[[], int], full: int) -> None:
    left = make()
    assert not write_all(left, b"printed")
    os.close(left)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_all(full, b"printed")


def test_a_disk_that_fails_is_no_terminal_that_was_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int, __: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = os.memfd_create("file")
    monkeypatch.setattr(os, "write", fail)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write_all(file, b"printed")
    finally:
        os.close(file)


def test_a_terminal_whose_output_cannot_be_written(full: int) -> None:
    ours, theirs = socket.socketpair()
    theirs.send(b"printed")
    proxy = TerminalProxy(ours.detach(), None, full)
    with pytest.raises(OutputLost, match=os.strerror(errno.ENOSPC)):
        proxy.drain()
    assert proxy.terminal is None, "who writes to it learns"
    theirs.close()


def carried_to(sink: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Carry what a command prints to a descriptor in the place of our standard output."""
    monkeypatch.setattr(carriers, "duplicate", lambda fd: os.dup(sink) if fd == 1 else None)
    quiet, never = os.pipe()
    try:
        with carriers.Streams(interactive=False) as streams:
            given = streams.given[1]
            assert given is not None
            os.write(given, b"printed")
            streams.flow()
            streams.finish(quiet)
    finally:
        for fd in (quiet, never):
            os.close(fd)


def test_what_a_command_prints_and_cannot_be_written(full: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputLost, match=os.strerror(errno.ENOSPC)):
        carried_to(full, monkeypatch)


@LEFT
def test_what_a_command_prints_and_nobody_reads(make: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    sink = make()
    carried_to(sink, monkeypatch)
    os.close(sink)


def test_a_stream_that_cannot_be_copied_is_not_one_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = os.dup(0)
    os.close(closed)
    assert descriptors.duplicate(closed) is None

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        descriptors.duplicate(1)
