"""What a container prints and reads: nothing lost, nothing waited for."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from pathlib import Path

import pytest

from runtime.system.streams import Input, Output, Sink


def pump(*parts: Output | Input, seconds: float = 10) -> None:
    """Serve them until each is done."""
    while not all(part.done for part in parts):
        poll = select.poll()
        for part in parts:
            for fd, events in part.interests().items():
                poll.register(fd, events)
        ready = poll.poll(seconds * 1000)
        assert ready, "nothing happens any more"
        for fd, _ in ready:
            for part in parts:
                part.ready(fd)


def written(*chunks: bytes) -> int:
    """The reading end of a pipe that holds these bytes and has ended."""
    reader, writer = os.pipe()
    for chunk in chunks:
        os.write(writer, chunk)
    os.close(writer)
    return reader


def test_outputs_that_share_a_file_do_not_overwrite_one_another(tmp_path: Path) -> None:
    """As `(treering run a & treering run b) > log`: one open file, with one position, for all of them."""
    shared = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    line, lines, writers = b"x" * 63 + b"\n", 400, 6
    outputs = []
    for _ in range(writers):
        output = Output(written(*[line] * lines))
        output.sinks.append(Sink(os.dup(shared)))
        outputs.append(output)
    pump(*outputs)
    os.close(shared)
    assert (tmp_path / "log").read_bytes() == line * lines * writers


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_slow_owner_holds_it_up_and_gets_everything(kind: str) -> None:
    data = os.urandom(1 << 20)
    if kind == "pipe":
        result, sink = os.pipe()
    else:
        ours, theirs = socket.socketpair()
        result, sink = ours.detach(), theirs.detach()
    source, feed = os.pipe()
    output = Output(source)
    output.sinks.append(Sink(sink, owner=True))
    os.set_blocking(feed, False)
    os.set_blocking(result, False)
    assert os.get_blocking(feed) is False
    sent, got = 0, b""
    while len(got) < len(data):
        if sent < len(data):
            with contextlib.suppress(BlockingIOError):
                sent += os.write(feed, data[sent : sent + 65536])
            if sent == len(data):
                os.close(feed)
        for fd in output.interests():
            output.ready(fd)
        assert sum(len(sink._pending) for sink in output.sinks) <= 65536
        with contextlib.suppress(BlockingIOError):
            got += os.read(result, 4096)
    assert got == data
    os.close(result)
    output.close()


def test_a_reader_who_only_attached_is_dropped_and_told_when_he_is_too_far_behind() -> None:
    seen: list[bytes] = []
    lost: list[OSError] = []
    source, feed = os.pipe()
    result, sink = os.pipe()
    output = Output(source, seen.append)
    output.sinks.append(Sink(sink, lost=lost.append))
    for _ in range(40):
        os.write(feed, b"x" * 65536)
        output.ready(source)
    assert output.sinks == []
    assert [error.errno for error in lost] == [errno.ENOBUFS]
    assert sum(map(len, seen)) == 40 * 65536, "the log has it all"
    for fd in (feed, result):
        os.close(fd)
    output.close()


@pytest.mark.parametrize("last_reader", [True, False])
def test_when_the_last_reader_leaves(last_reader: bool) -> None:
    source, feed = os.pipe()
    result, sink = os.pipe()
    output = Output(source, last_reader=last_reader)
    output.sinks.append(Sink(sink, owner=True))
    os.close(result)
    os.write(feed, b"nobody reads this")
    output.ready(source)
    assert (output.source is None) is last_reader
    if last_reader:
        with pytest.raises(BrokenPipeError):
            os.write(feed, b"x")
    os.close(feed)
    output.close()


def test_input_goes_through_and_ends() -> None:
    source = written(b"line\n")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    pump(Input(source, writer, terminal=False, closes=True))
    assert os.read(reader, 100) == b"line\n"
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_a_terminal_of_somebody_is_not_made_non_blocking() -> None:
    master, slave = os.openpty()
    sink = Sink(os.dup(slave))
    sink.write(b"shown")
    assert os.read(master, 100) == b"shown"
    assert os.get_blocking(slave)
    sink.close()
    for fd in (master, slave):
        os.close(fd)
