"""A kernel overlayfs: a read-only lower, and an upper that takes what a container writes.

Options, and why (Documentation/filesystems/overlayfs.rst):

    index=off         the lower's files have no stable handles over a restart of its FUSE server
    uuid=null         do not mark the upper with an identity of its own (Linux 6.6)
    redirect_dir=on   renaming a directory of the lower copies nothing
    metacopy=on       chmod, chown and rename of a file copy no data
    xino=off          inode numbers need not be folded; the lower is one file system

In a user namespace `userxattr` stands for metacopy and redirect_dir: only root of the machine may set `trusted.*`
attributes, so the kernel keeps its own as `user.overlay.*`, and, since a file's owner can change those, follows no
redirect or metacopy in them. An upper is of one sort for ever; a file beside it, `userxattr`, says so of the second.

A new upper has `/tmp` already, opaque, if that is empty below. Else the kernel asks the lower for each new name in it,
which a FUSE server has to answer: 3,000 temporary files, one after the other, took 1.27 times as long as over ext4,
and take 0.94.

With `volatile` (Linux 5.10) overlayfs flushes nothing, and refuses to mount such an upper again, since it cannot know
what has become of it. We do: see _settle_volatile().

A kernel that does not know one of them is asked again without it; `Overlay.dropped` says which.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from runtime.namespace import in_user_namespace
from runtime.state import boot_id
from runtime.system import mounts
from runtime.upper.conventions import OPAQUE, TRUSTED, USER, USERXATTR, prefix_of
from runtime.upper.unfinished import remove_unfinished
from vcs.errors import Conflict, EngineError, NoSpace
from vcs.existing import is_directory, is_there

OPTIONS: tuple[tuple[bytes, bytes], ...] = (
    (b"uuid", b"null"),
    (b"xino", b"off"),
    (b"index", b"off"),
    (b"metacopy", b"on"),
    (b"redirect_dir", b"on"),
)
"""Newest first: the order in which a kernel that refuses is asked with one less."""
_ONLY_TRUSTED = (b"metacopy", b"redirect_dir")
_TEMPORARY = "tmp"

VOLATILE = "volatile"
"""The mount option, the mark that the kernel leaves in a work directory for it, and our note beside that, which says in
which boot it was."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A mounted overlay. It belongs to the mount namespace it was made in and ends with it."""

    root: int
    """An O_PATH descriptor of its root directory, close-on-exec; the caller closes it."""
    target: Path
    dropped: tuple[str, ...]
    """Options that this kernel does not have."""


def never_mounted(work: Path) -> bool:
    """Whether no overlay has ever used this work directory: the kernel makes `work/work` at the first mount. The upper
    beside it then says nothing, not even by its own attributes."""
    return not (is_directory(work) and any(os.scandir(work)))


def prepare_upper(lower: Path, upper: Path, work: Path) -> None:
    """Make `upper` and `work` if they are missing, and give an upper that was never mounted its attributes.

    An overlay's root shows the attributes of its upper, so a new upper starts with the lower's: owner, mode, times and
    extended attributes. What a killed copy left is taken away. NoSpace if the disk is full; Conflict if the upper is of
    the other sort (prefix_of).
    """
    confined = in_user_namespace()
    try:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        upper.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_unfinished(upper.parent)
        if never_mounted(work):
            _note_sort(upper.parent, confined)
            _make_temporary(lower, upper, confined)
            _copy_attributes(lower, upper, confined)  # after what changes its time
        elif confined != (prefix_of(upper.parent) == USER):
            who = "root" if confined else "an ordinary user in his namespaces"
            raise Conflict(f"the container was started by {who} before, and only so can it be again", path=str(upper))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no space for a container's files at {upper.parent}", path=str(upper)) from error
        raise EngineError(f"cannot prepare {upper}: {error.strerror}", path=str(upper)) from error


def mount_overlay(
    lower: Path, upper: Path, work: Path, target: Path, *, data: Path | None = None, volatile: bool = False
) -> Overlay:
    """Mount an overlay at `target` in the caller's mount namespace. `data` is where it finds the bytes of files
    of which the lower says so (lowers.py). With `volatile` it never flushes what is written.

    EngineError if the kernel refuses, or if it was volatile, and the machine has been booted since.
    """
    root, dropped = make_overlay(lower, upper, work, data=data, volatile=volatile)
    try:
        mounts.attach(root, os.fsencode(target))
    except OSError as error:
        os.close(root)
        raise EngineError(f"cannot mount at {target}: {error.strerror}", target=str(target)) from error
    return Overlay(root, target, dropped)


def make_overlay(
    lower: Path, upper: Path, work: Path, *, data: Path | None = None, volatile: bool = False
) -> tuple[int, tuple[str, ...]]:
    """The same, mounted nowhere: a descriptor of its root, with which it ends, and the options that this kernel does
    not have."""
    _settle_volatile(upper.parent, work, volatile)
    with ExitStack() as stack:
        layers = {}
        lowers = ((b"lowerdir", lower),) if data is None else ((b"lowerdir+", lower), (b"datadir+", data))
        for key, path in (*lowers, (b"upperdir", upper), (b"workdir", work)):
            layers[key] = _open_directory(path)
            stack.callback(os.close, layers[key])
        return _make(layers, upper, in_user_namespace(), volatile)


