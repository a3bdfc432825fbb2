"""All commits shown at a place of the user's as directories, for people and their tools: by either driver.

    native     the service's mount, bound to the place; needs the right to mount
    libfuse    a mount of its own, made by fusermount for an ordinary user, with a process of its own (ownmount.py)
    auto       native where it can be had, else libfuse

What is shown is taken away in the same manner, whichever it was.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Literal, TypeAlias

from fusefs import mounting
from fusefs.client import Service
from fusefs.rundir import RunDirectory
from runtime import mounts, ownmount
from vcs.errors import AlreadyExists, BadInput, Conflict, Denied, NotFound, StoreError

Driver: TypeAlias = Literal["auto", "native", "libfuse"]

_DRIVERS_FAULT = (Denied, StoreError)
"""Not their subclasses: a store that is none, or of another format, is so for every driver."""
_UNMOUNTERS = ("fusermount3", "fusermount")
_UNMOUNT_SECONDS = 30


def show(store: Path, target: Path, driver: Driver = "auto") -> Path:
    """Mount a store's commits at a directory, which is made if it is missing; returns its real path.

    What serves them stays for as long as the mount does. AlreadyExists if the directory shows something of ours,
    BadInput if it is none, or is not empty and the driver is libfuse; Denied where the driver cannot mount.
    """
    target = _directory(target)
    if _ours(target):
        raise AlreadyExists(f"{target} shows a store's commits already", mountpoint=str(target))
    RunDirectory(store)  # what is wrong with the store is no driver's fault
    if driver == "libfuse":
        _own(store, target)
    elif driver == "native":
        _bind(store, target)
    else:
        _whichever(store, target)
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
    if not gone:
        raise Conflict(f"{target} is in use", mountpoint=str(target))
    return target


def _whichever(store: Path, target: Path) -> None:
    try:
        _bind(store, target)
    except StoreError as native:
        if type(native) not in _DRIVERS_FAULT:
            raise
        try:
            _own(store, target)
        except StoreError as libfuse:
            if type(libfuse) not in _DRIVERS_FAULT:
                raise
            raise Denied(
                f"neither driver can mount {target}. Native: {native}. Libfuse: {libfuse}",
                driver="auto",
                native=str(native),
                libfuse=str(libfuse),
            ) from None


def _bind(store: Path, target: Path) -> None:
    try:
        lease = Service.ensure(store)
    except Denied as error:
        raise Denied(str(error), **{**error.facts, "driver": "native"}) from error
    with lease:
        try:
            mounts.mount(os.fsencode(lease.mountpoint), os.fsencode(target), None, mounts.MS_BIND)
        except OSError as error:
            kind = Denied if isinstance(error, PermissionError) else StoreError
            raise kind(f"{target} cannot be mounted: {error.strerror}", driver="native") from error


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
