"""Loop devices (loop(4)), and the file systems on them."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import select
import shutil
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.system import mounts

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_INFO_BYTES, _FLAGS_AT, _RESERVED = 232, 52, 64
_AUTOCLEAR = 4
_MS_NOATIME = 1024
_SECONDS = 10.0
_BOOT_ID = b"/proc/sys/kernel/random/boot_id"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One that is tried: how it is made, and with which options it is mounted.

    None of them may commit on its own while a command is recorded: what a command has not synced is to stay in memory.
    None discards what was on the disk before, so that a log has nothing but writes and flushes.
    """

    name: str
    size: int
    make: tuple[str, ...]
    options: str = ""


FILE_SYSTEMS = {
    one.name: one
    for one in (
        FileSystem("ext4", 96 * MIB, ("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard"), "commit=600"),
        FileSystem("xfs", 300 * MIB, ("mkfs.xfs", "-q", "-f", "-K")),
        FileSystem("btrfs", 256 * MIB, ("mkfs.btrfs", "-q", "-f", "-K"), "commit=600"),
    )
}


def missing(name: str) -> str:
    """What this machine lacks of a program, or for a file system; nothing, if it has all."""
    file_system = FILE_SYSTEMS.get(name)
    program = file_system.make[0] if file_system else name
    if shutil.which(program) is None:
        return program
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    if file_system and name not in known and not _is_loaded(name):
        return f"{name} in the kernel"
    return "" if Path("/dev/loop-control").exists() else "loop devices"


def _is_loaded(module: str) -> bool:
    return (
        shutil.which("modprobe") is not None and not subprocess.run(["modprobe", "-q", module], check=False).returncode
    )


def make(file_system: FileSystem, device: Path) -> None:
    """Make the file system on a device that is larger than it."""
    size = file_system.size
    if file_system.name == "xfs":
        sized = ["-d", f"size={size}", str(device)]
    elif file_system.name == "btrfs":
        sized = ["-b", str(size), str(device)]
    else:
        sized = [str(device), f"{size >> 10}k"]
    subprocess.run([*file_system.make, *sized], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def looped(image: Path) -> Iterator[Path]:
    """A loop device on a file, until all is closed and unmounted. Its requests reach the file one after another, which
    those of one with direct I/O do not: see recorder."""
    device, fd = _attached(image)
    try:
        yield device
    finally:
        os.close(fd)


def _attached(image: Path) -> tuple[Path, int]:
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            device = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}")
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            info = bytearray(_INFO_BYTES)
            struct.pack_into("=I", info, _FLAGS_AT, _AUTOCLEAR)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, struct.pack("=II", file, 0) + bytes(info) + bytes(_RESERVED))
            except OSError as error:
                os.close(fd)
                if error.errno == errno.EBUSY:  # somebody else has just taken it
                    continue
                raise
            return device, fd
    finally:
        os.close(control)
        os.close(file)


@contextmanager
def mounted(device: Path, file_system: FileSystem, point: Path) -> Iterator[None]:
    """The file system of a device, at a directory. OSError if it cannot be mounted."""
    options = file_system.options.encode() or None
    mounts.mount(os.fsencode(device), os.fsencode(point), file_system.name.encode(), _MS_NOATIME, options)
    try:
        yield
    finally:
        _unmount(point)


def _unmount(point: Path) -> None:
    """Unmount, once processes that are ending have left. OSError, with who does not."""
    device, deadline = point.stat().st_dev, time.monotonic() + _SECONDS
    while True:
        try:
            return mounts.umount(os.fsencode(point))
        except OSError as error:
            inside = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_inside(pid, device)]
            is_late = time.monotonic() > deadline
            if error.errno != errno.EBUSY or is_late or not all(_has_ended(pid) for pid in inside):
                mounts.umount(os.fsencode(point), mounts.MNT_DETACH)
                raise OSError(error.errno, f"{error.strerror}: {inside}") from error


def _is_inside(pid: int, device: int) -> bool:
    """Whether a process has a file open or a directory on a device."""
    for link in (f"/proc/{pid}/cwd", f"/proc/{pid}/root", *glob.glob(f"/proc/{pid}/fd/*")):
        with suppress(OSError):
            if os.stat(link).st_dev == device:
                return True
    return False


def _has_ended(pid: int) -> bool:
    """Wait for the end of a process, though not for long."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], _SECONDS)[0])
    finally:
        os.close(fd)


@contextmanager
def in_memory(point: Path) -> Iterator[None]:
    """A file system in memory, for images: what is written there is flushed nowhere."""
    point.mkdir(parents=True, exist_ok=True)
    mounts.mount(b"power", os.fsencode(point), b"tmpfs", 0, b"size=4g,mode=0700")
    try:
        yield
    finally:
        mounts.umount(os.fsencode(point), mounts.MNT_DETACH)


@contextmanager
def booted_again(file: Path) -> Iterator[None]:
    """The machine as one that was started anew: for whoever asks, in this mount namespace."""
    file.write_text(f"{uuid.uuid4()}\n")
    mounts.mount(os.fsencode(file), _BOOT_ID, None, mounts.MS_BIND)
    try:
        yield
    finally:
        mounts.umount(_BOOT_ID)
