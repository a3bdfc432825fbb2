"""A lower whose files have other ids: what a container with ids of its own (`--userns auto`) stands on.

An idmapped mount (mount_setattr(2), Linux 5.12; of FUSE, 6.12) shows the files of the service's mount as if each owner
were `first` higher, and costs nothing. The overlay on top is not idmapped, so its upper holds the higher ids, and
runtime.upper takes them off again.

An engine sets a container up as root of the new user namespace, who cannot enter the store's directories (0700). So all
that it needs is shown to it in a small file system that everybody may enter: the stage, which exists in the container's
own mount namespace only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from runtime.bundle.spec import Source
from runtime.idranges import SIZE
from runtime.system import mounts
from vcs.errors import EngineError

STAGE = Path("/run/treering-stage")
"""A directory of the machine's with nothing but an empty `rootfs` in it. Each container's stage is mounted over it,
where only that container sees it."""
_FORBIDDEN = (errno.EPERM, errno.ENOSPC, errno.EUSERS)
"""What unshare(2) says where user namespaces, or more of them, are not allowed."""


def make_stage() -> None:
    """Mount the stage, in the caller's mount namespace, which must be its own. EngineError."""
    try:
        # Not only the stage: runc's exec begins, in the machine's mount namespace, by going to the root's path.
        (STAGE / "rootfs").mkdir(mode=0o755, parents=True, exist_ok=True)
        mounts.mount(
            b"treering", os.fsencode(STAGE), b"tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, b"mode=0711,size=1m"
        )
    except OSError as error:
        raise EngineError(f"cannot mount at {STAGE}: {error.strerror}", path=str(STAGE)) from error
    for name in ("lower", "rootfs", "etc", "sources", "sys"):
        (STAGE / name).mkdir(mode=0o755)


def remove_stage() -> None:
    """Unmount the stage with all that is on it."""
    with suppress(OSError):
        mounts.umount(os.fsencode(STAGE), mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW)


def map_lower(lower: Path, first: int) -> Path:
    """Show `lower` on the stage with all ids `first` higher. EngineError if this kernel cannot."""
    target = STAGE / "lower"
    namespace = _user_namespace(first)
    try:
        clone = mounts.clone(os.fsencode(lower))
        try:
            mounts.set_idmap(clone, namespace)
            mounts.attach(clone, os.fsencode(target))
        finally:
            os.close(clone)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise EngineError(f"cannot mount at {target}: {error.strerror}", path=str(target)) from error
        raise EngineError(
            "this kernel cannot give the container's files ids of its own",
            advice="--userns auto needs Linux 6.12; with an older service, `treering service restart` may be enough",
            errno=errno.errorcode[error.errno],
        ) from error
    finally:
        os.close(namespace)
    return target


def show_etc(etc: Path) -> Path:
    """Show the directory of the container's files in /etc. They stay where they are, where others on its network find
    them. EngineError."""
    target = STAGE / "etc"
    etc.chmod(0o755)  # what it lies in is closed
    try:
        clone = mounts.clone(os.fsencode(etc))
        try:
            mounts.attach(clone, os.fsencode(target))
        finally:
            os.close(clone)
    except OSError as error:
        raise EngineError(f"cannot mount {etc}: {error.strerror}", path=str(etc)) from error
    return target


def show(sources: Mapping[str, Source]) -> dict[str, Source]:
    """The same sources of bind mounts, at places on the stage."""
    found = {}
    for number, (target, source) in enumerate(sources.items()):
        place = STAGE / "sources" / str(number)
        if source.is_dir:
            place.mkdir()
        else:
            place.touch()
        try:
            clone = mounts.clone(os.fsencode(source.path), recursive=True)
        except OSError as error:
            raise EngineError(f"cannot mount {source.path}: {error.strerror}", path=source.path) from error
        try:
            mounts.attach(clone, os.fsencode(place))
        finally:
            os.close(clone)
        found[target] = Source(str(place), source.is_dir)
    return found


def show_network(namespace: str, target: str, sysctls: Mapping[str, str]) -> None:
    """Mount at `target` a sysfs that shows a network namespace, and set its sysctls: what root of the container's user
    namespace may not, as the network is not its own. EngineError."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mounts.setns(there, mounts.CLONE_NEWNET)
            try:
                _set_up_network(target, sysctls)
            finally:
                mounts.setns(here, mounts.CLONE_NEWNET)
        finally:
            os.close(there)
    except OSError as error:
        raise EngineError(f"cannot set up the network {namespace}: {error.strerror}", path=namespace) from error
    finally:
        os.close(here)


def _set_up_network(target: str, sysctls: Mapping[str, str]) -> None:
    with mounts.FsContext(b"sysfs") as context:
        sysfs = context.mount()
    try:
        mounts.attach(sysfs, os.fsencode(target))
    finally:
        os.close(sysfs)
    for name, value in sysctls.items():
        Path("/proc/sys", *name.split(".")).write_text(f"{value}\n")


def _user_namespace(first: int) -> int:
    """A descriptor of a user namespace whose ids from 0 on are those from `first` on here. It ends with it."""
    ready, tell = os.pipe()
    end, hold = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(hold)  # so that it ends with its parent, whatever ends that
            mounts.unshare(mounts.CLONE_NEWUSER)
            os.write(tell, b"0")
            os.read(end, 1)
        except OSError as error:
            os.write(tell, b"%d" % (error.errno or errno.EIO))
        finally:
            os._exit(0)
    os.close(tell)
    os.close(end)
    try:
        if (said := os.read(ready, 16)) != b"0":
            raise _refusal(said)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"0 {first} {SIZE}\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(hold)
        os.waitpid(child, 0)


def _refusal(said: bytes) -> EngineError:
    """Why there is no user namespace: the number of the error, or nothing if the process was killed."""
    number = int(said or b"0")
    if number in _FORBIDDEN:
        return EngineError(
            "this machine forbids user namespaces, which --userns auto needs",
            advice="the sysctl user.max_user_namespaces must not be 0",
        )
    why = os.strerror(number) if number else "the process that was to make it was killed"
    return EngineError(f"cannot make a user namespace, which --userns auto needs: {why}")
