"""Logs: the format, rotation, what is read of them."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import keptlogs, log, logs
from runtime.keptlogs import KeptLog
from runtime.log import Line, LogWriter, parse, stamp
from runtime.settings import Log
from vcs.errors import Corrupt
from vcs.model import CommitId


def put_together(lines: list[Line]) -> dict[str, bytes]:
    """What was printed, by stream."""
    found: dict[str, bytes] = {}
    for line in lines:
        found[line.stream] = found.get(line.stream, b"") + line.text + (b"" if line.partial else b"\n")
    return found


CHUNK = (
    st.binary(max_size=60)
    | st.just(b"\n")
    | st.just(b"a\r\n")
    | st.binary(min_size=1, max_size=3).map(lambda part: part * 20000)
)


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), CHUNK), max_size=20), st.integers(2, 6))
def test_every_byte_comes_back(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[str, bytes]], n: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    writer = LogWriter(directory, Log(size=1 << 30, files=n))
    expected: dict[str, bytes] = {}
    for stream, data in chunks:
        writer.write(stream, data)
        if data:
            expected[stream] = expected.get(stream, b"") + data
    writer.close()
    assert put_together(list(log.read(directory))) == expected


def test_the_format(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, Log())
    writer.write("stdout", b"one\ntw")
    writer.write("stderr", b"oops\n")
    writer.write("stdout", b"o\n")
    writer.close()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [line.split(b" ", 1)[1] for line in lines] == [
        b"stdout F one", b"stdout P tw", b"stderr F oops", b"stdout F o",
    ]  # fmt: skip
    assert all(parse(line) for line in lines)
    assert stamp(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"


def test_it_is_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, Log(size=4000, files=3))
    for number in range(300):
        writer.write("stdout", b"line %d\n" % number)
    writer.close()
    assert [path.name for path in log.files(tmp_path)] == ["log.2", "log.1", "log"]
    assert all(path.stat().st_size <= 4100 for path in log.files(tmp_path))
    texts = [line.text for line in log.read(tmp_path)]
    assert texts == [b"line %d" % number for number in range(300 - len(texts), 300)]
    assert [line.text for line in logs.tail(tmp_path, 150)] == texts[-150:]


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_the_last_lines(tmp_path: Path, count: int) -> None:
    writer = LogWriter(tmp_path, Log())
    for number in range(10):
        writer.write("stdout", b"begin ")
        writer.write("stdout", b"%d\n" % number)
    writer.close()
    texts = [line.text for line in logs.tail(tmp_path, count)]
    assert texts == [part for number in range(max(0, 10 - count), 10) for part in (b"begin ", b"%d" % number)]
    assert list(logs.last(log.read(tmp_path), count)) == list(logs.tail(tmp_path, count))


def test_times_choose(tmp_path: Path) -> None:
    lines = [Line(stamp(second * 10**9), "stdout", b"%d" % second) for second in range(5)]
    assert [line.text for line in logs.selected(lines, stamp(10**9), stamp(3 * 10**9))] == [b"1", b"2"]


def test_what_a_power_cut_left_is_passed_over(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, Log())
    writer.write("stdout", b"whole\n")
    writer.close()
    with (tmp_path / "log").open("ab") as file:
        file.write(b"2026-11-01T12:00:0")
    again = LogWriter(tmp_path, Log())
    again.write("stdout", b"after\n")
    again.close()
    assert [line.text for line in log.read(tmp_path)] == [b"whole", b"after"]


def test_a_full_disk_costs_lines_and_says_so(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = LogWriter(tmp_path, Log())
    writer.write("stdout", b"before\n")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))
        writer.write("stdout", b"lost\n" * 100)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.write("stdout", b"after\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
        writer.close()
    texts = [line.text for line in log.read(tmp_path)]
    assert (texts[0], texts[-1]) == (b"before", b"after")
    assert b"bytes of this log were lost" in texts[1]
    assert os.strerror(errno.EFBIG).encode() in texts[1]


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: int, fails: Callable[..., bool]) -> None:
    """Have a call fail where `fails` says so of its arguments."""
    really = getattr(os, name)

    def call(*arguments: Any, **settings: Any) -> Any:
        if fails(*arguments):
            raise OSError(error, os.strerror(error))
        return really(*arguments, **settings)

    monkeypatch.setattr(os, name, call)


def test_a_short_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: max(1, len(data) // 2)]))
    writer = LogWriter(tmp_path, Log())
    writer.write("stdout", b"hello world\n" * 3)
    writer.close()
    assert [line.text for line in log.read(tmp_path)] == [b"hello world"] * 3


def test_what_is_cut_off_by_an_error_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(tmp_path, Log())
    writer.write("stdout", b"before\n")
    really, calls = os.write, iter(range(100))

    def cut(fd: int, data: bytes) -> int:
        if next(calls):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really(fd, data[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", cut)
        writer.write("stdout", b"lost\n")
        writer.write("stdout", b"lost\n")
    writer.write("stdout", b"after\n")
    writer.close()
    texts = [line.text for line in log.read(tmp_path)]
    lost = 2 * (len(stamp(0)) + len(" stdout F lost\n"))
    note = f"({lost} bytes of this log were lost: {os.strerror(errno.EIO)})"
    assert texts == [b"before", note.encode(), b"after"]


def test_a_line_that_could_not_be_ended_is_ended_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"2026-11-01T12:00:0")
    writer = LogWriter(tmp_path, Log())
    with monkeypatch.context() as patch:
        failing(patch, "write", errno.ENOSPC, lambda *_: True)
        writer.write("stdout", b"lost\n")
    writer.write("stdout", b"after\n")
    writer.close()
    assert [line.text for line in log.read(tmp_path)][-1] == b"after"
    assert len(list(log.read(tmp_path))) == 2


@pytest.mark.parametrize("stuck", ["log", "log.1", "log.2"])
def test_a_rotation_that_fails_costs_nothing_and_is_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    writer = LogWriter(tmp_path, Log(size=1, files=4))
    for number in range(4):
        writer.write("stdout", b"%d\n" % number)
    with monkeypatch.context() as patch:
        failing(patch, "rename", errno.ENOSPC, lambda source, _: Path(source).name == stuck)
        for number in range(4, 9):
            writer.write("stdout", b"%d\n" % number)
        # The oldest may have made room.
        assert [line.text for line in log.read(tmp_path)][-8:] == [b"%d" % number for number in range(1, 9)]
    writer.write("stdout", b"9\n")
    writer.close()
    assert [line.text for line in log.read(tmp_path)][-9:] == [b"%d" % number for number in range(1, 10)]
    assert [path.name for path in log.files(tmp_path)] == ["log.3", "log.2", "log.1", "log"]


def test_following_a_log_that_is_rotated(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, Log(size=500, files=9))
    writer.write("stdout", b"0\n")
    follower = logs.Follower(tmp_path)
    assert [line.text for line in follower.existing()] == [b"0"]
    for number in range(1, 10):
        writer.write("stdout", b"%d\n" % number)
    seen: list[bytes] = []
    for line in follower.coming(lambda: len(seen) < 19):
        seen.append(line.text)
        if len(seen) <= 10:
            writer.write("stdout", b"%d\n" % (len(seen) + 9))
    follower.close()
    writer.close()
    assert seen == [b"%d" % number for number in range(1, 20)]


def test_a_log_is_kept_found_and_expires(tmp_path: Path) -> None:
    directory = tmp_path / "containers"
    directory.mkdir()
    about = KeptLog("a" * 64, "web", "main", CommitId("c" * 40), 1000.0, 3, Path())
    assert not keptlogs.keep(tmp_path, directory, about)
    writer = LogWriter(directory, Log())
    writer.write("stdout", b"said\n")
    writer.close()
    assert keptlogs.keep(tmp_path, directory, about)
    (found,) = keptlogs.all_kept(tmp_path)
    assert (found.name, found.commit, found.exit_code) == ("web", "c" * 40, 3)
    assert [line.text for line in keptlogs.read(found)] == [b"said"]
    (tmp_path / "logs" / ("b" * 64)).write_bytes(b"garbage\n")
    assert keptlogs.all_kept(tmp_path) == [found]
    found.path.write_bytes(found.path.read_bytes()[:-4])
    with pytest.raises(Corrupt):
        list(keptlogs.read(found))
    assert keptlogs.expire(tmp_path, 2000, dry_run=True) == 1
    assert keptlogs.expire(tmp_path, 500) == 0
    assert keptlogs.expire(tmp_path, 2000) == 1
    assert keptlogs.all_kept(tmp_path) == []
