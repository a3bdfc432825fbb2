"""What a container can be called, and which one has a name, found without reading every record.

    containers/.names/NAME    the id of the container that has the name

A name is written before a record has it, and removed after no record has it, so every name in use is there; one that is
there need not be in use, which its container's record tells. Nothing of it is synced, so a power cut may take names
that are in use: the mark that it is complete names the machine's boot. Without the directory, or the mark of this boot,
it is made anew from the records. All changes are made by who holds the lock on containers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from runtime.state import boot_id
from vcs.durable import replace_file
from vcs.errors import InvalidName

_COMPLETE = ".complete"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")


def is_name(text: str) -> bool:
    """Whether a container can be called so."""
    return _NAME.fullmatch(text) is not None


def checked_name(text: str) -> str:
    """A name that can be one. InvalidName."""
    if not is_name(text):
        raise InvalidName(f"{text!r} cannot be a container's name: use {_NAME.pattern}", name=text)
    return text


def stem_of(image: str) -> str:
    """What the names of containers begin with that are made from an image and given none."""
    stem = re.sub(r"[^a-zA-Z0-9_.-]+", "-", image).strip("-.")[:40]
    return stem if is_name(stem) else "container"


class Names:
    """The index of one store's names."""

    def __init__(self, containers: Path) -> None:
        self._directory = containers / ".names"

    @property
    def path(self) -> Path:
        """Where it is; it may be removed at any time."""
        return self._directory

    @property
    def is_complete(self) -> bool:
        """Whether every name in use is there."""
        try:
            return (self._directory / _COMPLETE).read_text("ascii") == boot_id()
        except (OSError, ValueError):
            return False

    def make(self, names: Iterable[tuple[str, str]]) -> None:
        """Make it anew, of names and ids."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for name, identity in names:
            self.add(name, identity)
        replace_file(self._directory / _COMPLETE, boot_id().encode(), durable=False)

    def owner(self, name: str) -> str | None:
        """The id of the container that may have a name; None if none has it, empty if that is damaged. OSError if it
        cannot be read: the name may be in use."""
        try:
            return (self._directory / name).read_text("ascii")
        except FileNotFoundError:
            return None
        except (ValueError, IsADirectoryError, NotADirectoryError):
            return ""

    def add(self, name: str, identity: str) -> None:
        """Note that a container is about to have a name."""
        replace_file(self._directory / name, identity.encode(), durable=False)

    def keep(self, identities: Collection[str]) -> None:
        """Drop all names but those of these containers."""
        with suppress(OSError):
            for entry in os.listdir(self._directory):
                if is_name(entry) and (owner := self.owner(entry)) and owner not in identities:
                    self.drop(entry, owner)

    def drop(self, name: str, identity: str) -> None:
        """Note that a container has a name no more."""
        with suppress(OSError):
            if self.owner(name) == identity:
                (self._directory / name).unlink()
