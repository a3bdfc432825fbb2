"""One readable line for each message, for people. Written by the logger `fusefs.trace` at level DEBUG."""

from __future__ import annotations

import errno
from typing import TypeAlias

from fusefs.wire import requests
from fusefs.wire.protocol import UNIQUE_RESEND, Opcode
from fusefs.wire.requests import Malformed

Reply: TypeAlias = "bytes | memoryview | list[bytes | memoryview] | int | None"
"""What a request gets: a body, one in parts, an errno, or no reply."""


def name_of(opcode: int) -> str:
    """An operation's name in linux/fuse.h."""
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"operation {opcode}"


def trace_line(opcode: int, unique: int, nodeid: int, message: memoryview, result: Reply) -> str:
    """One message and its answer, for people."""
    body = bytes(message[requests.HEADER_SIZE :])
    if result is None:
        outcome = "no reply"
    elif type(result) is int:
        outcome = errno.errorcode.get(result, str(result))
    elif type(result) is list:
        outcome = f"{sum(map(len, result))} bytes"
    else:
        outcome = f"{len(result)} bytes"  # type: ignore[arg-type]
    again = " again" if unique & UNIQUE_RESEND else ""
    unique &= ~UNIQUE_RESEND
    return f"{unique}{again} {name_of(opcode)} node {nodeid}{_details(opcode, body)}: {outcome}"


def _details(opcode: int, body: bytes) -> str:
    try:
        match opcode:
            case Opcode.LOOKUP:
                return f" {requests.name(body)!r}"
            case Opcode.GETXATTR:
                return f" {requests.getxattr(body)[1]!r}"
            case Opcode.READ | Opcode.READDIR | Opcode.READDIRPLUS:
                offset, size = requests.read(body)
                return f" {size} bytes at {offset}"
            case Opcode.BATCH_FORGET:
                return f" {len(requests.batch_forget(body))} nodes"
            case Opcode.INTERRUPT:
                return f" of {requests.interrupt(body)}"
    except Malformed:
        return f" malformed, {len(body)} bytes"
    return ""
