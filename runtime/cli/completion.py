"""What a shell asks for while the user types. Whatever goes wrong here, the answer is "nothing", never an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem, get_completion_class

from runtime.cli.invocation import Invocation, split_place
from vcs.errors import TreeringError

_PROGRAM = "treering"
_VARIABLE = "_TREERING_COMPLETE"


def script(shell: str) -> bytes:
    """The script that makes a shell (bash, zsh, fish) ask us."""
    kind = get_completion_class(shell)
    assert kind is not None
    completer = kind(click.Command(_PROGRAM), {}, _PROGRAM, _VARIABLE)
    # Not completer.source(): it starts a bash to see how old it is, which is not the one that will read the script.
    return (completer.source_template % completer.source_vars()).encode() + b"\n"


def answer(program: click.Group, instruction: str) -> int:
    """Answer a shell: `instruction` is what its script put into the variable, such as `bash_complete`."""
    from click.shell_completion import shell_complete

    return shell_complete(program, {}, _PROGRAM, _VARIABLE, instruction)


def candidates(context: click.Context, kind: str, incomplete: str) -> list[CompletionItem]:
    """Names of a kind (revision, branch, tag, container, file) that begin with what was typed."""
    invocation = context.ensure_object(Invocation)
    try:
        return [CompletionItem(name) for name in _NAMES[kind](invocation, incomplete) if name.startswith(incomplete)]
    except (TreeringError, OSError):
        return []
    finally:
        invocation.close()


def _branches(invocation: Invocation, _: str) -> Iterator[str]:
    yield from invocation.store.branches()


def _tags(invocation: Invocation, _: str) -> Iterator[str]:
    yield from invocation.store.tags()


def _containers(invocation: Invocation, _: str) -> Iterator[str]:
    for container in invocation.containers.all():
        yield container.name


def _revisions(invocation: Invocation, incomplete: str) -> Iterator[str]:
    names = [*_branches(invocation, ""), *_tags(invocation, ""), *_containers(invocation, "")]
    yield from dict.fromkeys(names)


def _files(invocation: Invocation, incomplete: str) -> Iterator[str]:
    place = split_place(incomplete)
    if place.path is None:
        for name in _revisions(invocation, ""):
            yield f"{name}:"
        return
    folder, slash, _ = place.path.rpartition(b"/")
    snapshot = invocation.snapshot(place.revision)
    for entry in snapshot.directory(snapshot.lookup(snapshot.resolve(folder))):
        path = folder + slash + entry.name
        yield f"{place.revision}:{os.fsdecode(path)}" + ("/" if entry.is_dir else "")


_NAMES: dict[str, Callable[[Invocation, str], Iterator[str]]] = {
    "branch": _branches,
    "tag": _tags,
    "container": _containers,
    "revision": _revisions,
    "file": _files,
}
