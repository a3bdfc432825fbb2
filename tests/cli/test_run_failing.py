"""`treering run` when something of ours fails: what never ran is removed, what ran is not."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from runtime import running
from runtime.cli.program import program
from tests.cli.conftest import Cli, environment
from tests.runtime.overlay_cases import needs_root
from vcs.errors import EngineError

pytestmark = needs_root


def run(box: Cli, *words: str) -> int:
    done = CliRunner(env=environment(box.store)).invoke(program, ["run", "--network", "none", "--name", "it", *words])
    return done.exit_code


def test_what_a_container_wrote_stays_when_its_supervisor_fails(box: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    start = running.start

    def fail(*args: object, **named: object) -> None:
        start(*args, **named)  # type: ignore[arg-type]
        raise EngineError("the supervisor failed")

    monkeypatch.setattr(running, "start", fail)
    assert run(box, "main", "sh", "-c", "echo precious > /precious") == 125
    assert "/precious" in box("diff", "it").stdout


def test_what_could_not_be_started_is_removed(box: Cli) -> None:
    assert run(box, "main", "/no/such") == 127
    assert "it" not in box("ps", "-a", "-q").stdout.split()
