"""import, export."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import author_option, branch_completion, file_argument, verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.progress import Progress, duration_text
from runtime.cli.quoting import path_fields, quoted
from runtime.cli.render_commits import SHORT

if TYPE_CHECKING:
    from vcs.importer import ImportResult
    from vcs.trees import Sink

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst")
_SHOWN = 10
"""How many paths of a long list are told."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
"""uname's names for what OCI image configs name as Go does."""


@verb("import", data=True)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-b", "--branch", default="main", show_default=True, metavar="BRANCH", help="Where the commit goes.",
              shell_complete=branch_completion)  # fmt: skip
@click.option("-m", "--message", "text", metavar="MESSAGE", help="The commit's message.")
@author_option
@click.option("--all-file-systems", is_flag=True, help="Enter what is mounted below SOURCE too.")
@click.option("--allow-empty", is_flag=True, help="Make a commit even if nothing changed on the branch.")
def import_verb(
    invocation: Invocation,
    source: Path,
    branch: str,
    text: str | None,
    author: str | None,
    all_file_systems: bool,
    allow_empty: bool,
) -> None:
    """Make a commit of a directory or an archive.

    SOURCE is a directory, or an archive of a root filesystem: tar, plain or compressed with gzip, bzip2, xz or zstd;
    `-` reads one from standard input. Nothing of an archive is ever extracted to disk. A branch that exists gets the
    commit on top.

    \b
    Example:
      treering import ./debian --branch main -m "Debian base"
      treering import rootfs.tar.zst --branch alpine
      curl -s https://example.org/rootfs.tar.xz | treering import - -b other
    """
    from vcs.history import BRANCHES

    store, history = invocation.store, invocation.store.history
    invocation.author(author)  # a mistake in it is told before the work
    with store.writing():
        tip = history.target(BRANCHES + branch)
        with Progress("Importing") as progress, store.batch() as batch:
            result = _read(source, batch, all_file_systems, _own_directories(invocation.store_path), progress)
        if tip is not None and not allow_empty and store.commit(tip).root == result.root:
            _tell_import(invocation, result, str(tip), branch, batch.added, progress.seconds, made=False)
            return
        who = invocation.author(author)  # again: the time is that of the commit
        config = history.config(tip) if tip else _default_config()
        title = text if text is not None else f"Import of {'standard input' if str(source) == '-' else source}"
        commit = store.add_commit(result.root, config, title.rstrip() + "\n", who, (tip,) if tip else ())
        history.move(BRANCHES + branch, commit, tip, f"import: {title.splitlines()[0] if title else ''}", who)
        _tell_import(invocation, result, commit, branch, batch.added, progress.seconds, made=True)


def _read(
    source: Path, sink: Sink, all_file_systems: bool, leave_out: frozenset[tuple[int, int]], progress: Progress
) -> ImportResult:
    if str(source) != "-" and source.is_dir():
        from vcs.importer import import_directory

        return import_directory(
            sink,
            source,
            one_file_system=not all_file_systems,
            leave_out=leave_out,
            progress=lambda files, size: progress.update(size, files),
        )
    from vcs.tar_import import import_tar

    if str(source) == "-":
        if sys.stdin.isatty():
            raise click.UsageError("standard input is a terminal; an archive is expected there")
        return import_tar(sys.stdin.buffer, sink, progress=lambda files, size: progress.update(size, files))
    with source.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        # The archive may be compressed: how far we are is told by what was read of it, not by what came out.
        return import_tar(
            file, sink, progress=lambda files, _: progress.update(os.lseek(file.fileno(), 0, os.SEEK_CUR), files, total)
        )


def _own_directories(store: Path) -> frozenset[tuple[int, int]]:
    """The store is left out of an import of what it lies in."""
    status = store.stat()
    return frozenset({(status.st_dev, status.st_ino)})


def _default_config() -> dict[str, Any]:
    """An OCI image config for a root that nothing is known about."""
    from runtime.bundle import DEFAULT_PATH

    machine = os.uname().machine
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Env": [f"PATH={DEFAULT_PATH}"], "Cmd": ["/bin/sh"]},
    }


