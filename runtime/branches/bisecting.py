"""A bisection whose verdicts a command gives: it is run on each commit that is to be tested, in a throw-away container.

Exit codes mean what they mean to `git bisect run`:

    0                       good
    1 to 124, 126, 127      bad
    125                     it cannot be told: skip
    128 and more            the bisection stops where it is; so it does if the command is interrupted

A container that cannot be started is a skip too, or bad if its command is what is missing (126, 127). Where either
happens before the command has been run anywhere, it is tried on a commit that is known to be good: if it cannot be run
there either, the command is what is wrong, and no verdict is given.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runtime.containers import Containers
from runtime.removal import remove_ended
from runtime.running import start
from runtime.settings import Settings
from vcs.bisection.midpoint import Outlook
from vcs.bisection.notebook import Verdict
from vcs.bisection.session import Bisection
from vcs.errors import BadInput, EngineError
from vcs.gitwords import Author
from vcs.model import CommitId

SKIP = 125
_NOT_RUN = (126, 127)
_STOPS = 128
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended on a commit."""

    commit: CommitId
    code: int
    problem: str = ""
    """Why it could not be run at all."""
    signal: int | None = None
    """That we were told to end meanwhile: its exit code says nothing then."""

    @property
    def is_run(self) -> bool:
        """Whether there was such a command, as far as its exit code tells."""
        return not self.problem and self.code not in _NOT_RUN

    @property
    def verdict(self) -> Verdict | None:
        """None if the bisection is to stop."""
        if self.signal is not None or self.code >= _STOPS:
            return None
        return "good" if self.code == 0 else "skip" if self.code == SKIP else "bad"


class Trial:
    """A command, run in a container of its own on one commit after another."""

    def __init__(self, containers: Containers, settings: Callable[[CommitId], Settings], author: Author) -> None:
        self._containers = containers
        self._settings = settings
        self._author = author
        self._heard: int | None = None

    def run(self, commit: CommitId) -> Ran:
        """Run it on a commit. TreeringError if that is not the commit's fault."""
        self._heard = None
        container = self._containers.create(commit, commit, self._settings(commit), self._author)
        try:
            code = start(self._containers, container, self._author, instead=self._hear)
            return Ran(commit, code, signal=self._heard)
        except EngineError as error:
            return Ran(commit, int(error.facts.get("exit_code", SKIP)), str(error), self._heard)
        finally:
            remove_ended(self._containers.store, container.id, self._author)

    def _hear(self, number: int) -> int:
        """The signal that the container gets when we got this one. Whoever interrupts us wants it to end, and there is
        nothing in it to be saved."""
        if number not in _ENDING:
            return number
        self._heard = number
        return signal.SIGKILL


def run(bisection: Bisection, trial: Trial, author: Author, told: Callable[[CommitId, Outlook], None]) -> Iterator[Ran]:
    """Test until the first bad commit is known, or nothing can be tested any more; yields each test once its verdict is
    written down. The last one has no verdict if the bisection stops there. `told` is called before each test.

    BadInput if the verdicts so far leave nothing to test yet; also if the command cannot be run where it should be.
    """
    with bisection.running():
        found = bisection.read()
        ahead = bisection.outlook(found)
        if ahead.state == "waiting":
            raise BadInput("it is not known yet which commit is bad, and which one good", bisect="waiting")
        is_sound = False
        while ahead.state == "test":
            assert ahead.commit is not None
            told(ahead.commit, ahead)
            ran = trial.run(ahead.commit)
            if ran.verdict is not None:
                if not is_sound and not ran.is_run:
                    stopped = _checked(trial, ran, bisection.read().verdicts().good[-1])
                    if stopped is not None:
                        yield stopped
                        return
                is_sound = True
                ahead = bisection.mark(ran.verdict, [ran.commit], author, exit_code=ran.code)
            yield ran
            if ran.verdict is None:
                return


def _checked(trial: Trial, ran: Ran, good: CommitId) -> Ran | None:
    """Try the command on a good commit. What came of it if we were interrupted; BadInput if it cannot be run there."""
    there = trial.run(good)
    if there.verdict is None:
        return there
    if not there.is_run:
        why = there.problem or f"exit code {there.code}"
        raise BadInput(
            f"the command can be run neither on {ran.commit[:12]} nor on {good[:12]}, which is good: {why}",
            bisect="command",
        )
    return None
