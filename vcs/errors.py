"""Everything that the library raises on purpose.

    TreeringError
    ├── NotFound          the user named something that is not there (revision, branch, path, container)
    ├── AlreadyExists     the name is taken
    ├── InvalidName       the name cannot be used
    ├── Conflict          somebody else was first: a ref moved, a container runs
    ├── SecretsFound      what was to be committed holds secrets, and that is not wished
    ├── HookRefused       a hook of the store refused what was to be done
    ├── BadInput          what we were given to read is broken or hostile (archive, directory, config)
    ├── StoreError        the store as a whole cannot be used
    │   ├── NotAStore     there is no store at this path
    │   ├── UnknownFormat its format is of another version
    │   ├── Denied        the operating system refuses access
    │   ├── ReadOnly      it is looked at as it once was
    │   └── NoSpace       the disk, the quota or the inodes are used up
    ├── Damaged           the store lost or changed bytes
    │   ├── Missing       an object is not in any layer
    │   └── Corrupt       an object's bytes do not have its digest, or a layer cannot be parsed
    └── EngineError       the container could not be set up or the OCI runtime refused

Errors carry facts as attributes; advice and exit codes are the command line's business.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any


class TreeringError(Exception):
    """Root of the family. `facts` are the keyword arguments, for machine-readable output."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    @property
    def kind(self) -> str:
        return type(self).__name__


class NotFound(TreeringError):
    """The user named something that is not there."""


class AlreadyExists(TreeringError):
    """The name is taken."""


class InvalidName(TreeringError):
    """The name cannot be used."""


class Conflict(TreeringError):
    """Somebody else was first; nothing was changed."""


class SecretsFound(TreeringError):
    """What was to be committed holds secrets, and that is not wished; nothing was changed."""


class HookRefused(TreeringError):
    """A hook of the store refused what was to be done; nothing was changed."""


class BadInput(TreeringError):
    """What we were given to read is broken or hostile; nothing was changed."""


class StoreError(TreeringError):
    """The store as a whole cannot be used."""


class NotAStore(StoreError):
    """There is no store at this path."""


class UnknownFormat(StoreError):
    """The store, or one of its layers, is of a format version that this program does not know."""


class Denied(StoreError):
    """The operating system refuses access."""


class ReadOnly(StoreError):
    """The store is looked at as it was after an operation: nothing can be changed."""


class NoSpace(StoreError):
    """The disk, the quota or the inodes are used up; nothing was changed."""


class Damaged(TreeringError):
    """The store lost or changed bytes."""


class Missing(Damaged):
    """An object is not in any layer."""


class Corrupt(Damaged):
    """An object's bytes do not have its digest, or a layer cannot be parsed."""


class EngineError(TreeringError):
    """The container could not be set up, or the OCI runtime refused."""


@contextmanager
def suppress_errno(errnos: Container[int]) -> Iterator[None]:
    """Pass over an OSError with one of these numbers (errno(3)), and over no other: contextlib.suppress knows classes,
    which many numbers have not."""
    try:
        yield
    except OSError as error:
        if error.errno not in errnos:
            raise