def _settle_volatile(generation: Path, work: Path, volatile: bool) -> None:
    """Take away what keeps the kernel from mounting an upper that was volatile once more.

    Within one boot nothing is lost: the page cache holds all that was written. After another one the upper may be of
    any moment, and each file in it half written.
    """
    note, mark = generation / VOLATILE, work / "work/incompat" / VOLATILE
    try:
        if is_there(mark) and (not is_there(note) or note.read_text() != boot_id()):
            raise EngineError(
                "the machine was started anew since the container ran with --volatile: "
                "what it wrote was never flushed, and may be damaged",
                advice="`treering rollback NAME NAME` gives it the files of its last commit",
                path=str(generation),
            )
        if is_there(mark):
            shutil.rmtree(mark)
        if volatile:
            note.write_text(boot_id())
        else:
            note.unlink(missing_ok=True)
    except OSError as error:
        raise EngineError(f"cannot prepare {generation}: {error.strerror}", path=str(generation)) from error


def _note_sort(generation: Path, confined: bool) -> None:
    marker = generation / USERXATTR
    if not confined:
        marker.unlink(missing_ok=True)
        return
    marker.touch()
    try:
        os.setxattr(marker, f"{USER}{USERXATTR}", b"y")
    except OSError as error:  # the kernel would mount it all the same, and fail at the first removed directory
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise EngineError(
            f"{generation} lies on a file system without user.* attributes, which cannot hold what a container writes; "
            "put the store on ext4, xfs or btrfs (or tmpfs since Linux 6.6)",
            path=str(generation),
        ) from error


def _make(layers: dict[bytes, int], upper: Path, confined: bool, volatile: bool) -> tuple[int, tuple[str, ...]]:
    options = [option for option in OPTIONS if not (confined and option[0] in _ONLY_TRUSTED)]
    unknown: list[str] = []
    while True:
        try:
            with mounts.FsContext(b"overlay") as context:
                if confined:
                    context.set_flag(USERXATTR.encode())
                if volatile:
                    context.set_flag(VOLATILE.encode())
                return _configure(context, layers, options, unknown), tuple(unknown)
        except _RefusedError as refused:
            # Before Linux 6.5 an unknown option is only noticed at the end, unnamed: leave out one more, newest first.
            if not options or refused.number != errno.EINVAL or refused.messages:
                raise _explain(refused, layers[b"upperdir"], upper) from refused
            unknown.append(options.pop(0)[0].decode())
        except OSError as error:
            raise EngineError(f"this kernel cannot mount overlayfs: {error.strerror}") from error


class _RefusedError(Exception):
    def __init__(self, number: int, messages: list[str]) -> None:
        super().__init__(os.strerror(number))
        self.number = number
        self.messages = messages


def _configure(
    context: mounts.FsContext,
    layers: dict[bytes, int],
    options: list[tuple[bytes, bytes]],
    unknown: list[str],
) -> int:
    """Set everything and mount. Options that the kernel says it does not know go from `options` to `unknown`."""
    for key, value in tuple(options):
        try:
            context.set(key, value)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            context.messages()
            options.remove((key, value))
            unknown.append(key.decode())
    try:
        # A path of this form has no comma, colon or backslash, which overlayfs would read as syntax, and it is short.
        for key, fd in layers.items():
            context.set(key, b"/proc/self/fd/%d" % fd)
        return context.mount()
    except OSError as error:
        raise _RefusedError(error.errno or errno.EIO, context.messages()) from error


def _explain(refused: _RefusedError, upper_fd: int, upper: Path) -> EngineError:
    facts = {"upper": str(upper), "errno": errno.errorcode.get(refused.number, str(refused.number))}
    if mounts.file_system_type(upper_fd) == mounts.OVERLAYFS_MAGIC:
        return EngineError(
            f"{upper.parent} lies on overlayfs, which cannot hold what a container writes; "
            "put the store on a disk file system (ext4, xfs, btrfs) or tmpfs, such as a volume",
            **facts,
        )
    said = "; ".join(refused.messages) or os.strerror(refused.number)
    return EngineError(f"the kernel refused the overlay for {upper.parent}: {said}", **facts)


def _open_directory(path: Path) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise EngineError(f"cannot open {path}: {error.strerror}", path=str(path)) from error


def _make_temporary(lower: Path, upper: Path, confined: bool) -> None:
    """Give a new upper its `/tmp`, if the lower's is empty.

    It is made beside the upper and then moved: it is there with all its attributes, or not at all.
    """
    below, here = lower / _TEMPORARY, upper / _TEMPORARY
    if os.path.lexists(here) or not _is_empty(below):
        return
    made = upper.parent / _TEMPORARY
    made.mkdir(mode=0o700, exist_ok=True)
    _copy_attributes(below, made, confined)
    os.setxattr(made, f"{USER if confined else TRUSTED}opaque", OPAQUE)
    made.rename(here)


def _is_empty(path: Path) -> bool:
    """Whether it is a directory, and no link to one, without any names."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode) and not any(os.scandir(path))
    except FileNotFoundError:
        return False


def _copy_attributes(source: Path, target: Path, confined: bool) -> None:
    """Owner, mode, extended attributes and times. Overlayfs's own attributes stay behind, escaped ones are content."""
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o7777)
    for name in os.listxattr(source):
        if confined and name.startswith("trusted."):
            continue  # which may not even be read
        if not name.startswith((TRUSTED, USER)) or name.startswith((f"{TRUSTED}overlay.", f"{USER}overlay.")):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
