"""branch, tag, reflog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import branch_completion, dry_run_option, revision_argument, tag_completion, verb
from runtime.cli.output import message
from runtime.cli.pager import paged
from runtime.cli.quoting import safe
from runtime.cli.render_commits import SHORT, date_text, moment, title
from runtime.cli.signing import key_option, tag_signer
from vcs.errors import AlreadyExists, InvalidName, NotFound

if TYPE_CHECKING:
    from vcs.history import RefChange
    from vcs.model import CommitId

_BRANCHES = "refs/heads/"
_TAGS = "refs/tags/"


@verb("branch", data=True, past=True)
@click.argument("name", required=False, shell_complete=branch_completion)
@revision_argument(required=False)
@click.option("-f", "--force", is_flag=True, help="Move a branch that exists.")
@click.option("-d", "--delete", is_flag=True, help="Delete the branch NAME.")
@click.option("-m", "--move", "rename", is_flag=True, help="Rename the branch NAME to REV.")
@dry_run_option
def branch(
    invocation: Invocation,
    name: str | None,
    revision: str | None,
    force: bool,
    delete: bool,
    rename: bool,
    dry_run: bool,
) -> None:
    """List, make, move, rename or delete branches.

    Without NAME, the branches are listed with their commits. With NAME, a branch is made at REV (main, if not given).

    \b
    Example:
      treering branch
      treering branch exp nginx
      treering branch -f exp main~1
      treering branch -m exp experiment
      treering branch -d experiment
    """
    if delete and rename:
        raise click.UsageError("--delete and --move exclude one another")
    if name is None:
        if delete or rename or force:
            raise click.UsageError("a branch's NAME is missing")
        _list(invocation, invocation.store.branches())
    elif delete:
        if revision is not None:
            raise click.UsageError("--delete takes one branch")
        _delete(invocation, _BRANCHES, name, dry_run)
    elif rename:
        if revision is None:
            raise click.UsageError("the new name is missing: treering branch -m OLD NEW")
        _rename(invocation, name, revision, force, dry_run)
    else:
        _set_branch(invocation, name, revision or "HEAD", force, dry_run)


def _set_branch(invocation: Invocation, name: str, revision: str, force: bool, dry_run: bool) -> None:
    history = invocation.store.history
    _check_name(name)
    commit = invocation.commit(revision)
    current = history.target(_BRANCHES + name)
    if current is not None and not force:
        raise AlreadyExists(f"branch {name!r} exists already, at {current[:SHORT]}", name=name, found=current)
    if dry_run:
        message(f"Branch {name} would be at {commit[:SHORT]}")
        return
    reason = f"branch: moved to {revision}" if current else f"branch: created from {revision}"
    history.move(_BRANCHES + name, commit, current, reason, invocation.author())
    if current and current != commit:
        message(f"Branch {name} was at {current[:SHORT]}; back: treering branch -f {name} {current[:SHORT]}")


def _rename(invocation: Invocation, old: str, new: str, force: bool, dry_run: bool) -> None:
    history = invocation.store.history
    _check_name(new)
    commit = history.target(_BRANCHES + old)
    if commit is None:
        raise NotFound(f"no branch {old!r}", name=old)
    taken = history.target(_BRANCHES + new)
    reason = f"branch: renamed {old} to {new}"
    is_begun = taken == commit and history.reflog(_BRANCHES + new)[0].message == reason  # and was killed then
    if taken is not None and not force and not is_begun:
        raise AlreadyExists(f"branch {new!r} exists already, at {taken[:SHORT]}", name=new, found=taken)
    if dry_run:
        message(f"Branch {old} would be called {new}")
        return
    history.move(_BRANCHES + new, commit, taken, reason, invocation.author())
    history.delete(_BRANCHES + old)
    if taken and taken != commit:
        message(f"Branch {new} was at {taken[:SHORT]}; back: treering branch -f {new} {taken[:SHORT]}")


@verb("tag", data=True, past=True)
@click.argument("name", required=False, shell_complete=tag_completion)
@revision_argument(required=False)
@click.option("-m", "--message", "text", metavar="MESSAGE", help="Say why: makes an annotated tag.")
@click.option("-f", "--force", is_flag=True, help="Move a tag that exists.")
@click.option("-d", "--delete", is_flag=True, help="Delete the tag NAME.")
@click.option("-s", "--sign/--no-sign", default=None, help="Sign it with an SSH key; or do not, whatever git says.")
@key_option
@dry_run_option
def tag(
    invocation: Invocation,
    name: str | None,
    revision: str | None,
    text: str | None,
    force: bool,
    delete: bool,
    sign: bool | None,
    key: str | None,
    dry_run: bool,
) -> None:
    """List, make or delete tags.

    Without NAME, the tags are listed with their commits. With NAME, a tag is made at REV (main, if not given).
    One with a message can be signed, and is where git's tag.gpgSign says so.

    \b
    Example:
      treering tag
      treering tag v1 nginx
      treering tag -m "what the customer has" v1.1 main
      treering tag -d v1
    """
    store = invocation.store
    if name is None:
        if delete or force or text is not None:
            raise click.UsageError("a tag's NAME is missing")
        _list(invocation, store.tags())
        return
    if delete:
        _delete(invocation, _TAGS, name, dry_run)
        return
    _check_name(name)
    if text is None and (sign or key):
        raise click.UsageError("only a tag with a --message can be signed")
    commit = invocation.commit(revision or "HEAD")
    signs = None if text is None else tag_signer(invocation, sign, key)
    current = store.tags().get(name)
    if current is not None and not force:
        raise AlreadyExists(f"tag {name!r} exists already, at {current[:SHORT]}", name=name, found=current)
    if dry_run:
        message(f"Tag {name} would be at {commit[:SHORT]}")
        return
    store.history.tag(name, commit, text, invocation.author(), force=force, sign=signs)
    if current and current != commit:
        message(f"Tag {name} was at {current[:SHORT]}; back: treering tag -f {name} {current[:SHORT]}")


def _check_name(name: str) -> None:
    """Git allows a branch called `-d` or `HEAD`; nobody could use it."""
    if name.startswith("-") or name == "HEAD" or not name.isprintable():
        raise InvalidName(f"{name!r} cannot be a name: see git-check-ref-format(1)", name=name)


def _delete(invocation: Invocation, prefix: str, name: str, dry_run: bool) -> None:
    """Delete a ref and say how to get it back. The commit of an annotated tag is told, not the tag's own id."""
    history = invocation.store.history
    kind = "branch" if prefix == _BRANCHES else "tag"
    commit = history.refs(prefix).get(name)
    if commit is None:
        raise NotFound(f"no {kind} {name!r}", name=name)
    if dry_run:
        message(f"{kind.capitalize()} {name} would be deleted; it is at {commit[:SHORT]}")
        return
    history.delete(prefix + name)
    message(f"Deleted {kind} {name}, which was at {commit[:SHORT]}; back: treering {kind} {name} {commit[:SHORT]}")


