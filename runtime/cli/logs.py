"""logs, attach."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, verb
from runtime.cli.output import message
from runtime.cli.times import point

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.containers import Container
    from runtime.keptlogs import KeptLog
    from runtime.log import Line


def _count(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "all":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number nor `all`")
    return int(value)


@verb("logs", data=True)
@container_argument("names", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on with what it prints, until it ends.")
@click.option("--since", metavar="TIME", help="From then on: 2026-11-01T12:30, 10m (ago), @SECONDS.")
@click.option("--until", metavar="TIME", help="Before then.")
@click.option("-n", "--tail", metavar="LINES", default="all", callback=_count, help="Only the last ones.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time of each line.")
@click.option("-g", "--grep", "pattern", metavar="REGEX",
              help="Only lines that match; without NAME, of all containers there are and were.")  # fmt: skip
@click.option("--removed", is_flag=True, help="List the removed containers whose logs are kept.")
def logs(
    invocation: Invocation,
    names: tuple[str, ...],
    follow: bool,
    since: str | None,
    until: str | None,
    tail: int | None,
    timestamps: bool,
    pattern: str | None,
    removed: bool,
) -> None:
    """Show what containers printed.

    What went to standard output goes to standard output, what went to standard error to standard error. The log of a
    container stays when it is removed, until `treering gc` finds that it is older than 30 days: it is found by name or
    id as before (of several with one name, the last).

    \b
    Example:
      treering logs -f web
      treering logs --since 10m -t web
      treering logs --grep 'timeout|refused'
      treering logs --removed
    """
    if removed:
        _list_removed(invocation)
        return
    if not names and not pattern:
        raise click.UsageError("give a NAME, or --grep REGEX for all containers")
    if follow and len(names) != 1:
        raise click.UsageError("--follow takes one NAME")
    choice = _Choice(
        _stamp(since, "--since"), _stamp(until, "--until"), tail, re.compile(pattern.encode()) if pattern else None
    )
    printer = _Printer(invocation, timestamps, with_names=len(names) != 1)
    if follow:
        _follow(invocation.containers.find(names[0]), choice, printer)
        return
    for source in _sources(invocation, names):
        printer.print(source.name, choice.of(source))


def _stamp(text: str | None, option: str) -> str | None:
    from runtime.log import stamp

    return None if text is None else stamp(int(point(text, option) * 1e9))


class _Source:
    """A log: of a container there is, or of one there was."""

    def __init__(self, name: str, directory: Path | None, kept: KeptLog | None = None) -> None:
        self.name = name
        self.directory = directory
        self._kept = kept

    def lines(self) -> Iterator[Line]:
        from runtime import keptlogs, log

        if self.directory is not None:
            return log.read(self.directory)
        assert self._kept is not None
        return keptlogs.read(self._kept)


class _Choice:
    """Which lines of a log are wanted."""

    def __init__(
        self, since: str | None, until: str | None, tail: int | None, pattern: re.Pattern[bytes] | None
    ) -> None:
        self.since, self.until, self.tail, self._pattern = since, until, tail, pattern

    def of(self, source: _Source) -> Iterable[Line]:
        from runtime import logs as reading

        if source.directory is not None and self.tail is not None and not (self.since or self.until or self._pattern):
            return reading.tail(source.directory, self.tail)
        return self.among(source.lines())

    def among(self, lines: Iterable[Line]) -> Iterable[Line]:
        from runtime import logs as reading

        found: Iterable[Line] = self.matching(reading.selected(lines, self.since, self.until))
        return found if self.tail is None else reading.last(found, self.tail)

    def matching(self, lines: Iterable[Line]) -> Iterator[Line]:
        return (line for line in lines if self._pattern is None or self._pattern.search(line.text))


class _Printer:
    def __init__(self, invocation: Invocation, timestamps: bool, with_names: bool) -> None:
        self._output = invocation.output
        self._timestamps = timestamps
        self._with_names = with_names
        self._unfinished: set[str] = set()

    def print(self, name: str, lines: Iterable[Line], each: Callable[[], None] = lambda: None) -> None:
        output = self._output

        def fields(line: Line) -> dict[str, Any]:
            return {
                "container": name,
                "time": line.time,
                "stream": line.stream,
                "text": line.text.decode(errors="replace"),
                "partial": line.partial,
            }

        def table(lines: Iterable[Line]) -> None:
            for line in lines:
                self._write(name, line)
                each()

        output.rows(lines, fields, table)
        output.flush()

    def _write(self, name: str, line: Line) -> None:
        """A line as it was printed: one that was cut is put together again."""
        import sys

        stream = self._output.stream if line.stream == "stdout" else sys.stderr.buffer
        if line.stream not in self._unfinished:
            if self._with_names:
                stream.write(f"{self._output.paint(name, 'cyan')}: ".encode())
            if self._timestamps:
                stream.write(f"{line.time} ".encode())
        stream.write(line.text if line.partial else line.text + b"\n")
        if line.stream == "stderr":
            stream.flush()
        (self._unfinished.add if line.partial else self._unfinished.discard)(line.stream)


def _sources(invocation: Invocation, names: tuple[str, ...]) -> list[_Source]:
    from runtime import keptlogs
    from vcs.errors import NotFound

    containers = invocation.containers
    kept = keptlogs.all_kept(containers.store.path)
    if not names:
        there = [_Source(container.name, container.paths.directory) for container in containers.all()]
        return [*(_Source(about.name, None, about) for about in kept), *there]
    found = []
    for name in names:
        try:
            container = containers.find(name)
            found.append(_Source(container.name, container.paths.directory))
        except NotFound:
            matches = [about for about in kept if name in (about.name, about.id) or about.id.startswith(name)]
            if not matches:
                raise
            found.append(_Source(matches[-1].name, None, matches[-1]))
    return found


def _follow(container: Container, choice: _Choice, printer: _Printer) -> None:
    from runtime.logs import Follower
    from runtime.state import is_running

    directory = container.paths.directory
    follower = Follower(directory)
    try:
        printer.print(container.name, choice.among(follower.existing()))
        coming = choice.matching(follower.coming(lambda: is_running(directory)))
        printer.print(container.name, coming, each=printer._output.flush)
    finally:
        follower.close()


def _list_removed(invocation: Invocation) -> None:
    from datetime import UTC, datetime

    from runtime import keptlogs

    output = invocation.output

    def fields(about: KeptLog) -> dict[str, Any]:
        return {
            "name": about.name,
            "id": about.id,
            "image": about.image,
            "commit": about.commit,
            "ended": datetime.fromtimestamp(about.ended, UTC).isoformat(timespec="seconds"),
            "exit_code": about.exit_code,
            "bytes": about.path.stat().st_size,
        }

    def table(found: Iterable[KeptLog]) -> None:
        from runtime.cli.output import size_text

        lines = [
            (
                about.name, about.id[:12], about.commit[:12], f"{fields(about)['ended'][:16]}",
                "?" if about.exit_code is None else str(about.exit_code), size_text(about.path.stat().st_size),
            )
            for about in found
        ]  # fmt: skip
        output.columns(("NAME", "ID", "COMMIT", "ENDED", "EXIT", "SIZE"), lines, {"EXIT"})

    output.rows(keptlogs.all_kept(invocation.store.path), fields, table)


@verb("attach")
@container_argument()
@click.option("--no-stdin", is_flag=True, help="Only look.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, show_default=True, help="Pass signals on to it.")
def attach(invocation: Invocation, name: str, no_stdin: bool, sig_proxy: bool) -> int:
    """Stand at a running container's input and output.

    The exit code is the container's. Ctrl-P Ctrl-Q leaves a terminal of its own, and it goes on. What it printed before
    is in `treering logs`. If what it prints cannot be written, or is read far too slowly, that is an error, and it goes
    on.

    \b
    Example:
      treering attach web
      treering attach --no-stdin web
    """
    from runtime.reaching import not_running
    from runtime.state import is_running
    from runtime.supervision.attach import Left
    from runtime.supervision.attach import attach as stand

    container = invocation.containers.find(name)
    if not is_running(container.paths.directory):
        raise not_running(container)
    try:
        code = stand(
            container.paths.directory,
            interactive=container.record.settings.interactive and not no_stdin,
            proxy_signals=sig_proxy,
        )
    except Left:
        message(f"\n{container.name} goes on; back: treering attach {container.name}")
        return 0
    return 0 if code is None else code


VERBS: dict[str, click.Command] = {"logs": logs, "attach": attach}