def _tell_import(
    invocation: Invocation, result: ImportResult, commit: str, branch: str, added: int, seconds: float, *, made: bool
) -> None:
    for path in result.skipped[:_SHOWN]:
        message(f"warning: {quoted(path)} is of another file system, or the store: its content was left out")
    for path in result.vanished[:_SHOWN]:
        message(f"warning: {quoted(path)} was deleted while it was read")
    if more := max(0, len(result.skipped) - _SHOWN) + max(0, len(result.vanished) - _SHOWN):
        message(f"warning: and {more} more")
    output = invocation.output
    if output.is_table:
        what = f"{count_text(result.entries, 'entry', 'entries')}, {size_text(result.size)}"
        if made:
            message(f"[{branch} {commit[:SHORT]}] {what} in {_seconds(seconds)}; the store grew by {size_text(added)}")
        else:
            message(f"Nothing has changed: {branch} is at {commit[:SHORT]} already ({what} in {_seconds(seconds)})")
        return
    output.value(
        {
            "commit": commit,
            "made": made,
            "branch": branch,
            "root": result.root.hex(),
            "entries": result.entries,
            "size": result.size,
            "added": added,
            "seconds": round(seconds, 3),
            "skipped": [path_fields(path) for path in result.skipped],
            "vanished": [path_fields(path) for path in result.vanished],
        }
    )


def _is_archive(target: Path) -> bool:
    """Whether an export's target means an archive; a directory that is there is one, whatever its name."""
    return str(target) == "-" or (target.name.endswith(_ARCHIVES) and not target.is_dir())


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration_text(seconds)


@verb("export")
@file_argument("place")
@click.argument("directory", metavar="[TARGET]", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", "archive", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True),
              help="Write an archive: .tar, .tar.gz, .tar.xz or .tar.zst; - is standard output.")  # fmt: skip
def export(invocation: Invocation, place: str, directory: Path | None, archive: Path | None) -> None:
    """Write a commit's files to a directory or an archive.

    The place is REV or REV:PATH. TARGET is a directory, which must be empty or not be there, or an archive if its name
    ends as one (.tar, .tar.gz, .tar.xz, .tar.zst). Without a target, a tar archive goes to standard output. Everything
    is as it was: owners, modes, times, extended attributes, devices, hard links, holes.

    \b
    Example:
      treering export nginx ./dir
      treering export nginx nginx.tar.zst
      treering export nginx:/etc | tar -t
    """
    if directory is not None and archive is not None:
        raise click.UsageError("a target and an archive: choose one")
    if directory is not None and _is_archive(directory):
        directory, archive = None, directory
    if directory is None and archive is None and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; name a directory or an archive (-o FILE)")
    snapshot, path = invocation.open_place(place)
    path = snapshot.resolve(path)
    top = snapshot.lookup(path)
    if directory is not None and not top.is_dir:
        raise click.UsageError(f"{place!r} is no directory; to get one file: treering cat {place} > FILE")
    total = getattr(top.content, "size", 0)
    with Progress("Exporting", total) as progress:
        if directory is not None:
            from vcs.exporter import export_directory

            owners = os.geteuid() == 0
            result = export_directory(
                snapshot, path, directory, progress=lambda files, size: progress.update(size, files), owners=owners
            )
            if not owners:
                message("warning: only root can give files to their owners: all of them are yours")
        else:
            from vcs.tar_export import export_tar

            with _archive(archive, invocation.output.stream) as stream:
                result = export_tar(snapshot, path, stream, progress=lambda files, size: progress.update(size, files))
    for name, why in result.skipped[:_SHOWN]:
        message(f"warning: {quoted(name)} was left out: {why}")
    if len(result.skipped) > _SHOWN:
        message(f"warning: and {len(result.skipped) - _SHOWN} more")
    if directory is not None or archive is not None:
        count = count_text(result.entries, "entry", "entries")
        message(f"Exported {count}, {size_text(result.size)} in {_seconds(progress.seconds)}")


@contextmanager
def _archive(path: Path | None, stdout: BinaryIO) -> Iterator[Any]:
    """Where the archive goes. A file appears under its name when it is complete."""
    if path is None or str(path) == "-":
        yield stdout
        return
    special = path.exists() and not path.is_file()
    partial = path if special else path.with_name(f".{path.name}.partial")
    try:
        with ExitStack() as stack:
            file = stack.enter_context(partial.open("wb"))
            yield stack.enter_context(_compressed(path.suffix, file))
        if not special:
            partial.rename(path)
    except BaseException:
        if not special:
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def _compressed(suffix: str, file: BinaryIO) -> Iterator[Any]:
    match suffix:
        case ".gz" | ".tgz":
            import gzip

            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as stream:
                yield stream
        case ".xz":
            import lzma

            with lzma.open(file, "wb") as xz:
                yield xz
        case ".zst":
            import zstandard

            with zstandard.ZstdCompressor(level=3, threads=-1).stream_writer(file, closefd=False) as zst:
                yield zst
        case _:
            yield file


VERBS: dict[str, click.Command] = {"import": import_verb, "export": export}