def _list(invocation: Invocation, refs: dict[str, CommitId]) -> None:
    """Names with their commits, as `git branch -v`."""
    store, output = invocation.store, invocation.output
    rows = [(name, store.commit(commit)) for name, commit in refs.items()]
    width = max((len(name) for name in refs), default=0)

    def fields(row: Any) -> dict[str, Any]:
        name, info = row
        date = moment(info.time, info.offset).isoformat()
        return {"name": name, "commit": info.id, "title": title(info.message), "date": date}

    def table(rows: Any) -> None:
        for name, info in rows:
            shown = output.paint(name.ljust(width), "green")
            output.line(f"{shown}   {output.paint(info.id[:SHORT], 'yellow')}   {title(info.message)}")

    output.rows(rows, fields, table)


@verb("reflog", data=True, past=True)
@click.argument("name", metavar="[BRANCH]", required=False, default="main", shell_complete=branch_completion)
def reflog(invocation: Invocation, name: str) -> None:
    """Show where a branch has been.

    The newest comes first. Each line's name (`main@{1}`) is a revision that other verbs understand. Without BRANCH, it
    is main's.

    \b
    Example:
      treering reflog nginx
      treering branch -f nginx 'nginx@{1}'
    """
    history, output = invocation.store.history, invocation.output
    ref = next((ref for ref in (_BRANCHES + name, _TAGS + name) if history.target(ref)), None)
    if ref is None:
        ref = invocation.containers.find(name).ref if name in _container_names(invocation) else _BRANCHES + name
    changes = history.reflog(ref)

    def fields(change: RefChange) -> dict[str, Any]:
        date = moment(change.time, 0).isoformat()
        return {
            "index": change.index, "old": change.old, "new": change.new, "who": change.who, "date": date,
            "message": change.message,
        }  # fmt: skip

    def table(rows: Any) -> None:
        for change in rows:
            place = f"{name}@{{{change.index}}}"
            when = date_text(change.time, 0)
            output.line(f"{output.paint(change.new[:SHORT], 'yellow')} {place}: {safe(change.message)}  ({when})")

    with paged(output, wanted=invocation.use_pager):
        output.rows(changes, fields, table)


def _container_names(invocation: Invocation) -> set[str]:
    return {container.name for container in invocation.containers.all()}


VERBS: dict[str, click.Command] = {"branch": branch, "tag": tag, "reflog": reflog}
