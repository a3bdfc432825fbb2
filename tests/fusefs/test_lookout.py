"""The next message is looked for where a processor is to spare, and no longer than a moment."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.lookout import AFTER_READ, EACH, SECONDS, Lookout, lookout


class Clock:
    """Goes on by a microsecond each time that it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


class Scene:
    """A lookout on one end of a connection, on a machine of so many processors as this one, where two want to run."""

    def __init__(self, directory: Path) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.clock = Clock()
        self.load = directory / "loadavg"
        self.say(2)
        self.lookout = Lookout(self.ours.fileno(), self.load, self.clock)

    def say(self, running: int) -> None:
        """So many want to run."""
        self.load.write_text(f"0.52 0.58 0.59 {running}/1234 31415\n")

    def looked(self) -> bool:
        """Whether it looks for the next message."""
        before = self.clock.now
        self.lookout.look()
        return self.clock.now > before

    def close(self) -> None:
        self.lookout.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    scene = Scene(tmp_path)
    yield scene
    scene.close()


def test_it_returns_when_there_is_a_message(scene: Scene) -> None:
    scene.theirs.send(b"message")
    for _ in range(2 * EACH):
        began = scene.clock.now
        assert scene.looked()
        assert scene.clock.now - began < SECONDS / 2


def test_it_returns_when_none_comes(scene: Scene) -> None:
    assert scene.looked()
    assert SECONDS <= scene.clock.now <= 2 * SECONDS


def test_it_looks_where_a_processor_is_to_spare_and_sees_when_that_changes(scene: Scene) -> None:
    assert all(scene.looked() for _ in range(EACH))
    scene.say(3)
    assert not any(scene.looked() for _ in range(EACH))
    scene.say(1)
    assert all(scene.looked() for _ in range(EACH))


def test_nothing_is_looked_for_after_a_read(scene: Scene) -> None:
    assert scene.looked()
    scene.lookout.was_read()
    assert not scene.looked()
    scene.lookout.was_read()
    assert [scene.looked() for _ in range(AFTER_READ + 2)] == [False] * AFTER_READ + [True] * 2


def test_after_reads_it_is_not_seen_who_wants_to_run_and_then_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads one file after the other would pay for it, for nothing."""
    assert scene.looked()
    scene.lookout.was_read()
    scene.say(3)
    with monkeypatch.context() as patch:
        patch.setattr(scene.lookout, "running", lambda: pytest.fail("it was seen"))
        assert not any(scene.looked() for _ in range(AFTER_READ))
    assert not scene.looked(), "three want to run now"


def test_the_end_of_a_connection_is_not_waited_for(scene: Scene) -> None:
    scene.theirs.close()
    assert scene.looked()
    assert scene.clock.now < SECONDS


def test_on_one_processor_it_is_of_no_use(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lookout(scene.ours.fileno()) is not None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert lookout(scene.ours.fileno()) is None


@pytest.mark.parametrize("text", ["", "nonsense\n", None])
def test_where_it_cannot_be_seen_who_wants_to_run_it_is_of_no_use(scene: Scene, text: str | None) -> None:
    if text is None:
        scene.load.unlink()
    else:
        scene.load.write_text(text)
    assert lookout(scene.ours.fileno(), scene.load) is None


def test_what_another_file_system_says_of_it_is_not_asked_for(scene: Scene) -> None:
    """A container's may be lxcfs's, for whose answer all readers would wait."""
    scene.load.unlink()
    scene.load.symlink_to("/proc/loadavg")
    assert lookout(scene.ours.fileno(), scene.load) is None
