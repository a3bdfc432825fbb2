"""What the files below `.treering` say: words about commits and about the store, for people.

A file of facts is lines of `key: value`, then, for a commit, an empty line and its message; all of it UTF-8. The kernel
keeps what it has read, so a text must follow from the file's path and the commit alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from fusefs import moments
from vcs.snapshot import CommitInfo

EDITION = b"1"
"""Of commit_text(): a program with other words needs another edition, for the kernel may have these still."""

README = b"""\
Every state of every container that was committed to this store, read-only.

  branches/NAME           the file system of a branch's newest commit
  tags/NAME               that of a tag
  commits/ID              that of any commit, by its full id
  containers/NAME         that below a container: its base, without what it wrote since
  at/TIME/NAME            that of a branch as it was at a time: at/2026-11-01/main, at/2026-11-01T12:30/main,
                          at/2026-11-01T12:30:15+01:00/main. UTC unless the time says otherwise. Not listed: any
                          time is there.
  trees/ROOT              where all of these are links to

What is here changes as commits, branches, tags and containers come and go. What is in trees/ROOT never does.

The same path below .treering is a file that says which commit it is, its root, its parents, author, date and message:
.treering/branches/NAME, .treering/commits/ID, and so on. .treering/store tells of the store.
"""

_KINDS = {b"branches": "branch", b"tags": "tag", b"containers": "container", b"at": "branch"}


def commit_text(path: bytes, commit: CommitInfo) -> bytes:
    """What to say of a commit that is found at a path, from below `.treering`."""
    where, _, name = path.partition(b"/")
    lines = []
    if where == b"at":
        moment, _, name = name.partition(b"/")
        lines.append(("at", moments.text(moments.parsed(moment) or 0)))
    if where in _KINDS:
        lines.insert(0, (_KINDS[where], name.decode("utf-8", "replace")))
    lines += [
        ("commit", commit.id),
        ("root", commit.root.hex()),
        *(("parent", parent) for parent in commit.parents),
        ("author", f"{commit.author} <{commit.email}>"),
        ("date", moments.text(commit.time, commit.offset)),
    ]
    return _joined(lines) + f"\n{commit.message.rstrip()}\n".encode("utf-8", "replace")


def store_text(about: Mapping[str, str]) -> bytes:
    """What to say of a store."""
    return _joined(list(about.items()))


def _joined(lines: list[tuple[str, str]]) -> bytes:
    return "".join(f"{key}: {value}\n" for key, value in lines).encode("utf-8", "replace")
