"""A command in a process that the kernel stops at chosen system calls, counted over all its threads and children.

Stops are asked for with a seccomp filter, so that other calls cost nothing. Whatever is left of the command when its
first process ends, or when time is up, is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.calls import CHANGING, NAMES, NUMBERS, SIZES

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long
_TRACEME, _POKEUSER, _CONT, _GETREGS, _SETOPTIONS = 0, 6, 7, 12, 0x4200
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000  # fork, vfork, clone, exec, seccomp, and kill all if we die
_EVENT_SECCOMP = 7
_ORIG_RAX, _RAX = 15, 10
_ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi rsi rdx r10 r8 r9, in struct user_regs_struct
_WALL = 0x40000000
_PATH_FIRST = frozenset(
    {"open", "creat", "truncate", "rename", "mkdir", "rmdir", "link", "unlink", "symlink", "chmod", "chown", "lchown",
     "mknod", "mount", "umount2", "setxattr", "lsetxattr"}
)  # fmt: skip
_PATH_SECOND = frozenset(
    {"openat", "openat2", "mkdirat", "mknodat", "fchownat", "unlinkat", "renameat", "renameat2", "linkat", "fchmodat",
     "utimensat"}
)  # fmt: skip
SECONDS = 60
KILL = 0
SHORT = -1
"""What a strike does in place of an error: an end, and a call that writes half of what it was asked to, and says so."""


@dataclass(frozen=True, slots=True)
class Strike:
    """At the call `number` (from 0) of `calls`: kill the command, have the call write less, or fail with the error
    `errno`; with `on`, all later ones too."""

    number: int
    errno: int = KILL
    calls: frozenset[str] = CHANGING
    on: bool = False


NEVER = Strike(1 << 30)


@dataclass(slots=True)
class Traced:
    """What became of a command. `code` is negative if a signal ended it; `at` tells the call that was struck."""

    code: int = -1
    calls: int = 0
    at: str = ""
    is_late: bool = False
    out: str = ""
    err: str = ""
    seen: list[str] = field(default_factory=list)


def untraced(work: Callable[[], int], directory: Path) -> Traced:
    """Run something in a process of its own."""
    child = _forked(work, directory, lambda: None)
    deadline = time.monotonic() + SECONDS + 5
    result = Traced()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            result.code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            result.is_late = True
        time.sleep(0.001)
    return _told(result, directory)


def traced(work: Callable[[], int], directory: Path, strike: Strike = NEVER, *, see: bool = False) -> Traced:
    """Run something in such a process. `see`: note every call that counts."""
    child = _forked(work, directory, lambda: _be_traced(strike.calls))
    result = Traced()
    alive = {child}

    def late(*_: object) -> None:
        result.is_late = True
        _kill(alive)

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)
    try:
        _follow(child, alive, strike, result, see)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _kill(alive)
    return _told(result, directory)


def _forked(work: Callable[[], int], directory: Path, first: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for number, name in ((1, "out"), (2, "err")):
            file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(file, number)
        os.closerange(3, 256)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        first()
        code = work()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _told(result: Traced, directory: Path) -> Traced:
    result.out, result.err = ((directory / name).read_text(errors="replace") for name in ("out", "err"))
    return result


def _be_traced(calls: frozenset[str]) -> None:
    _ptrace(_TRACEME, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    numbers = sorted(NUMBERS[name] for name in calls)
    program = [(0x20, 0, 0, 0)]  # the call's number
    program += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    program += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x7FF00000)]  # allow; trace
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    if _libc.prctl(22, 2, header, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _follow(child: int, alive: set[int], strike: Strike, result: Traced, see: bool) -> None:
    first = True
    while True:
        try:
            pid, status = os.waitpid(-1, _WALL)
        except ChildProcessError:
            return
        if not os.WIFSTOPPED(status):
            alive.discard(pid)
            if pid == child:
                result.code = os.waitstatus_to_exitcode(status)
                _kill(alive)
            continue
        alive.add(pid)
        stop, passed = os.WSTOPSIG(status), 0
        if first:
            _ptrace(_SETOPTIONS, pid, _OPTIONS)
            first = False
        elif status >> 16 == _EVENT_SECCOMP:
            if _strikes(pid, strike, result, see) and strike.errno == KILL:
                _kill(alive)
                continue
        elif status >> 16 == 0 and stop not in (signal.SIGSTOP, signal.SIGTRAP):
            passed = stop
        with suppress(ProcessLookupError):
            _ptrace(_CONT, pid, passed)


def _strikes(pid: int, strike: Strike, result: Traced, see: bool) -> bool:
    registers = (ctypes.c_ulonglong * 27)()
    try:
        _ptrace(_GETREGS, pid, ctypes.addressof(registers))
    except ProcessLookupError:
        return False
    name = NAMES[registers[_ORIG_RAX]]
    arguments = [registers[place] for place in _ARGUMENTS]
    if not _counts(pid, name, arguments, strike):
        return False
    number, result.calls = result.calls, result.calls + 1
    if see:
        result.seen.append(_line(pid, name, arguments))
    if number < strike.number or (number > strike.number and not strike.on):
        return False
    if number == strike.number:
        result.at = _line(pid, name, arguments)
    if strike.errno == SHORT:
        _ptrace(_POKEUSER, pid, _ARGUMENTS[SIZES[name]] * 8, arguments[SIZES[name]] // 2)
    elif strike.errno != KILL:
        _ptrace(_POKEUSER, pid, _ORIG_RAX * 8, (1 << 64) - 1)
        _ptrace(_POKEUSER, pid, _RAX * 8, _break_of(pid) if name == "brk" else (1 << 64) - strike.errno)
    return True


def _break_of(pid: int) -> int:
    """Where the break is, which brk(2) says where it cannot move it."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[heap]"):
            return int(line.split()[0].split("-")[1], 16)
    return 0


