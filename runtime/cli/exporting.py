"""export."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import file_argument, verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.progress import Progress, seconds_text
from runtime.cli.quoting import quoted

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst")
_SHOWN = 10
"""How many paths of a long list are told."""


def _is_archive(target: Path) -> bool:
    """Whether an export's target means an archive; a directory that is there is one, whatever its name."""
    return str(target) == "-" or (target.name.endswith(_ARCHIVES) and not target.is_dir())


@verb("export", past=True)
@file_argument("place")
@click.argument("directory", metavar="[TARGET]", required=False, type=click.Path(path_type=Path, readable=False))
@click.option("-o", "--output", "archive", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True),
              help="Write an archive: .tar, .tar.gz, .tar.xz or .tar.zst; - is standard output.")  # fmt: skip
@click.option("--no-owners", is_flag=True, help="In a directory, let all files be yours; devices are left out.")
def export(invocation: Invocation, place: str, directory: Path | None, archive: Path | None, no_owners: bool) -> None:
    """Write a commit's files to a directory or an archive.

    The place is REV or REV:PATH. TARGET is a directory, which must be empty or not be there, or an archive if its name
    ends as one (.tar, .tar.gz, .tar.xz, .tar.zst). Without a target, a tar archive goes to standard output. Everything
    is as it was: owners, modes, times, extended attributes, devices, hard links, holes.

    An ordinary user cannot make devices in a directory, and other owners are ids of his from /etc/subuid there: only
    `treering unshare` can change or delete such files. An archive has no such limits.

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
    if directory is not None and not no_owners:
        invocation.enter_namespaces()
    snapshot, path = invocation.open_place(place)
    path = snapshot.resolve(path)
    top = snapshot.lookup(path)
    if directory is not None and not top.is_dir:
        raise click.UsageError(f"{place!r} is no directory; to get one file: treering cat {place} > FILE")
    total = getattr(top.content, "size", 0)
    with Progress("Exporting", total) as progress:
        if directory is not None:
            from runtime.namespace import in_user_namespace
            from vcs.exporter import export_directory

            result = export_directory(
                snapshot,
                path,
                directory,
                progress=lambda files, size: progress.update(size, files),
                owners=not no_owners,
                devices=not in_user_namespace(),
            )
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
        message(f"Exported {count}, {size_text(result.size)} in {seconds_text(progress.seconds)}")


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


VERBS: dict[str, click.Command] = {"export": export}
