"""All commits shown at a place of the user's as directories, for people and their tools: by either driver.

    native     the service's mount, bound to the place; needs the right to mount, which an ordinary user has in the
               store's namespaces alone, so that his session does not see it
    libfuse    a mount of its own, made by fusermount for an ordinary user, with a process of its own (ownmount.py)
    auto       whichever shows it where the user is: native for root, libfuse for others; else the other one

What is shown is taken away in the same manner, whichever it was.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fusefs import mounting
from fusefs.client import Service
from fusefs.rights import in_user_namespace
from fusefs.rundir import RunDirectory
from runtime import ownmount
from runtime.source import OPENER
from runtime.system import mounts
from vcs.errors import AlreadyExists, BadInput, Conflict, Denied, NotFound, StoreError

Driver: TypeAlias = Literal["auto", "native", "libfuse"]
Enter: TypeAlias = Callable[[], None]

_DRIVERS_FAULT = (Denied, StoreError)
"""Not their subclasses: a store that is none, or of another format, is so for every driver."""
_UNMOUNTERS = ("fusermount3", "fusermount")
_UNMOUNT_SECONDS = 30


def show(store: Path, target: Path, driver: Driver = "auto", enter: Enter | None = None) -> Path:
    """Mount a store's commits at a directory, which is made if it is missing; returns its real path.

    `enter` is for a process that may not mount: it takes it to where it may, the store's namespaces, and is called for
    the native driver alone. What serves the commits stays for as long as the mount does. AlreadyExists if the directory
    shows something of ours, BadInput if it is none, or is not empty and the driver is libfuse; Denied where the driver
    cannot mount.
    """
    target = _directory(target)
    _refuse_shown(target)
    RunDirectory(store)  # what is wrong with the store is no driver's fault

    def native() -> None:
        _bind(store, target, enter)

    def libfuse() -> None:
        _own(store, target)

    if driver == "auto":
        _either(target, native, libfuse, is_native_first=enter is None)
    elif driver == "native":
        native()
    else:
        libfuse()
    return target


def hide(target: Path) -> Path:
    """Take such a mount away. NotFound if there is none; Conflict if somebody is inside; Denied."""
    target = _unresolved(target) if _ours(_unresolved(target)) else target.resolve()
    if not _ours(target):
        raise NotFound(f"{target} is not where treering mounted something", mountpoint=str(target))
    if target.name == "mnt" and (target.parent / "service.sock").exists():
        raise Conflict(f"{target} is the service's own mount", service=str(target))
    try:
        gone = mounting.unmount(target)
    except Denied as error:
        gone = _unmount_as_user(target, error)
    except StoreError as error:
        if error.facts.get("errno") == errno.EINVAL and in_user_namespace():  # mount_namespaces(7): it is locked
            raise Conflict(
                f"{target} was mounted outside of these namespaces: unmount it there", mountpoint=str(target)
            ) from error
        raise
    if not gone:
        raise Conflict(f"{target} is in use", mountpoint=str(target))
    return target


def is_shown(target: Path) -> bool:
    """Whether something of ours is mounted at a directory, as this process sees it."""
    return _ours(_unresolved(target)) or _ours(target.resolve())


def _either(target: Path, native: Enter, libfuse: Enter, *, is_native_first: bool) -> None:
    """Mount in one way, or else in the other. Denied, with what each of them lacks."""
    refusals: dict[str, StoreError] = {}
    for name, way in (("native", native), ("libfuse", libfuse))[:: 1 if is_native_first else -1]:
        try:
            return way()
        except StoreError as error:
            if type(error) not in _DRIVERS_FAULT:
                raise
            refusals[name] = error
    facts: dict[str, Any] = {name: str(error) for name, error in refusals.items()}
    raise Denied(
        f"neither driver can mount {target}. Native: {facts['native']}. Libfuse: {facts['libfuse']}",
        **{**refusals["native"].facts, **facts, "driver": "auto"},
    )


def _bind(store: Path, target: Path, enter: Enter | None) -> None:
    try:
        if enter is not None:
            enter()
            _refuse_shown(target)
        lease = Service.ensure(store, opener=OPENER)
    except Denied as error:
        raise Denied(str(error), **{**error.facts, "driver": "native"}) from error
    with lease:
        try:
            mounts.mount(os.fsencode(lease.mountpoint), os.fsencode(target), None, mounts.MS_BIND)
        except OSError as error:
            kind = Denied if isinstance(error, PermissionError) else StoreError
            raise kind(f"{target} cannot be mounted: {error.strerror}", driver="native", path=str(target)) from error


def _own(store: Path, target: Path) -> None:
    if any(target.iterdir()):
        raise BadInput(f"{target} is not empty", path=str(target))
    ownmount.start(store, target)


def _unmount_as_user(target: Path, refused: Denied) -> bool:
    """Unmount with the help of fusermount, which may; False if somebody is inside."""
    for program in _UNMOUNTERS:
        try:
            done = subprocess.run(
                [program, "-u", "--", target],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_UNMOUNT_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            continue
        except subprocess.TimeoutExpired:
            raise StoreError(f"{target} cannot be unmounted: {program} does not end", path=str(target)) from None
        if done.returncode and os.strerror(errno.EBUSY) not in done.stderr:
            raise Denied(f"{target} cannot be unmounted: {done.stderr.strip()}", path=str(target))
        return not done.returncode
    raise refused


def _refuse_shown(target: Path) -> None:
    if _ours(target):
        raise AlreadyExists(f"{target} shows a store's commits already", mountpoint=str(target))


def _ours(point: Path) -> bool:
    mounted = mounting.mount_at(point)
    return mounted is not None and mounted.filesystem == mounting.FILESYSTEM


def _unresolved(target: Path) -> Path:
    """The path with all but its last name resolved: what is mounted there may be dead, or another user's."""
    return target.parent.resolve() / target.name


def _directory(target: Path) -> Path:
    try:
        if not _ours(_unresolved(target)):
            target.mkdir(exist_ok=True)
            return target.resolve(strict=True)
        return _unresolved(target)
    except FileExistsError:
        raise BadInput(f"{target} is not a directory", path=str(target)) from None
    except FileNotFoundError:
        raise NotFound(f"{target.parent} does not exist", directory=str(target.parent)) from None
    except PermissionError as error:
        raise Denied(f"{target} cannot be made: {error.strerror}", path=str(target)) from error
