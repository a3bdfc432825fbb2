"""ls, cat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import file_argument, verb
from runtime.cli.quoting import path_fields
from runtime.cli.render_entries import entry_fields, names_of, painted_name, write_long
from vcs.errors import BadInput
from vcs.model import Chunked, Data, Entry, type_name
from vcs.snapshot import Snapshot, resolve_parents

_PIECE = 1 << 20


@verb("ls", data=True, past=True)
@file_argument("place")
@click.option("-l", "--long", is_flag=True, help="Mode, owner, size and time too; a + marks extended attributes.")
@click.option("-d", "--directory", is_flag=True, help="The named file itself, not what is in it; no link is followed.")
@click.option("-R", "--recursive", is_flag=True, help="Everything below it, with paths.")
@click.option("-z", "zero", is_flag=True, help="End each name with a NUL, and quote nothing.")
def ls(invocation: Invocation, place: str, long: bool, directory: bool, recursive: bool, zero: bool) -> None:
    """List a directory of a commit.

    Nothing is mounted for it. Without :PATH, the root is listed. Symbolic links are followed inside the commit.

    \b
    Example:
      treering ls nginx:/etc
      treering ls -l main:/usr/bin/python3
      treering ls -R --format jsonl main:/etc
    """
    snapshot, path = invocation.open_place(place)
    output = invocation.output
    rows = _rows(snapshot, path, directory, recursive)

    def fields(row: tuple[bytes, bytes, Entry]) -> dict[str, Any]:
        return {**path_fields(row[0]), **entry_fields(row[2])}

    def table(rows: Any) -> None:
        if zero:
            for _, name, _ in rows:
                output.raw(name + b"\0")
        elif long:
            write_long(output, [(name, entry) for _, name, entry in rows], names_of(snapshot))
        else:
            for _, name, entry in rows:
                output.line(painted_name(output, name, entry))

    output.rows(rows, fields, table)


def _rows(snapshot: Snapshot, path: bytes, itself: bool, recursive: bool) -> Iterator[tuple[bytes, bytes, Entry]]:
    """Path in the commit, name to show, entry."""
    if itself:
        yield path, path, snapshot.lookup(resolve_parents(snapshot, path))
        return
    real = snapshot.resolve(path)
    entry = snapshot.lookup(real)
    if recursive:
        for here, found in snapshot.walk(real):
            yield here, here, found
    elif entry.is_dir:
        prefix = path.rstrip(b"/") + b"/"
        for child in snapshot.directory(entry):
            yield prefix + child.name, child.name, child
    else:
        yield path, path, entry


@verb("cat", past=True)
@file_argument("places", nargs=-1, required=True)
def cat(invocation: Invocation, places: tuple[str, ...]) -> None:
    """Print files of a commit.

    Several are printed one after another.

    Nothing is mounted for it. Symbolic links are followed inside the commit. Each byte was verified against its digest.

    \b
    Example:
      treering cat nginx:/etc/os-release
      treering cat main:/etc/passwd nginx:/etc/passwd
    """
    output = invocation.output
    for place in places:
        if ":" not in place:
            raise click.UsageError(f"{place!r} names no file: write REV:PATH")
        snapshot, path = invocation.open_place(place)
        entry = snapshot.lookup(snapshot.resolve(path))
        if not isinstance(entry.content, (Data, Chunked)):
            raise BadInput(f"{place!r} is not a file but a {type_name(entry)}", place=place)
        for hole, data in snapshot.pieces(entry.content):
            output.raw(data)
            for start in range(0, hole, _PIECE):
                output.raw(bytes(min(_PIECE, hole - start)))


VERBS: dict[str, click.Command] = {"ls": ls, "cat": cat}
