"""Mount targets that a root does not have, and how they stay out of commits.

/proc, /dev, /sys, /etc/hosts and the like are mounted over names in the root. An OCI runtime creates a missing name,
and it would then be in the upper as if the container had made it. So we create what is missing ourselves, as `stubs`:
an empty file or directory for each, written down before it is made, and every directory touched gets its old mtime
back. The scanner of the upper drops a stub that is still empty; a directory only copied up for one equals the lower's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from runtime.state import STUBS, write_json
from vcs.errors import EngineError

if TYPE_CHECKING:
    from runtime.rootaccess import Root

KERNEL_TREES = (b"/proc", b"/sys", b"/dev")
"""Mounted by us on real directories only: a link here would aim the runtime's mounts elsewhere (CVE-2019-19921)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A path in the root that must exist when the container starts."""

    path: bytes
    is_dir: bool


@dataclass(frozen=True, slots=True)
class Stub:
    """A name that we put into an upper. A file is empty with mode 0644, a directory has mode 0755; both are root's."""

    path: bytes
    is_dir: bool


class View(Protocol):
    """What a plan needs to know about a root; `rootaccess.Root` is one."""

    def resolve(self, path: bytes) -> bytes:
        """The path with links followed inside the root; missing names are kept."""
        ...

    def stat(self, path: bytes) -> os.stat_result | None:
        """What a path leads to, None if nothing."""
        ...


def place(view: View, targets: Sequence[Target]) -> tuple[dict[bytes, bytes], list[Stub]]:
    """Where each target really is, and which names are missing, parents first.

    A target below one of KERNEL_TREES lives in a file system that does not exist yet: if it was asked for there
    (/dev/pts) it stays as it is, if a link leads there (/etc/hostname -> /dev/null) it is left out of the mapping.
    EngineError if something of the wrong kind is in the way.
    """
    placed: dict[bytes, bytes] = {}
    stubs: dict[bytes, Stub] = {}
    for target in targets:
        if _in_kernel_tree(target.path):
            placed[target.path] = target.path
            continue
        real = view.resolve(target.path)
        if target.path in KERNEL_TREES and real != target.path:
            raise EngineError(f"{_show(target.path)} in the root is a symbolic link", path=target.path)
        if target.path not in KERNEL_TREES and (real in KERNEL_TREES or _in_kernel_tree(real)):
            continue
        placed[target.path] = real
        for name in _missing(view, Target(real, target.is_dir), stubs):
            stubs[name.path] = name
    return placed, list(stubs.values())


def _in_kernel_tree(path: bytes) -> bool:
    return path.startswith(tuple(tree + b"/" for tree in KERNEL_TREES))


def _missing(view: View, target: Target, planned: dict[bytes, Stub]) -> Iterator[Stub]:
    names = target.path.strip(b"/").split(b"/")
    for depth in range(1, len(names) + 1):
        path = b"/" + b"/".join(names[:depth])
        want_dir = target.is_dir or depth < len(names)
        status = None if path in planned else view.stat(path)
        if status is not None and stat.S_ISDIR(status.st_mode) != want_dir:
            raise EngineError(f"{_show(path)} in the root must {'' if want_dir else 'not '}be a directory", path=path)
        if status is None and path not in planned and path != b"/":
            yield Stub(path, want_dir)


def _show(path: bytes) -> str:
    return os.fsdecode(path)


def make_stubs(root: Root, stubs: Sequence[Stub], record: Path) -> None:
    """Note the stubs in `record`, then create them in the merged root. Safe to repeat after a crash.

    OSError if the root cannot be written.
    """
    if not stubs:
        return
    save_stubs(record, dict.fromkeys([*load_stubs(record), *stubs]))
    for stub in stubs:
        parent, _, name = stub.path.rpartition(b"/")
        directory = root.open(parent or b"/", os.O_RDONLY | os.O_DIRECTORY, follow=False)
        try:
            before = os.fstat(directory)
            _create(replace(stub, path=name), directory)
            os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(directory)


def _create(stub: Stub, directory: int) -> None:
    if stub.is_dir:
        os.mkdir(stub.path, 0o755, dir_fd=directory)
    else:
        os.close(os.open(stub.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory))


def save_stubs(record: Path, stubs: Iterable[Stub]) -> None:
    """Write the stubs of an upper next to it, replacing what is there."""
    write_json(record, [{"path": os.fsdecode(stub.path), "dir": stub.is_dir} for stub in stubs])


def read_stubs(generation: Path) -> list[bytes]:
    """Absolute paths of the names in a generation's upper that are ours, for `upper.scan_upper`."""
    return [stub.path for stub in load_stubs(generation / STUBS)]


def load_stubs(record: Path) -> list[Stub]:
    """The stubs noted for an upper; none if there is no record."""
    try:
        items = json.loads(record.read_bytes())
    except FileNotFoundError:
        return []
    return [Stub(os.fsencode(item["path"]), item["dir"]) for item in items]
