"""note."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import dry_run_option, revision_argument, verb
from runtime.cli.output import message
from runtime.cli.quoting import safe
from runtime.cli.render_commits import SHORT, title
from vcs.errors import BadInput, NotFound

if TYPE_CHECKING:
    from vcs.model import CommitId

F = TypeVar("F", bound=Callable[..., Any])


@click.group("note", context_settings={"help_option_names": ["-h", "--help"]})
def note() -> None:
    """Write, show or remove notes on commits.

    A note is a text that is added to a commit later, and does not change it: a review, a test's result, a warning.
    `log` and `show` print it below the message. They are git's own, at refs/notes/commits: `git log` and `git notes`
    in the store's history.git agree. `treering undo` takes a change of one back.

    \b
    Example:
      treering note add -m "passed the acceptance tests" nginx
      treering note append -m "in production since Monday" nginx
      treering note show nginx
      treering note list
    """


def _text_options(command: F) -> F:
    for option in (
        click.option("-F", "--file", "file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True),
                     help="Take the text from a file; `-` is standard input."),
        click.option("-m", "--message", "texts", multiple=True, metavar="TEXT",
                     help="The text; given again, a further paragraph."),
    ):  # fmt: skip
        command = option(command)
    return command


@verb("add", data=True)
@revision_argument(required=False, default="HEAD")
@_text_options
@click.option("-f", "--force", is_flag=True, help="Replace the note that is there.")
def add(invocation: Invocation, revision: str, texts: tuple[str, ...], file: Path | None, force: bool) -> None:
    """Write a note on a commit.

    REV is HEAD, if it is not given.

    \b
    Example:
      treering note add -m "passed the acceptance tests" nginx
      treering note add --force -F report.txt nginx~1
    """
    _put(invocation, revision, texts, file, force=force)


@verb("append", data=True)
@revision_argument(required=False, default="HEAD")
@_text_options
def append(invocation: Invocation, revision: str, texts: tuple[str, ...], file: Path | None) -> None:
    """Add a paragraph to the note on a commit.

    If there is no note, one is made.

    \b
    Example:
      treering note append -m "in production since Monday" nginx
    """
    _put(invocation, revision, texts, file, append=True)


@verb("show", data=True)
@revision_argument(required=False, default="HEAD")
def show(invocation: Invocation, revision: str) -> None:
    """Print the note on a commit.

    \b
    Example:
      treering note show nginx
    """
    from vcs.notes import notes_of

    commit = invocation.commit(revision)
    text = notes_of(invocation.store.history).find(commit)
    if text is None:
        raise NotFound(f"commit {commit[:SHORT]} has no note", note=commit)
    _tell(invocation, commit, text)


@verb("list", data=True)
def list_notes(invocation: Invocation) -> None:
    """List the commits that have notes.

    Each with the first line of its note, sorted by id.

    \b
    Example:
      treering note list
      treering note list --format jsonl
    """
    from vcs.notes import notes_of

    output = invocation.output
    notes = notes_of(invocation.store.history)

    def table(rows: Iterable[CommitId]) -> None:
        for commit in rows:
            output.line(f"{output.paint(commit[:SHORT], 'yellow')} {title(notes.find(commit) or '')}")

    output.rows(notes.all(), lambda commit: {"commit": commit, "note": notes.find(commit)}, table)


@verb("remove", data=True)
@revision_argument(required=False, default="HEAD")
@dry_run_option
def remove(invocation: Invocation, revision: str, dry_run: bool) -> None:
    """Remove the note on a commit.

    \b
    Example:
      treering note remove nginx
    """
    from vcs.notes import notes_of
    from vcs.notes import remove as remove_note

    commit = invocation.commit(revision)
    if dry_run:
        if notes_of(invocation.store.history).find(commit) is None:
            raise NotFound(f"commit {commit[:SHORT]} has no note", note=commit)
        message(f"The note on {commit[:SHORT]} would be removed")
        return
    remove_note(invocation.store, commit, invocation.author())
    if invocation.output.is_table:
        message(f"Removed the note on {commit[:SHORT]}; back: treering undo")
    else:
        invocation.output.value({"commit": commit, "note": None})


def _put(
    invocation: Invocation,
    revision: str,
    texts: tuple[str, ...],
    file: Path | None,
    *,
    force: bool = False,
    append: bool = False,
) -> None:
    from vcs.notes import put

    text = _text(texts, file)
    commit = invocation.commit(revision)
    note = put(invocation.store, commit, text, invocation.author(), force=force, append=append)
    if invocation.output.is_table:
        message(f"[{commit[:SHORT]}] noted: {safe(title(note))}; back: treering undo")
    else:
        _tell(invocation, commit, note)


def _text(texts: tuple[str, ...], file: Path | None) -> str:
    if bool(texts) == (file is not None):
        raise click.UsageError("say what to note: give either --message or --file")
    if file is None:
        return "\n\n".join(part.strip() for part in texts)
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is no text in UTF-8: {error.reason}", path=str(file)) from None


def _tell(invocation: Invocation, commit: CommitId, text: str) -> None:
    output = invocation.output
    if not output.is_table:
        output.value({"commit": commit, "note": text})
        return
    for line in text.rstrip("\n").split("\n"):
        output.line(safe(line))


for _verb in (add, append, show, list_notes, remove):
    note.add_command(_verb)

VERBS: dict[str, click.Command] = {"note": note}
