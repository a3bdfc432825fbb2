"""merge --continue, --abort and --status: a merge that waits in a container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.cli.author import user_trailer
from runtime.cli.invocation import Invocation
from runtime.cli.output import count_text, message
from runtime.cli.quoting import path_fields, quoted, safe
from runtime.cli.render_changes import summary
from runtime.cli.render_commits import SHORT, title
from runtime.cli.render_conflicts import TITLES, cells, conflict_fields
from runtime.cli.storehooks import hook_fields, tell_hooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.branches.resolving import Left
    from runtime.containers import Container
    from runtime.records import Merging
    from vcs.merging import Favour


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done with a merge that is under way."""

    what: str
    """continue, abort or status."""
    name: str | None
    """Of the container; None for the only one."""
    author: str | None
    """As --author has it."""
    favour: Favour
    text: str | None
    lines: tuple[str, ...]
    """Changes to the image config."""
    dry_run: bool
    verify: bool
    """The store's hooks may refuse it."""


def take(invocation: Invocation, step: Step) -> int:
    """Do it; returns the exit code: 1 if conflicts are left."""
    from runtime.branches import resolving

    invocation.enter_namespaces()
    container, merging = resolving.find(invocation.containers, step.name)
    if step.what == "abort":
        return _abort(invocation, container, merging, step)
    if step.what == "status" or step.dry_run:
        left = resolving.left(invocation.containers, container, merging)
        return _tell(invocation, container, merging, left)
    return _continue(invocation, container, merging, step)


def _abort(invocation: Invocation, container: Container, merging: Merging, step: Step) -> int:
    from runtime.branches.resolving import abort

    name = safe(container.name)
    if step.dry_run:
        message(f"The merge into {safe(merging.branch)} would be given up, and container {name} removed")
        return 0
    abort(invocation.containers, container, invocation.author(step.author))
    if not invocation.output.is_table:
        invocation.output.value({"outcome": "aborted", "container": container.name, "branch": merging.branch})
        return 0
    message(
        f"The merge into {safe(merging.branch)} is given up, and container {name} removed; the branch is as it was. "
        "Back: treering undo"
    )
    return 0


def _continue(invocation: Invocation, container: Container, merging: Merging, step: Step) -> int:
    from runtime.branches.resolving import finish
    from runtime.imagechange import image_change

    done = finish(
        invocation.containers,
        container,
        merging,
        invocation.author(step.author),
        message=step.text,
        favour=step.favour,
        changes=[image_change(step.lines)] if step.lines else (),
        trailers=user_trailer(),
        verify=step.verify,
    )
    if done.result is None:
        return _tell(invocation, container, merging, done.left)
    output, commit, branch = invocation.output, done.result.commit, merging.branch
    if not output.is_table:
        output.value(
            {
                **_fields(container, merging, "merged", ()),
                "commit": commit,
                "changes": [{"status": one.letter, **path_fields(one.path)} for one in done.result.changes],
                "unsteady": [quoted(path) for path in done.result.unsteady],
                "hooks": hook_fields(done.result.hooks),
            }
        )
        return 0
    output.line(commit)
    output.flush()
    what = (
        f"[{safe(branch)} {commit[:SHORT]}] {safe(title(step.text or merging.message))}: {summary(done.result.changes)}"
    )
    message(f"{what}; container {safe(container.name)} stands on it. Back: treering undo")
    for path in done.result.unsteady:
        message(f"warning: {quoted(path)} was written to while it was read; commit again when it rests")
    tell_hooks(done.result.hooks)
    return 0


# -- telling what is left


def _tell(invocation: Invocation, container: Container, merging: Merging, left: Sequence[Left]) -> int:
    output, name = invocation.output, safe(container.name)
    if not output.is_table:
        output.value(_fields(container, merging, "conflicts" if left else "settled", left))
        return 1 if left else 0
    if not left:
        message(
            f"Nothing is left to be settled in container {name}: `treering merge --continue {name}` makes it a "
            f"commit on {safe(merging.branch)}"
        )
        return 0
    output.columns((*TITLES, "STILL THERE"), [(*cells(one.conflict), _still_there(one)) for one in left])
    output.flush()
    advice = "make each file what it is to be, take the markers out of it, and remove the files beside it"
    if any(one.conflict.kind == "config" for one in left):
        advice += "; for the image config, say --ours or --theirs with --continue"
    message(f"{count_text(len(left), 'conflict')} left to be settled in container {name}: {advice}")
    return 1


def _still_there(left: Left) -> str:
    parts = [quoted(path) for path in left.files]
    return ", ".join([*(["markers"] if left.has_markers else []), *parts]) or "-"


def _fields(container: Container, merging: Merging, outcome: str, left: Sequence[Left]) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "container": container.name,
        "branch": merging.branch,
        "before": merging.parents[0],
        "base": merging.base,
        "theirs": merging.theirs,
        "conflicts": [
            {
                **conflict_fields(one.conflict),
                "files": [quoted(path) for path in one.files],
                "markers": one.has_markers,
            }
            for one in left
        ],
    }
