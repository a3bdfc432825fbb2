"""fsck."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import dry_run_option, verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.quoting import path_fields, quoted, safe

if TYPE_CHECKING:
    from vcs.check import Problem, Report
    from vcs.repair import Repaired

_NOT_FROM_ELSEWHERE = ("index", "cache", "container", "garbage")
"""Kinds of damage for which another copy is of no use."""
_COUNTS = ("commits", "trees", "chunks", "bytes_read", "unreachable", "affected")


@verb("fsck", data=True)
@click.option("--read-data", is_flag=True, help="Read every byte of every layer too.")
@click.option("--rebuild-index", is_flag=True, help="First make the index anew from the layers.")
@click.option("--repair", is_flag=True, help="Restore what can be restored. Reads every byte.")
@click.option("--from", "sources", metavar="SOURCE", multiple=True, type=click.Path(exists=True, path_type=Path),
              help="With --repair: take what is lost from another store, a directory or an archive.")  # fmt: skip
@dry_run_option
def fsck(
    invocation: Invocation,
    read_data: bool,
    rebuild_index: bool,
    repair: bool,
    sources: tuple[Path, ...],
    dry_run: bool,
) -> int:
    """Check that everything in the store is there and undamaged.

    Commits, refs, directories, the index and the tables of all layers are read and compared with one another, and that
    each file's content is there is looked up. With --read-data every byte is read, so that damage inside a file's
    content is found too. What is damaged is told with the newest commit and the path that need it.

    --repair restores what is found in undamaged copies: elsewhere in the store, or in a SOURCE, which may be named
    several times. It need not be a copy of the whole: what is byte for byte the same is found wherever it lies. A
    damaged layer that nothing needs any more is kept as layers/damaged-*, for you to delete.

    The exit code is 0 if nothing is wrong (any more), 1 if something is, 125 if that cannot be found out.

    \b
    Example:
      treering fsck
      treering fsck --read-data
      treering fsck --repair --from /backup/treering --from ./rootfs.tar.zst
    """
    from runtime.cli.progress import Progress

    if (sources or dry_run) and not repair:
        raise click.UsageError("--from and --dry-run go with --repair")
    path = invocation.store_path
    repaired = None
    with Progress("Checking") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.update(done, None, total, f"Checking {what}")

        if rebuild_index and not dry_run:
            _rebuild_index(path)
        if repair:
            from vcs.repair import repair as run_repair

            repaired = run_repair(path, sources, dry_run=dry_run, progress=progress)
            report = repaired.report
            if not dry_run:
                repaired.done += _kept_again(path, invocation)
        else:
            from vcs.check import examine

            report = examine(path, progress, read_data=read_data)
        _check_containers(path, report)
    _tell(invocation, report, repaired, dry_run)
    return 1 if report.problems else 0


def _rebuild_index(path: Path) -> None:
    from vcs.errors import Denied
    from vcs.index import Index
    from vcs.store import check_format, translated

    check_format(path)
    with translated("the index cannot be made anew"):
        index = Index(path / "index.db", path / "layers")
        if index.is_copy:
            raise Denied("the index cannot be made anew: it cannot be written", path=str(path))
        index.rebuild()
        index.close()


def _kept_again(path: Path, invocation: Invocation) -> list[str]:
    from runtime.check import check_containers, keep_again
    from vcs.store import Store

    with Store(path) as store:
        return keep_again(store, invocation.author()) if check_containers(store) else []


def _check_containers(path: Path, report: Report) -> None:
    from runtime.check import check_containers
    from vcs.store import Store

    with Store(path) as store:
        report.problems += check_containers(store)


def _tell(invocation: Invocation, report: Report, repaired: Repaired | None, dry_run: bool) -> None:
    output = invocation.output

    def fields(problem: Problem) -> dict[str, Any]:
        return {
            "kind": problem.kind,
            "message": problem.message,
            "commit": problem.commit or None,
            **(path_fields(problem.path) if problem.path else {"path": None}),
            "others": problem.others,
            "layer": problem.layer or None,
            "object": problem.object or None,
        }

    def table(problems: Iterable[Problem]) -> None:
        for problem in problems:
            output.line(problem_line(problem))

    if output.format == "json":
        counts: dict[str, Any] = {name: getattr(report, name) for name in _COUNTS}
        if repaired:
            counts["repaired"] = {"objects": repaired.objects, "layers_aside": repaired.aside, "others": repaired.done}
        output.value({**counts, "problems": [fields(problem) for problem in report.problems]})
    else:
        output.rows(report.problems, fields, table)
    for line in _repair_lines(repaired, dry_run) if repaired else ():
        message(safe(line))
    message(_summary(report))
    if not repaired and any(problem.kind not in _NOT_FROM_ELSEWHERE for problem in report.problems):
        message("hint: `treering fsck --repair --from SOURCE` restores what another store, directory or archive has")


def _repair_lines(repaired: Repaired, dry_run: bool) -> Iterator[str]:
    for line in repaired.done:
        yield f"Repaired: {line}"
    if repaired.objects:
        restored = "could be restored" if dry_run else "restored"
        yield f"{count_text(repaired.objects, 'object')} {restored}"
    for name in repaired.aside:
        yield f"Nothing needs what is damaged in layers/{name} any more: it can be deleted"


def _summary(report: Report) -> str:
    read = f", {size_text(report.bytes_read)} of layers read" if report.bytes_read else ""
    text = (
        f"{count_text(report.commits, 'commit')}, {count_text(report.trees, 'directory', 'directories')}, "
        f"{count_text(report.chunks, 'chunk')} checked{read}: "
    )
    if not report.problems:
        return text + "no damage"
    affected = f"; {count_text(report.affected, 'commit')} cannot be read in full" if report.affected else ""
    return text + count_text(len(report.problems), "problem") + affected


def problem_line(problem: Problem) -> str:
    """One problem, for people."""
    where = f"{problem.commit[:12]}:{quoted(problem.path)}: " if problem.path else ""
    more = f" (and {count_text(problem.others, 'other place')})" if problem.others else ""
    return f"damaged: {where}{safe(problem.message)}{more}"


VERBS: dict[str, click.Command] = {"fsck": fsck}
