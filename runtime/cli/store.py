"""init, fsck."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.quoting import path_fields, quoted


@verb("init", data=True)
def init(invocation: Invocation) -> None:
    """Make an empty store.

    Only the user who makes it can read it: it will hold setuid files and secrets of the systems that are imported.

    \b
    Example:
      treering init
      treering --store /srv/roots init
    """
    from vcs.store import Store

    path = invocation.store_path
    Store.create(path).close()
    if invocation.output.is_table:
        message(f"Made an empty store in {path}")
    else:
        invocation.output.value({"store": str(path)})


@verb("fsck", data=True)
def fsck(invocation: Invocation) -> int:
    """Check that everything in the store is there and undamaged.

    Every object that a branch, a tag or a container needs is read and compared with its digest, and so is every layer.
    The exit code is 1 if anything is damaged.

    \b
    Example:
      treering fsck
    """
    from runtime.cli.progress import Progress
    from vcs.check import Problem, check

    with Progress("Checking") as progress:
        report = check(
            invocation.store, lambda what, done, total: progress.update(done, None, total, f"Checking {what}")
        )

    def fields(problem: Problem) -> dict[str, Any]:
        place = path_fields(problem.path) if problem.path else {"path": None}
        return {"message": problem.message, "commit": problem.commit or None, **place}

    def table(problems: Iterable[Problem]) -> None:
        for problem in problems:
            output.line(_problem_line(problem))

    output = invocation.output
    if output.format == "json":
        counts = {name: getattr(report, name) for name in ("commits", "trees", "chunks", "bytes_read", "unreachable")}
        output.value({**counts, "problems": [fields(problem) for problem in report.problems]})
    else:
        output.rows(report.problems, fields, table)
    message(
        f"{count_text(report.commits, 'commit')}, {count_text(report.trees, 'directory', 'directories')}, "
        f"{count_text(report.chunks, 'chunk')} ({size_text(report.bytes_read)}) checked: "
        + (count_text(len(report.problems), "problem") if report.problems else "no damage")
    )
    return 1 if report.problems else 0


def _problem_line(problem: Any) -> str:
    where = f"{problem.commit[:12]}:{quoted(problem.path)}: " if problem.commit else ""
    return f"damaged: {where}{problem.message}"


VERBS: dict[str, click.Command] = {"init": init, "fsck": fsck}
