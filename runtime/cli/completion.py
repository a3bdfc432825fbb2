"""What a shell asks for while the user types. Whatever goes wrong here, the answer is "nothing", never an error."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    shell_complete,
    split_arg_string,
)

from runtime.cli.invocation import Invocation, split_place
from vcs.errors import TreeringError

_PROGRAM = "treering"
_VARIABLE = "_TREERING_COMPLETE"


_BASH = r"""# bash completion of treering
_treering() {
    local IFS=$'\n' kind value prefix=""
    # Bash takes REV:PATH for three words, and puts our answer in the place of the last: the line is sent as it is, and
    # what stands before the last colon is taken off the answers.
    local typed=${COMP_LINE:0:COMP_POINT}
    local word=${typed##* }
    [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && prefix=${word%:*}:
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames; COMPREPLY=() ;;
            file) compopt -o default; COMPREPLY=() ;;
            *) [[ $value == */ || $value == *: ]] && compopt -o nospace; COMPREPLY+=("${value#"$prefix"}") ;;
        esac
    done < <(COMP_WORDS=$typed COMP_CWORD=-1 _TREERING_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -F _treering treering
"""


class _Bash(BashComplete):
    """Takes the whole line up to the cursor, not the words that bash makes of it."""

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        incomplete = "" if line[-1:].isspace() else words.pop()
        return words[1:], incomplete


def script(shell: str) -> bytes:
    """The script that makes a shell (bash, zsh, fish) ask us."""
    kind = get_completion_class(shell)
    assert kind is not None
    if shell == "bash":
        return _BASH.encode()
    completer = kind(click.Command(_PROGRAM), {}, _PROGRAM, _VARIABLE)
    return (completer.source_template % completer.source_vars()).encode() + b"\n"


def answer(program: click.Group, instruction: str) -> int:
    """Answer a shell: `instruction` is what its script put into the variable, such as `bash_complete`."""
    add_completion_class(_Bash, "bash")
    return shell_complete(program, {}, _PROGRAM, _VARIABLE, instruction)


def candidates(context: click.Context, kind: str, incomplete: str) -> list[CompletionItem]:
    """Names of a kind (revision, branch, tag, container, operation, file) that begin with what was typed."""
    invocation = context.ensure_object(Invocation)
    try:
        items = (_item(found) for found in _NAMES[kind](invocation, incomplete))
        found = [item for item in items if item.value.startswith(incomplete)]
        return [*found, CompletionItem(incomplete, type="file")] if kind == "place" and not found else found
    except (TreeringError, OSError):
        return []
    finally:
        invocation.close()


def _item(found: str | CompletionItem) -> CompletionItem:
    return CompletionItem(found) if isinstance(found, str) else found


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


def _operations(invocation: Invocation, _: str) -> Iterator[CompletionItem]:
    """Newest first, each with the command that it was."""
    for one in reversed(invocation.store.operations.read()):
        yield CompletionItem(one.id, help=shlex.join(one.args))


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


def _places(invocation: Invocation, incomplete: str) -> Iterator[str]:
    """For `cp`: what is in a container is completed as of its last commit."""
    if not incomplete.startswith(("/", ".")):
        yield from _files(invocation, incomplete)


_NAMES: dict[str, Callable[[Invocation, str], Iterator[str] | Iterator[CompletionItem]]] = {
    "branch": _branches,
    "tag": _tags,
    "container": _containers,
    "revision": _revisions,
    "operation": _operations,
    "file": _files,
    "place": _places,
}
