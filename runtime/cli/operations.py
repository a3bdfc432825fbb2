"""op, undo, redo."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import dry_run_option, operation_argument, verb
from runtime.cli.output import count_text, message
from runtime.cli.pager import paged
from runtime.cli.quoting import safe
from runtime.cli.render_commits import SHORT, date_text, moment

if TYPE_CHECKING:
    from runtime.branches.undoing import Plan
    from vcs.operationlines import Change, Operation

_KINDS = {
    "refs/heads/": "branch", "refs/tags/": "tag", "refs/containers/": "container", "refs/removed/": "last state",
    "refs/notes/": "notes", "refs/stashes/": "stash",
}  # fmt: skip
_NAMED = ("refs/heads/", "refs/tags/", "refs/notes/", "refs/stashes/")


@verb("undo", data=True, namespaces="enter")
@dry_run_option
def undo(invocation: Invocation, dry_run: bool) -> None:
    """Take back what the last command did to branches, tags and containers.

    Said again, it takes back the command before, and so on; `treering redo` takes back an undo. What was deleted is
    there again, what was moved is where it was, and what was made is gone: a container that was made is removed, and
    its state kept; one that was removed is made again, on its last state. After a commit, its container's files stay
    as they are, and are changes again.

    If something has moved since in another way, or a container runs that would have to change, nothing is changed at
    all. A branch that comes back has the reflog that it had.

    \b
    Example:
      treering branch -d work
      treering undo --dry-run
      treering undo
    """
    from runtime.branches.undoing import plan_inverse
    from vcs.takingback import next_undo

    operation = next_undo(invocation.store.operations)
    _carry_out(invocation, plan_inverse(invocation.containers, operation, "undo"), dry_run)


@verb("redo", data=True, namespaces="enter")
@dry_run_option
def redo(invocation: Invocation, dry_run: bool) -> None:
    """Do again what undo took back.

    As often as undo was said; until something else is changed.

    \b
    Example:
      treering undo
      treering redo
    """
    from runtime.branches.undoing import plan_inverse
    from vcs.takingback import next_redo

    operation = next_redo(invocation.store.operations)
    _carry_out(invocation, plan_inverse(invocation.containers, operation, "redo"), dry_run)


@click.group("op", context_settings={"help_option_names": ["-h", "--help"]})
def op() -> None:
    """Look at the operation log, or go back to a point of it.

    An operation is what one command has changed: branches, tags and containers, each from where to where. They are kept
    until `treering gc --expire` drops them, after 30 days if nothing else is said.

    \b
    Example:
      treering op log
      treering op show @
      treering op restore 3f2a
    """


@verb("log", data=True, past=True)
@click.option("-n", "--max-count", "limit", type=click.IntRange(min=0), metavar="N", help="At most N of them.")
def log(invocation: Invocation, limit: int | None) -> None:
    """List operations, newest first.

    ID is what other commands and --at-op take; `@` is the newest, `@~1` the one before.

    \b
    Example:
      treering op log -n 10
      treering --at-op 3f2a log main
      treering op log --format jsonl
    """
    from vcs.takingback import origin, stacks

    output = invocation.output
    everything = invocation.store.operations.read()
    by_id = {one.id: one for one in everything}
    in_force = {origin(by_id, one).id for one in stacks(everything)[0]}
    rows = everything[::-1][:limit]

    def table(rows: Iterable[Operation]) -> None:
        shown = list(rows)
        cells = [(one.id, date_text(one.time, 0), _summary(one), _told(one, in_force)) for one in shown]
        titles, *lines = output.columns_text(("ID", "DATE", "CHANGED", "COMMAND"), cells)
        output.line(titles)
        for one, line in zip(shown, lines, strict=True):
            colour = "dim" if _is_undone(one, in_force) else "yellow"
            output.line(output.paint(one.id, colour) + line.removeprefix(one.id))

    with paged(output, wanted=invocation.use_pager):
        output.rows(rows, _fields, table)


@verb("show", data=True, past=True)
@operation_argument(metavar="[ID]", default="@")
def show(invocation: Invocation, operation: str) -> None:
    """Show an operation, and what it changed.

    ID is its id or how that begins; `@`, the newest, if it is not given; `@~2` is the one two before.

    \b
    Example:
      treering op show
      treering op show 3f2a
    """
    output = invocation.output
    one = invocation.store.operations.find(operation)
    if not output.is_table:
        output.value(_fields(one))
        return
    output.line(output.paint(f"operation {one.id}", "yellow"))
    output.line(f"Who:     {safe(one.who)}")
    output.line(f"Date:    {date_text(one.time, 0)}")
    output.line(f"Command: {_command(one)}")
    if one.of:
        output.line(f"Of:      {one.of}")
    output.line()
    for ref, (old, new) in sorted(one.refs.items()):
        output.line(f"    {_ref_text(ref)}: {_short(old)} -> {_short(new)}")
    for identity, (before, after) in one.containers.items():
        name = (before or after or {}).get("name", "")
        what = "made" if before is None else "removed" if after is None else _changed(before, after)
        output.line(f"    container {safe(str(name))} ({identity[:SHORT]}): {what}")


@verb("restore", data=True)
@operation_argument()
@dry_run_option
def restore(invocation: Invocation, operation: str, dry_run: bool) -> None:
    """Make all branches and tags what they were after an operation.

    Containers stay as they are. `treering undo` takes it back.

    \b
    Example:
      treering op log
      treering op restore --dry-run 3f2a
      treering op restore 3f2a
    """
    from runtime.branches.undoing import plan_restore
    from vcs.takingback import restoring

    operations = invocation.store.operations
    found = operations.find(operation)
    moves = restoring(operations.read(), found.id)
    _carry_out(invocation, plan_restore(invocation.store, found, moves), dry_run)


for _verb in (log, show, restore):
    op.add_command(_verb)


# -- details


def _carry_out(invocation: Invocation, plan: Plan, dry_run: bool) -> None:
    from runtime.branches.undoing import carry_out
    from vcs.takingback import origin

    by_id = {one.id: one for one in invocation.store.operations.read()}
    about = origin(by_id, plan.operation)
    if not dry_run:
        carry_out(invocation.containers, plan, invocation.arguments, invocation.author())
    if invocation.output.is_table:
        _tell(plan, about, dry_run)
        return
    invocation.output.value(
        {
            "dry_run": dry_run,
            "kind": plan.kind,
            "operation": about.id,
            "args": list(about.args),
            "refs": _refs(plan.moves),
            "containers": [{"name": name, "change": what} for name, what in plan.told()],
        }
    )


_WORDS = {"undo": "taken back", "redo": "done again", "restore": "gone back to"}


def _tell(plan: Plan, about: Operation, dry_run: bool) -> None:
    is_so = "would be" if dry_run else "is"
    message(f"Operation {about.id} {is_so} {_WORDS[plan.kind]}: {_command(about)}")
    for ref, (old, new) in sorted(plan.moves.items()):
        message(f"  {_ref_text(ref)}: {_short(old)} -> {_short(new)}")
    for name, change in plan.told():
        message(f"  container {name}: {change}")
    if not plan.moves and not list(plan.told()):
        message("  everything is so already")
    elif not dry_run:
        message(f"Back: treering {'redo' if plan.kind == 'undo' else 'undo'}")


def _refs(changes: Mapping[str, Change]) -> list[dict[str, Any]]:
    return [{"ref": ref, "old": old, "new": new} for ref, (old, new) in sorted(changes.items())]


def _fields(one: Operation) -> dict[str, Any]:
    return {
        "id": one.id,
        "date": moment(one.time, 0).isoformat(),
        "who": one.who,
        "args": list(one.args),
        "kind": one.kind or None,
        "of": one.of or None,
        "refs": _refs(one.refs),
        "containers": [
            {"id": identity, "old": old, "new": new} for identity, (old, new) in one.containers.items()
        ],
    }  # fmt: skip


def _is_undone(one: Operation, in_force: Collection[str]) -> bool:
    return not one.of and one.id not in in_force


def _told(one: Operation, in_force: Collection[str]) -> str:
    """Its command, and how it stands to others."""
    if one.of:
        return f"{_command(one)}  (of {one.of})"
    return _command(one) + ("  (taken back)" if _is_undone(one, in_force) else "")


def _command(one: Operation) -> str:
    return safe(shlex.join(one.args)) if len(one.args) > 1 else safe(" ".join(one.args))


def _summary(one: Operation) -> str:
    """Names if there are few, numbers if there are many."""
    names = [_ref_text(ref) for ref in one.refs if ref.startswith(_NAMED)]
    containers = {identity: str((old or new or {}).get("name", "")) for identity, (old, new) in one.containers.items()}
    others = {ref.split("/")[2] for ref in one.refs if ref.startswith("refs/containers/")} - containers.keys()
    names += [f"container {safe(name)}" for name in containers.values()]
    names += [f"container {identity[:SHORT]}" for identity in sorted(others)]
    return ", ".join(names) if len(names) <= 3 else count_text(len(names), "change")


def _ref_text(ref: str) -> str:
    for prefix, kind in _KINDS.items():
        if ref.startswith(prefix):
            name = ref.removeprefix(prefix)
            identity, slash, number = name.partition("/")
            is_container = prefix in ("refs/containers/", "refs/removed/")
            return f"{kind} {safe(f'{identity[:SHORT]}{slash}{number}' if is_container else name)}"
    return safe(ref)


def _short(oid: str | None) -> str:
    return oid[:SHORT] if oid else "none"


def _changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    parts: Sequence[str] = [
        f"{before['name']} is called {after['name']}" if before["name"] != after["name"] else "",
        "settings" if before["settings"] != after["settings"] else "",
        "state" if before["generations"] != after["generations"] or before["current"] != after["current"] else "",
    ]
    return ", ".join(filter(None, parts)) or "the same"


VERBS: dict[str, click.Command] = {"undo": undo, "redo": redo, "op": op}
