"""What a commit of a container says: its config, its parents, and the trailers of its message.

Trailers (git-interpret-trailers(1)) tell what made a commit:

    Container: web                        always
    Command: nginx -g daemon off;         what the container runs, or the command after which it was committed
    Exit-Code: 0    Duration: 1.20s       of that command (runtime.autocommit)
    Changes: A12 M3                       how many names, by the letters of `treering diff`
    Source: /srv/debian                   the directory or archive of an import
    User: ana (1000), by sudo             who it was that asked for it as root
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.containers import Container
from runtime.secrets import Finding, Policy
from runtime.storehooks import HookRun
from vcs.diff import Change, diff
from vcs.gitwords import trailers as trailers_of
from vcs.ignore import Patterns
from vcs.model import CommitId, RootId
from vcs.store import Store

_LONGEST = 500
"""Characters of a trailer."""
Edit = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a commit did. `made` is False where nothing had changed; then `commit` is the one that says it already."""

    commit: CommitId
    made: bool
    changes: tuple[Change, ...]
    added: int
    """Bytes that the store grew by, in layers."""
    unsteady: tuple[bytes, ...] = ()
    """Paths of files that were written to while they were read: their content may never have been so at once."""
    paused: float | None = None
    """Seconds that the container stood still; None if it did not, because it did not run, could not, or was not to."""
    secrets: tuple[Finding, ...] = ()
    """Files with secrets that the commit added."""
    failed_hook: str | None = None
    """What the hook after the pause said, if it failed; the commit stands."""
    hooks: tuple[HookRun, ...] = ()
    """What came of the store's hooks."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a commit is to be."""

    message: str
    allow_empty: bool = False
    trailers: Mapping[str, str] = field(default_factory=dict)
    edits: Sequence[Edit] = ()
    """Changes to the image config."""
    squash: bool = False
    """One commit on the one that the container was made from, in place of those since."""
    pause: bool = True
    """A running container stands still while it is read."""
    secrets: Policy = "off"
    """What to do about secrets in what the commit adds."""
    verify: bool = True
    """The store's hooks may refuse it."""
    exclude: Patterns | None = None
    """What the commit has as the container's head has it, and the container keeps as a change."""
    parents: tuple[CommitId, ...] = ()
    """Instead of its head, where the container's state is a merge of these."""

    def text(self, container: Container, changes: Sequence[Change]) -> str:
        """The message, with trailers."""
        lines = {"Container": container.name}
        if container.record.settings.args:
            lines["Command"] = " ".join(container.record.settings.args)
        lines.update(self.trailers)
        if changes:
            lines["Changes"] = counted(changes)
        return with_trailers(self.message, lines)

    @property
    def title(self) -> str:
        """The message's first line."""
        return first_line(self.message)

    def config(self, config: dict[str, Any]) -> dict[str, Any]:
        """The commit's image config, from its parent's."""
        for edit in self.edits:
            config = edit(config)
        return config


def with_trailers(message: str, trailers: Mapping[str, str]) -> str:
    r"""A message with these in its last paragraph, after those that it has; they may be none.

    >>> with_trailers("It works.", {"Source": "/srv/debian"})
    'It works.\n\nSource: /srv/debian\n'
    >>> with_trailers("It works.\n\nReviewed-By: Ada\n", {"Source": "/srv/debian"})
    'It works.\n\nReviewed-By: Ada\nSource: /srv/debian\n'
    """
    body = "".join(f"{name}: {one_line(value, _LONGEST)}\n" for name, value in trailers.items())
    between = "\n" if body and not trailers_of(message) else ""
    return f"{message.strip()}\n{between}{body}"


def counted(changes: Sequence[Change]) -> str:
    """What the trailer `Changes` says."""
    counts = Counter[str](change.letter for change in changes)
    return " ".join(f"{letter}{counts[letter]}" for letter in "AMDRT" if counts[letter])


def brought(store: Store, old: RootId | None, new: RootId) -> Iterator[Change]:
    """What a new state brings to a branch, for hooks; all that it has, to a branch that is new."""
    if old is not None:
        yield from diff(store.snapshot(old), store.snapshot(new))
    else:
        yield from (Change("A", path, None, entry) for path, entry in store.snapshot(new).walk() if path != b"/")


def first_line(message: str) -> str:
    """A message's title."""
    return message.strip().split("\n", 1)[0]


def one_line(text: str, length: int) -> str:
    """The text on one line, and no longer than this."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."
