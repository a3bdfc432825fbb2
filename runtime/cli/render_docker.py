"""Changes as `docker diff` lists them.

    A  added: a directory, and everything in it           C  changed: also each directory above what is listed
    D  deleted: a directory as a whole                       the root itself is never listed

A renamed file is a deleted and an added one. Names are sorted as a walk meets them: what is in a directory comes right
after it. Podman and older Dockers list a directory above a file only if its mtime changed too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runtime.cli.output import Output
from runtime.cli.quoting import quoted
from vcs.diff import Change
from vcs.snapshot import Snapshot

_LETTERS = {"A": "A", "M": "C", "T": "C", "D": "D"}


def write_docker(output: Output, changes: Iterable[Change], new: Snapshot) -> None:
    """A line for each. The changes must have been found without renames; `new` is the root that they lead to."""
    letters = docker_changes(changes, new)
    for path in sorted(letters, key=lambda path: path.split(b"/")):
        output.line(f"{letters[path]} {quoted(path)}")


def docker_changes(changes: Iterable[Change], new: Snapshot) -> dict[bytes, str]:
    """The letter of each path that is listed."""
    found: dict[bytes, str] = {}
    gone: set[bytes] = set()
    for change in changes:  # what is above comes first
        if change.letter in "DT":
            gone.add(change.path)
        if change.path != b"/" and not (change.letter == "D" and change.path.rpartition(b"/")[0] in gone):
            found[change.path] = _LETTERS[change.letter]
    for path in list(found):
        for directory in _above(path):
            if directory in found:
                break
            if new.find(directory) is not None:  # with limited paths, it may be gone and not among the changes
                found[directory] = "C"
    return found


def _above(path: bytes) -> Iterator[bytes]:
    while path := path.rpartition(b"/")[0]:
        yield path
