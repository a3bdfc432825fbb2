"""bisect."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import revision_argument, verb
from runtime.cli.output import Output, message
from runtime.cli.render_bisect import note_line, outlook_fields, tell
from runtime.cli.render_commits import SHORT, decorations, moment, oneline, title
from runtime.cli.run_options import GroupedCommand, throwaway_options
from vcs.errors import BadInput

if TYPE_CHECKING:
    from runtime.branches.bisecting import Ran
    from vcs.bisection.midpoint import Outlook
    from vcs.bisection.notebook import Mark, Verdict, Words
    from vcs.bisection.session import Bisection
    from vcs.model import CommitId

_NOT_FOUND = 1
_BEFORE_COMMAND = {"allow_interspersed_args": False}
"""Options come before COMMAND; all that follows it is the command's."""


@click.group("bisect", context_settings={"help_option_names": ["-h", "--help"]})
def bisect() -> None:
    """Find the commit that broke something.

    Of the commits between one that is bad and one that is good, it names the one to test next: the one that halves
    them, beside merges too. You say what it is, or have a command say so, and the next one is named, until the first
    bad commit is known: of a thousand, after ten tests. docs/bisect.md has more.

    A mistaken verdict is taken back by the right one on the same commit. Nothing here moves a branch, a tag or a
    container.

    \b
    Example:
      treering bisect start main v1
      treering bisect run -- nginx -t
      treering bisect reset
    """


@verb("start", data=True)
@revision_argument("bad", required=False, metavar="[BAD")
@revision_argument("good", nargs=-1, metavar="[GOOD]...]")
def start(invocation: Invocation, bad: str | None, good: tuple[str, ...]) -> None:
    """Begin, with a bad commit and good ones.

    BAD is a commit in which something is broken, GOOD one in which it is not. Both can be given later, with `bad` and
    `good`.

    \b
    Example:
      treering bisect start main main~20
    """
    from vcs.bisection.notebook import Words

    bisection = _bisection(invocation)
    worst = invocation.commit(bad) if bad else None
    ahead = bisection.start(worst, [invocation.commit(one) for one in good], invocation.author(), Words())
    _tell(invocation, bisection, ahead)


def _mark(verdict: Verdict, words: tuple[str, str] | None, invocation: Invocation, revisions: tuple[str, ...]) -> None:
    from vcs.bisection.notebook import Words

    bisection = _bisection(invocation)
    commits = [commit for one in revisions for commit in _named(invocation, bisection, one)] or [_current(bisection)]
    spoken: Words | None = Words(*words) if words else None
    _tell(invocation, bisection, bisection.mark(verdict, commits, invocation.author(), words=spoken))


_GOOD_BAD, _OLD_NEW = ("good", "bad"), ("old", "new")


@verb("good", data=True)
@revision_argument("revisions", nargs=-1, metavar="[REV]...")
def good(invocation: Invocation, revisions: tuple[str, ...]) -> None:
    """Say that a commit is good.

    Without REV, the one that is to be tested.

    \b
    Example:
      treering bisect good
      treering bisect good v1 v2
    """
    _mark("good", _GOOD_BAD, invocation, revisions)


@verb("bad", data=True)
@revision_argument("revision", required=False)
def bad(invocation: Invocation, revision: str | None) -> None:
    """Say that a commit is bad.

    Without REV, the one that is to be tested.

    \b
    Example:
      treering bisect bad
    """
    _mark("bad", _GOOD_BAD, invocation, (revision,) if revision else ())


@verb("old", data=True)
@revision_argument("revisions", nargs=-1, metavar="[REV]...")
def old(invocation: Invocation, revisions: tuple[str, ...]) -> None:
    """Another word for `good`.

    Where what is looked for is no fault: the commit is as it was.

    \b
    Example:
      treering bisect start
      treering bisect old v1
      treering bisect new main
    """
    _mark("good", _OLD_NEW, invocation, revisions)


@verb("new", data=True)
@revision_argument("revision", required=False)
def new(invocation: Invocation, revision: str | None) -> None:
    """Another word for `bad`.

    Where what is looked for is no fault: the commit is as it is now.

    \b
    Example:
      treering bisect new
    """
    _mark("bad", _OLD_NEW, invocation, (revision,) if revision else ())


@verb("skip", data=True)
@revision_argument("revisions", nargs=-1, metavar="[REV|A..B]...")
def skip(invocation: Invocation, revisions: tuple[str, ...]) -> None:
    """Say that a commit cannot be tested.

    Without REV, the one that was to be. Another one is named, near it or further away. `A..B` are the commits that B
    has and A has not.

    \b
    Example:
      treering bisect skip
      treering bisect skip main~9..main~6
    """
    _mark("skip", None, invocation, revisions)


