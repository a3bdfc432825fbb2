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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from runtime.state import STUBS, write_json
from vcs.errors import Corrupt, EngineError

if TYPE_CHECKING:
    from runtime.system.rootaccess import Root

KERNEL_TREES = (b"/proc", b"/sys", b"/dev")
"""Mounted by us on real directories only: a link here would aim the runtime's mounts elsewhere (CVE-2019-19921)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A path in the root that must exist when the container starts."""

    path: bytes
    is_dir: bool
    asked: bool = False
    """Its user asked for a mount here; others are ours."""
    mode: int = 0o755
    """Of a directory that is made for it."""


@dataclass(frozen=True, slots=True)
class Stub:
    """A name that we put into an upper: an empty file with mode 0644, or an empty directory. Both are root's."""

    path: bytes
    is_dir: bool
    mode: int = field(default=0o755, compare=False)
    """Of a directory."""


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
    (/dev/pts) it stays as it is, if a link leads there (/etc/hostname -> /dev/null) it is left out of the mapping. What
    lies below a mount that the user asked for is in that: his is for the engine to make there, ours is left out.
    EngineError if something of the wrong kind is in the way, or if he wants something where /proc or /sys are.
    """
    placed: dict[bytes, bytes] = {}
    stubs: dict[bytes, Stub] = {}
    covered: list[bytes] = []
    for target in targets:
        real = target.path if _in_kernel_tree(target.path) else view.resolve(target.path)
        if target.asked:
            _check_asked(target.path, real, covered)
            covered.append(real)
            placed[target.path] = real
            if _in_kernel_tree(real) or _is_below(real, covered):
                continue
        elif _in_kernel_tree(target.path):
            placed[target.path] = real
            continue
        elif target.path in KERNEL_TREES:
            if real != target.path:
                raise EngineError(f"{_show(target.path)} in the root is a symbolic link", path=target.path)
            placed[target.path] = real
        elif real in KERNEL_TREES or _in_kernel_tree(real) or real in covered or _is_below(real, covered):
            continue
        else:
            placed[target.path] = real
        for name in _missing(view, replace(target, path=real), stubs):
            stubs[name.path] = name
    return placed, list(stubs.values())


def _check_asked(path: bytes, real: bytes, others: Sequence[bytes]) -> None:
    """Whether a user's mount may be where it leads."""
    leads = "" if real == path else f", to which {_show(path)} leads"
    if real == b"/" or real == b"/dev" or real in (b"/proc", b"/sys") or real.startswith((b"/proc/", b"/sys/")):
        raise EngineError(
            f"nothing can be mounted at {_show(real)}{leads}: /, /dev, all of /proc and /sys are the container's own",
            path=path,
        )
    if real in others:
        raise EngineError(f"two mounts are asked for at {_show(real)}{leads}", path=path)


def _is_below(path: bytes, others: Sequence[bytes]) -> bool:
    return any(path.startswith(other + b"/") for other in others)


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
            yield Stub(path, want_dir, target.mode if depth == len(names) else 0o755)


def _show(path: bytes) -> str:
    return os.fsdecode(path)


def make_stubs(root: Root, stubs: Sequence[Stub], record: Path, owner: int = 0, durable: bool = True) -> None:
    """Note the stubs in `record`, then create them in the merged root, as `owner`'s (the id that root of the container
    has on the machine). Safe to repeat after a crash, and after a power cut unless the upper need not be `durable`: the
    names may be on the disk before the record is.

    OSError if the root cannot be written; Corrupt.
    """
    if not stubs:
        return
    noted = load_stubs(record)
    if not {*stubs} <= {*noted}:
        save_stubs(record, dict.fromkeys([*noted, *stubs]), durable)
    for stub in stubs:
        parent, _, name = stub.path.rpartition(b"/")
        directory = root.open(parent or b"/", os.O_RDONLY | os.O_DIRECTORY, follow=False)
        try:
            before = os.fstat(directory)
            _create(replace(stub, path=name), directory)
            if owner:
                os.chown(name, owner, owner, dir_fd=directory, follow_symlinks=False)
            os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(directory)


def _create(stub: Stub, directory: int) -> None:
    if stub.is_dir:
        os.mkdir(stub.path, dir_fd=directory)
        os.chmod(stub.path, stub.mode, dir_fd=directory)
    else:
        os.close(os.open(stub.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory))


def save_stubs(record: Path, stubs: Iterable[Stub], durable: bool = True) -> None:
    """Write the stubs of an upper next to it, replacing what is there."""
    write_json(record, [{"path": os.fsdecode(stub.path), "dir": stub.is_dir} for stub in stubs], durable)


def read_stubs(generation: Path) -> list[bytes]:
    """Absolute paths of the names in a generation's upper that are ours, for `upper.scan_upper`."""
    return [stub.path for stub in load_stubs(generation / STUBS)]


def load_stubs(record: Path) -> list[Stub]:
    """The stubs noted for an upper; none if there is no record. Corrupt."""
    try:
        items = json.loads(record.read_bytes())
        if not isinstance(items, list):
            raise ValueError("it is no list")
        return [Stub(os.fsencode(item["path"]), item["dir"]) for item in items]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"{record} cannot be read: {error}", path=str(record)) from error
