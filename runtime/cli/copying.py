"""cp."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from runtime.cli.invocation import Invocation, split_place
from runtime.cli.options import place_argument, verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.quoting import quoted
from vcs.errors import NoSpace, NotFound

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.copying.item import Copied, Item
    from runtime.copying.places import Path, Side
    from runtime.copying.target import Target

_STREAM = "-"
_SHOWN = 10


@verb("cp", namespaces="mount")
@place_argument("source", metavar="SOURCE")
@place_argument("target", metavar="TARGET")
@click.option("-a", "--archive", is_flag=True, help="Keep owners, and extended attributes.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Follow SOURCE if it is a symbolic link.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing about what was copied.")
def cp(invocation: Invocation, source: str, target: str, archive: bool, follow: bool, quiet: bool) -> None:
    """Copy files between a container and the machine.

    One of SOURCE and TARGET is NAME:PATH, a path in a container, which may be running or not. SOURCE may also be
    REV:PATH, a path in a commit. The other one is a path of the machine (write ./NAME:PATH for one with a colon), or -
    for a tar archive on standard input or output.

    If TARGET is a directory, the copy goes into it; otherwise it is called so, and replaces a file of this name. With
    /. at its end, SOURCE stands for what is in the directory. What is copied into a container belongs to its root, what
    is copied out of one to you. Directories that are there already keep their attributes.

    Whatever links the container has, and however it changes them meanwhile, nothing outside of it is read or written.

    \b
    Example:
      treering cp web:/etc/nginx/nginx.conf .
      treering cp ./html/. web:/usr/share/nginx/html
      treering cp main:/etc/passwd passwd.orig
      treering cp web:/var/log - | tar tv
    """
    from runtime.copying.item import Copied

    ends = _end(invocation, source), _end(invocation, target)
    _check(ends, source, target)
    copied = Copied()
    with ExitStack() as stack:
        try:
            if ends[0].container or ends[0].revision:
                _copy_out(invocation, stack, ends, archive, follow, copied)
            else:
                _copy_in(invocation, stack, ends, archive, follow, copied)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(f"no space left to write {error.filename!r}", path=error.filename) from error
            raise
    for path, why in copied.skipped[:_SHOWN]:
        message(f"warning: left out {quoted(path)}: {why}")
    if len(copied.skipped) > _SHOWN:
        message(f"warning: left out {len(copied.skipped) - _SHOWN:,} more")
    if not quiet:
        message(f"Copied {count_text(copied.files, 'file')}, {size_text(copied.size)}, to {target}")


@dataclass(frozen=True, slots=True)
class _End:
    """SOURCE or TARGET: of a container, a commit, the machine, or a stream."""

    path: bytes
    container: Container | None = None
    revision: str = ""
    is_stream: bool = False

    @property
    def is_machine(self) -> bool:
        return not (self.container or self.revision or self.is_stream)


def _end(invocation: Invocation, text: str) -> _End:
    if text == _STREAM:
        return _End(b"", is_stream=True)
    place = split_place(text)
    if place.path is None or text.startswith(("/", ".")):
        if not text:
            raise click.UsageError("a path is empty")
        return _End(os.fsencode(text))
    if not place.revision:
        raise click.UsageError(f"{text!r} has no name in front of the colon; a file of the machine is ./{text}")
    if not place.path:
        raise click.UsageError(f"{text!r} has no path behind the colon")
    try:
        return _End(place.path, container=invocation.containers.find(place.revision))
    except NotFound as error:
        if "candidates" in error.facts:
            raise
        return _End(place.path, revision=place.revision)


def _check(ends: tuple[_End, _End], source: str, target: str) -> None:
    first, second = ends
    if second.revision:
        name = second.revision
        raise NotFound(f"no container {name!r}; a commit cannot be written to", container=name)
    if (first.container or first.revision) and second.container:
        raise click.UsageError(
            f"both are not on this machine; through an archive: treering cp {source} - | treering cp - {target}"
        )
    if not (first.container or first.revision or second.container):
        raise click.UsageError("neither SOURCE nor TARGET is NAME:PATH")
    if second.is_stream and sys.stdout.isatty():
        raise click.UsageError("an archive is not written to a terminal: redirect it")


def _copy_out(
    invocation: Invocation, stack: ExitStack, ends: tuple[_End, _End], archive: bool, follow: bool, copied: Copied
) -> None:
    from runtime.copying.archives import write_archive
    from runtime.copying.places import Machine, opened_target, parse
    from runtime.copying.target import Owners

    source, target = ends
    given = parse(source.path)
    if source.revision:
        items = _of_commit(invocation, source, given, archive, follow, copied)
    else:
        items = _of_container(invocation, stack, source, given, archive, follow, copied)
    first = next(items)
    items = _chain(first, items)
    name = b"." if given.is_content or given.path == b"/" else given.name
    if target.is_stream:
        with open(1, "wb", buffering=1 << 20, closefd=False) as out:
            write_archive(items, name, out, copied)
        return
    owners = Owners(archive, os.geteuid(), os.getegid())
    side, there = Machine(), parse(target.path, os.getcwdb())
    opened = opened_target(
        side, there, name, is_directory=first.is_directory, is_content=given.is_content, owners=owners, copied=copied
    )
    _fill(stack.enter_context(opened), items, side)


def _copy_in(
    invocation: Invocation, stack: ExitStack, ends: tuple[_End, _End], archive: bool, follow: bool, copied: Copied
) -> None:
    from runtime.copying.archives import read_archive
    from runtime.copying.merged import merged_root
    from runtime.copying.places import Inside, Machine, opened_directory, opened_source, opened_target, parse
    from runtime.copying.target import Owners
    from runtime.copying.trees import Tree
    from vcs.decompress import decompressed

    source, target = ends
    container = target.container
    assert container is not None
    merged = stack.enter_context(merged_root(invocation.containers, container, writes=True))
    side = Inside(merged.root, container.name, merged.aside)
    owners = Owners(archive, shift=container.record.ids or 0)
    there = parse(target.path)
    if source.is_stream:
        opened = opened_directory(side, there, owners, copied)
        _fill(
            stack.enter_context(opened),
            read_archive(decompressed(sys.stdin.buffer, None), every_xattr=archive),
            side,
        )
        return
    given = parse(source.path, os.getcwdb())
    top = stack.enter_context(opened_source(Machine(), given, follow=follow))
    items = iter(Tree(top, copied, every_xattr=archive))
    first = next(items)
    opened = opened_target(
        side, there, given.name,
        is_directory=first.is_directory, is_content=given.is_content, owners=owners, copied=copied,
    )  # fmt: skip
    _fill(stack.enter_context(opened), _chain(first, items), side)


def _of_container(
    invocation: Invocation,
    stack: ExitStack,
    source: _End,
    given: Path,
    archive: bool,
    follow: bool,
    copied: Copied,
) -> Iterator[Item]:
    from runtime.copying.merged import merged_root
    from runtime.copying.places import Inside, opened_source
    from runtime.copying.target import seen_inside
    from runtime.copying.trees import Tree

    assert source.container is not None
    root = stack.enter_context(merged_root(invocation.containers, source.container, writes=False)).root
    top = stack.enter_context(opened_source(Inside(root, source.container.name), given, follow=follow))
    shift = source.container.record.ids or 0
    for item in Tree(top, copied, every_xattr=archive):
        yield replace(item, uid=seen_inside(item.uid, shift), gid=seen_inside(item.gid, shift)) if shift else item


def _of_commit(
    invocation: Invocation, source: _End, given: Path, archive: bool, follow: bool, copied: Copied
) -> Iterator[Item]:
    from runtime.copying.commits import read_commit

    try:
        snapshot = invocation.snapshot(source.revision)
    except NotFound as error:
        raise NotFound(f"there is no container and no commit {source.revision!r}", container=source.revision) from error
    return read_commit(snapshot, given, copied, follow=follow, every_xattr=archive)


def _fill(target: Target, items: Iterable[Item], side: Side) -> None:
    """Make all items. OSError says where, as the user would write it."""
    for item in items:
        try:
            target.add(item)
        except OSError as error:
            where = side.shown(error.filename) if isinstance(error.filename, bytes) else error.filename
            raise OSError(error.errno, error.strerror, where) from error


def _chain(first: Item, rest: Iterable[Item]) -> Iterator[Item]:
    yield first
    yield from rest


VERBS: dict[str, click.Command] = {"cp": cp}