@verb("run", data=True, namespaces="mount", context_settings=_BEFORE_COMMAND, cls=GroupedCommand)
@click.argument("command", nargs=-1, required=True, metavar="[--] COMMAND [ARG]...", type=click.UNPROCESSED)
@throwaway_options
def run(invocation: Invocation, command: tuple[str, ...], **asked: Any) -> int:
    """Have a command say which commits are good.

    Until the first bad one is known, it is run in a container on each commit that is to be tested, which is removed
    when it ends, and has no network unless one is asked for. Its exit code says what the commit is: 0 good; 1 to 124,
    126 and 127 bad; 125 that it cannot be tested (skip), and so does a container that cannot be started. 128 and more,
    and Ctrl-C, stop the bisection where it is: the next `run` goes on there.

    If it is missing, or cannot be started, on the first commit, it is tried on a good one too: if it cannot be run
    there either, the command is wrong, and not the commit.

    The exit code is 0 if the first bad commit is known, 1 if only skipped ones are left; else that of the command.

    \b
    Example:
      treering bisect start main v1
      treering bisect run -- python3 -c 'import numpy'
      treering bisect run -v ./check.sh:/check.sh:ro -- sh /check.sh
    """
    from runtime.branches.bisecting import Trial
    from runtime.branches.bisecting import run as run_trial
    from runtime.cli.run_settings import check_here, make_sources, settings_of

    bisection, history = _bisection(invocation), invocation.store.history
    names = bisection.read().words

    def settings(commit: CommitId) -> Any:
        return settings_of(asked, command, history.config(commit))

    check_here(settings(invocation.commit(_any(bisection))))
    make_sources(asked)
    trial = Trial(invocation.containers, settings, invocation.author())
    tests: list[Ran] = []
    with _command_output(invocation.output):
        for ran in run_trial(bisection, trial, invocation.author(), partial(_announce, invocation)):
            tests.append(ran)
            _say(ran, names)
    found = bisection.read()
    ahead = bisection.outlook(found)
    if invocation.output.is_table:
        tell(invocation, found, ahead)
    else:
        invocation.output.value({**outlook_fields(invocation, found, ahead), "tests": [_test(one) for one in tests]})
    if tests and tests[-1].verdict is None:
        return 128 + tests[-1].signal if tests[-1].signal else tests[-1].code
    return 0 if ahead.state == "found" else _NOT_FOUND


@verb("status", data=True)
def status(invocation: Invocation) -> None:
    """Tell which commit is to be tested.

    And how many commits may be the first bad one, and how many tests it takes at most.

    \b
    Example:
      treering bisect status
      treering bisect status --format json
    """
    bisection = _bisection(invocation)
    _tell(invocation, bisection, bisection.outlook(bisection.read()))


@verb("log", data=True)
def log(invocation: Invocation) -> None:
    """List the verdicts, as commands.

    After `treering bisect reset`, `sh FILE` gives them again.

    \b
    Example:
      treering bisect log > FILE
    """
    found = _bisection(invocation).read()
    output, history = invocation.output, invocation.store.history

    def fields(mark: Mark) -> dict[str, Any]:
        info = history.info(mark.commit)
        when = moment(mark.time, 0).isoformat()
        return {
            "verdict": mark.verdict, "commit": mark.commit, "title": title(info.message), "date": when,
            "exit_code": mark.exit_code,
        }  # fmt: skip

    def table(marks: Iterable[Mark]) -> None:
        output.line("treering bisect start")
        for mark in marks:
            output.line(note_line(found.words, mark, history.info(mark.commit)))

    output.rows(found.marks, fields, table)


@verb("reset")
def reset(invocation: Invocation) -> None:
    """End the bisection, and forget its verdicts.

    \b
    Example:
      treering bisect reset
    """
    if not _bisection(invocation).reset():
        message("There was no bisection.")


for _verb in (start, good, bad, old, new, skip, run, status, log, reset):
    bisect.add_command(_verb)


# -- details


def _bisection(invocation: Invocation) -> Bisection:
    from vcs.bisection.session import Bisection

    return Bisection(invocation.store)


def _named(invocation: Invocation, bisection: Bisection, text: str) -> Sequence[CommitId]:
    """The commits that REV or A..B names."""
    start, dots, end = text.partition("..")
    if not dots:
        return [invocation.commit(text)]
    found = bisection.between(invocation.commit(start), invocation.commit(end))
    if not found:
        raise BadInput(f"{text!r} names no commit: the first one has all of the second's", bisect="empty")
    return found


def _current(bisection: Bisection) -> CommitId:
    """What was told to be tested, as it was told: whoever gives a verdict at the same time does not change it."""
    current = bisection.read().current
    if current is None:
        raise BadInput("no commit is being tested: say which one is meant", bisect="waiting")
    return current  # type: ignore[return-value]


def _any(bisection: Bisection) -> str:
    """Some commit of the bisection."""
    found = bisection.read()
    return found.current or _waiting(found.marks)


def _waiting(marks: Sequence[Mark]) -> str:
    if not marks:
        raise BadInput("it is not known yet which commit is bad, and which one good", bisect="waiting")
    return marks[-1].commit


def _tell(invocation: Invocation, bisection: Bisection, ahead: Outlook) -> None:
    found = bisection.read()
    if invocation.output.is_table:
        tell(invocation, found, ahead)
    else:
        invocation.output.value(outlook_fields(invocation, found, ahead))


# -- a run


def _announce(invocation: Invocation, commit: CommitId, ahead: Outlook) -> None:
    info = invocation.store.commit(commit)
    invocation.output.flush()
    about = "at most" if ahead.is_exact else "about"
    message(f"Testing {oneline(Output(), info, decorations(invocation.store))} ({about} {ahead.steps} to go)")


def _say(ran: Ran, words: Words) -> None:
    if ran.verdict is None:
        why = "interrupted" if ran.signal else f"exit code {ran.code}"
        message(f"Stopped at {ran.commit[:SHORT]}: {why}. To go on, run it again; to end it: treering bisect reset")
        return
    spoken = {"good": words.good, "bad": words.bad, "skip": "skipped"}[ran.verdict]
    message(f"{ran.commit[:SHORT]} is {spoken}: {ran.problem or f'exit code {ran.code}'}")


def _test(ran: Ran) -> dict[str, Any]:
    return {
        "commit": ran.commit, "exit_code": ran.code, "verdict": ran.verdict, "problem": ran.problem or None,
        "signal": ran.signal,
    }  # fmt: skip


@contextmanager
def _command_output(output: Output) -> Iterator[None]:
    """Where our output is for a program, what the command prints goes to standard error."""
    if output.is_table:
        yield
        return
    output.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


VERBS: dict[str, click.Command] = {"bisect": bisect}
