"""Where a bisection is, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.cli.output import count_text, message
from runtime.cli.render_commits import SHORT, commit_fields, decorations, oneline, title, write_commit

if TYPE_CHECKING:
    from runtime.cli.invocation import Invocation
    from vcs.bisection.midpoint import Outlook
    from vcs.bisection.notebook import Mark, Notebook, Words
    from vcs.model import CommitId
    from vcs.snapshot import CommitInfo


def outlook_fields(invocation: Invocation, found: Notebook, ahead: Outlook) -> dict[str, Any]:
    """The same as tell(), for JSON."""
    verdicts = found.verdicts()
    names = decorations(invocation.store)
    commit = None if ahead.commit is None else commit_fields(invocation.store.commit(ahead.commit), names)
    return {
        "state": ahead.state,
        "words": {"good": found.words.good, "bad": found.words.bad},
        "bad": verdicts.bad,
        "good": list(verdicts.good),
        "skipped": sorted(verdicts.skipped),
        "left": ahead.left,
        "steps": ahead.steps,
        "steps_are_exact": ahead.is_exact,
        "test": commit if ahead.state == "test" else None,
        "is_merge_base": ahead.is_merge_base,
        "first_bad": commit if ahead.state == "found" else None,
        "suspects": list(ahead.suspects),
    }


def tell(invocation: Invocation, found: Notebook, ahead: Outlook) -> None:
    """Which commit to test, or what was found."""
    match ahead.state:
        case "waiting":
            _tell_waiting(found)
        case "test":
            assert ahead.commit is not None
            _tell_test(invocation, found.words, ahead, ahead.commit)
        case "found":
            assert ahead.commit is not None
            _tell_found(invocation, found.words, ahead.commit)
        case "skipped":
            _tell_skipped(invocation, found.words, ahead)


def note_line(words: Words, mark: Mark, info: CommitInfo) -> str:
    """A verdict as the command that gives it."""
    spoken = {"good": words.good, "bad": words.bad, "skip": "skip"}[mark.verdict]
    code = "" if mark.exit_code is None else f" (exit code {mark.exit_code})"
    return f"treering bisect {spoken} {mark.commit}  # {title(info.message)}{code}"


def _tell_waiting(found: Notebook) -> None:
    verdicts, words = found.verdicts(), found.words
    lacking = [word for word, one in ((words.bad, verdicts.bad), (words.good, verdicts.good)) if not one]
    message(
        f"It is not known yet which commit is {' and which one is '.join(lacking)}: treering bisect {lacking[0]} REV"
    )


def _tell_test(invocation: Invocation, words: Words, ahead: Outlook, commit: CommitId) -> None:
    output = invocation.output
    about = "at most" if ahead.is_exact else "about"
    if ahead.is_merge_base:
        message(
            f"The {words.bad} commit does not stand on a {words.good} one: first, what both stand on has to be tested"
        )
    counts = f"{count_text(ahead.left, 'commit')} may be the first {words.bad} one"
    output.line(f"{counts}, {about} {count_text(ahead.steps, 'test')} to go; the next one:")
    output.line(oneline(output, invocation.store.commit(commit), decorations(invocation.store)))
    output.flush()
    message(f"Look at it: treering run --rm -it {commit[:SHORT]} sh")
    message(f"Then say:   treering bisect {words.good}, or {words.bad}, or skip")


def _tell_found(invocation: Invocation, words: Words, commit: CommitId) -> None:
    from runtime.cli.compare import Comparison
    from runtime.cli.render_changes import summary

    output, info = invocation.output, invocation.store.commit(commit)
    output.line(f"{commit} is the first {words.bad} commit")
    write_commit(output, info, decorations(invocation.store))
    if info.parents:
        output.line()
        output.line(f"    {summary(Comparison.against_parent(invocation.store, info).changes())}")
    output.flush()
    message(f"What it changed: treering show {commit[:SHORT]}    To end: treering bisect reset")


def _tell_skipped(invocation: Invocation, words: Words, ahead: Outlook) -> None:
    output = invocation.output
    output.line(f"Only commits that were skipped are left. The first {words.bad} one is one of:")
    for commit in ahead.suspects:
        output.line(oneline(output, invocation.store.commit(commit), decorations(invocation.store)))