def _counts(pid: int, name: str, arguments: list[int], strike: Strike) -> bool:
    if strike.errno == SHORT and not (arguments[SIZES[name]] > 1 and _is_file(pid, arguments[0])):
        return False  # what goes to a device or through a pipe goes as a whole
    if name in ("write", "writev") and strike.errno != KILL:
        # What is said to people is no part of the store, and an answer that the kernel does not get is waited for.
        return arguments[0] not in (1, 2) and _target(pid, arguments[0]) != "/dev/fuse"
    if name in ("open", "openat") and "socket" not in strike.calls:
        flags = arguments[1 if name == "open" else 2]
        return bool(flags & (os.O_CREAT | os.O_TRUNC)) or "flock" in strike.calls
    return True


def _is_file(pid: int, fd: int) -> bool:
    name = _target(pid, fd)
    return name.startswith("/") and not name.startswith(("/dev/", "/proc/", "/sys/"))


def _target(pid: int, fd: int) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    return ""


def _line(pid: int, name: str, arguments: list[int]) -> str:
    if name in _PATH_FIRST:
        what = repr(_text(pid, arguments[0]))
        what += f", {_text(pid, arguments[1])!r}" if name in ("rename", "link", "symlink") else ""
    elif name in _PATH_SECOND:
        what = repr(_text(pid, arguments[1]))
        what += f", {_text(pid, arguments[3])!r}" if name.startswith(("rename", "link")) else ""
    else:
        what = f"{arguments[0]}<{_target(pid, arguments[0])}>"
    return f"{name}({what})"


def _text(pid: int, address: int) -> str:
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(min(256, 4096 - address % 4096)).split(b"\0")[0].decode(errors="replace")
    except (OSError, ValueError, OverflowError):
        return "?"


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _ptrace(request: int, pid: int, *rest: int) -> None:
    address, data = rest if len(rest) == 2 else (0, rest[0])
    if _libc.ptrace(request, pid, ctypes.c_void_p(address), ctypes.c_void_p(data)) == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace: {os.strerror(error)}")
