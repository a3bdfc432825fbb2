"""Network namespaces and links, by system calls and rtnetlink(7): what Python 3.11 and no dependency of ours has."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from typing import NoReturn

from runtime.system import mounts

CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFINDEX, _IFF_UP = 0x8913, 0x8914, 0x8933, 1
_NAME_MAX = 15
_RTM_DELLINK = 17
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4


def make() -> int:
    """Make a network namespace whose loopback is up; returns a descriptor that keeps it. OSError.

    A child makes it, whose namespace is then opened: in a user namespace nobody comes back to the machine's network
    once he has left it.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    stay, leave = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        os.close(leave)
        _live_in_new_one(tell, stay)
    os.close(tell)
    os.close(stay)
    try:
        number = int(os.read(told, 16) or errno.ECHILD)
        if number:
            raise OSError(number, f"a network namespace cannot be had: {os.strerror(number)}")
        return os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(told)
        os.close(leave)
        os.waitpid(child, 0)


def _live_in_new_one(tell: int, stay: int) -> NoReturn:
    """In a child: have a network namespace until the other end of `stay` is closed."""
    try:
        number = 0
        try:
            mounts.unshare(CLONE_NEWNET)
            _bring_up(b"lo")
        except OSError as error:
            number = error.errno or errno.EIO
        os.write(tell, b"%d" % number)
        os.read(stay, 1)
    finally:
        os._exit(0)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the lock on this network namespace: on what is one for all stores, its addresses, bridges and rules.

    It is a flock on the namespace itself, so it needs no file, and is the same for everybody who shares what it guards.
    """
    fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def exists(link: str) -> bool:
    """Whether there is a network interface of this name. OSError if that cannot be told."""
    return _index(link) is not None


def delete(link: str) -> None:
    """Delete a network interface; nothing happens if there is none of this name. OSError."""
    index = _index(link)
    if index is None:
        return
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
    header = struct.pack("=IHHII", 16 + len(body), _RTM_DELLINK, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.send(header + body)
        answer = netlink.recv(4096)
    number = -struct.unpack_from("=i", answer, 16)[0]
    if number not in (0, errno.ENODEV):
        raise OSError(number, os.strerror(number), link)


def _index(link: str) -> int | None:
    """The number of an interface; None if there is none of this name. OSError if that cannot be told, which
    socket.if_nametoindex does not distinguish in Python 3.11."""
    name = link.encode()
    if len(name) > _NAME_MAX:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFINDEX, struct.pack("16si20x", name, 0))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
    return int(struct.unpack_from("16xi", answer)[0])


def _bring_up(link: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", link, 0)
        flags = struct.unpack_from("16xH", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", link, flags | _IFF_UP))
