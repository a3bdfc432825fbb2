"""The service's mount shown at a place of the user's: all commits as directories, for people and their tools."""

from __future__ import annotations

import os
from pathlib import Path

from fusefs import mounting
from fusefs.client import Service
from runtime import mounts
from runtime.source import OPENER
from vcs.errors import AlreadyExists, BadInput, Conflict, Denied, NotFound, StoreError


def show(store: Path, target: Path) -> Path:
    """Bind the store's mount to a directory, which is made if it is missing; returns its real path.

    The service stays for as long as the mount does. AlreadyExists if it shows something of ours, BadInput if it is
    no directory, Denied without the right to mount.
    """
    target = _directory(target)
    if _ours(target):
        raise AlreadyExists(f"{target} shows a store's commits already", mountpoint=str(target))
    with Service.ensure(store, opener=OPENER) as lease:
        try:
            mounts.mount(os.fsencode(lease.mountpoint), os.fsencode(target), None, mounts.MS_BIND)
        except OSError as error:
            kind = Denied if isinstance(error, PermissionError) else StoreError
            raise kind(f"{target} cannot be mounted: {error.strerror}", path=str(target)) from error
    return target


def hide(target: Path) -> Path:
    """Take such a mount away. NotFound if there is none; Conflict if somebody is inside."""
    target = target.resolve()
    if not _ours(target):
        raise NotFound(f"{target} is not where treering mounted something", mountpoint=str(target))
    if target.name == "mnt" and (target.parent / "service.sock").exists():
        raise Conflict(f"{target} is the service's own mount", service=str(target))
    if not mounting.unmount(target):
        raise Conflict(f"{target} is in use", mountpoint=str(target))
    return target


def is_shown(target: Path) -> bool:
    """Whether something of ours is mounted at a directory, as this process sees it."""
    return _ours(target.resolve())


def _ours(point: Path) -> bool:
    mounted = mounting.mount_at(point)
    return mounted is not None and mounted.filesystem == mounting.FILESYSTEM


def _directory(target: Path) -> Path:
    try:
        target.mkdir(exist_ok=True)
        return target.resolve(strict=True)
    except FileExistsError:
        raise BadInput(f"{target} is not a directory", path=str(target)) from None
    except FileNotFoundError:
        raise NotFound(f"{target.parent} does not exist", directory=str(target.parent)) from None
    except PermissionError as error:
        raise Denied(f"{target} cannot be made: {error.strerror}", path=str(target)) from error
