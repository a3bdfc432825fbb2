"""Processors are kept awake within bursts of messages, and no longer."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fusefs.wakefulness import Wakefulness, is_of_use
from fusefs.worker import helper
from tests.fusefs.serving import until
from tests.support.processes import holders
from tests.support.scarcity import no_threads


def test_a_burst_is_followed_to_its_end(tmp_path: Path) -> None:
    device = tmp_path / "latency"
    device.write_bytes(b"")
    messages = 0

    def count() -> int:
        nonlocal messages
        messages += 1 if going else 0
        return messages

    going = True
    wakefulness = Wakefulness(count, device)
    try:
        assert not wakefulness.is_asked
        wakefulness.noticed()
        wakefulness.noticed()
        assert holders(device) == 1
        assert device.read_bytes() == bytes(4)
        until(lambda: messages > 10)
        assert wakefulness.is_asked, "messages keep coming"
        going = False
        until(lambda: not wakefulness.is_asked)
        assert holders(device) == 0
        wakefulness.noticed()
        assert holders(device) == 1, "the next burst"
    finally:
        wakefulness.close()
    assert holders(device) == 0


def test_a_device_that_cannot_be_opened_does_not_matter(tmp_path: Path) -> None:
    wakefulness = Wakefulness(lambda: 0, tmp_path / "absent")
    wakefulness.noticed()
    assert not wakefulness.is_asked
    wakefulness.close()


def test_a_worker_does_without_a_thread_that_cannot_be_had(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with no_threads():
        assert helper(lambda: Wakefulness(lambda: 0, tmp_path / "absent")) is None
    assert "can't start new thread" in caplog.text


@pytest.mark.parametrize(
    ("governor", "present", "expected"),
    [("haltpoll\n", True, True), ("menu\n", True, False), ("haltpoll\n", False, False), (None, True, False)],
)
def test_where_it_is_of_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, governor: str | None, present: bool, expected: bool
) -> None:
    device, current = tmp_path / "latency", tmp_path / "current_governor"
    if present:
        device.touch()
    if governor is not None:
        current.write_text(governor)
    with caplog.at_level(logging.INFO):
        assert is_of_use(device, current) is expected
    assert len(caplog.records) == 1, "it says why"
