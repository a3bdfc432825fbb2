"""`kill` says so if what it was to end goes on."""

from __future__ import annotations

import errno
import os

import pytest

from runtime import pausing, running
from runtime.cgroups import Cgroup, NoCgroup
from tests.cli.conftest import Cli
from vcs.errors import EngineError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def web(box: Cli) -> Cli:
    """A container called web that runs."""
    assert box.process("run", "-d", "--name", "web", "main", "sleep", "inf").returncode == 0
    return box


@pytest.mark.parametrize(
    "failure", [EngineError("it stays frozen: a cgroup above it is"), OSError(errno.EMFILE, os.strerror(errno.EMFILE))]
)
@pytest.mark.parametrize("verb", ["kill", "stop"])
def test_what_stays_paused(web: Cli, monkeypatch: pytest.MonkeyPatch, verb: str, failure: Exception) -> None:
    def refuse(*_: object) -> None:
        raise failure

    web("pause", "web")
    monkeypatch.setattr(Cgroup, "thaw", refuse)
    monkeypatch.setattr(running, "_signal" if verb == "stop" else "send_signal", lambda *_: None)
    monkeypatch.setattr(running, "wait", lambda *_, **__: True)  # as if it had ended: then only the refusal can be told
    assert str(failure.args[-1]) in web.error(verb, "web")["message"]


def test_what_has_ended_meanwhile_needs_no_thaw(web: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise NoCgroup("gone")

    monkeypatch.setattr(Cgroup, "thaw", gone)
    monkeypatch.setattr(pausing, "paused", lambda *_: True)
    web("kill", "web")


def test_what_does_not_end(web: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "kill", lambda *_: None)
    monkeypatch.setattr(running, "wait", lambda *_, **__: False)
    assert "does not end" in web.error("kill", "web")["message"]
