"""A command in a process that the kernel stops at chosen system calls, counted over all its threads and children.

    we ──fork── tracer ──fork── command ── supervisor, monitor, service, engine
                                               └── what runs in a container

Stops are asked for with a seccomp filter, so that other calls cost nothing. Who has such a filter and no tracer gets
ENOSYS for those calls, so a tracer stays for as long as anything of the command does, and when it is killed all of that
is killed with it (PTRACE_O_EXITKILL). That is why it is a process of its own.

The filter is inherited by the engine and by what that runs in a container, whose own filter is asked too; the stricter
answer counts (seccomp(2)). The engine is followed to the last: it is still the engine in the container's namespaces,
until it executes the container's command. What is inside then goes on undisturbed: it is neither counted nor struck.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import re
import signal
import struct
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from tests.support.ending import fork
from tests.torture.calls import CHANGING, LOOKS, NAMES, NUMBERS, READS, SIZES
from tests.torture.processes import SECONDS, Traced, forked, told

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long
_TRACEME, _POKEUSER, _CONT, _GETREGS, _SETOPTIONS = 0, 6, 7, 12, 0x4200
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000  # fork, vfork, clone, exec, seccomp, and kill all if we die
_EVENT_SECCOMP = 7
_QUIET = 0.3
"""Seconds without a call of what a command has left behind, after which it is taken to have nothing more to do."""
_LONGEST = 2.0
"""Seconds after which it is in any case: a service looks at files every now and then."""
_ORIG_RAX, _RAX = 15, 10
_ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi rsi rdx r10 r8 r9, in struct user_regs_struct
_WALL = 0x40000000
_PATH_MAX = 4096
_FAULTS = (signal.SIGSEGV, signal.SIGBUS)
"""What a process gets that cannot read its own pages."""
_ENGINE = re.compile("crun|runc")
_CONTAINER = re.compile(r"/containers/([0-9a-f]{64})")
_SERVING = ("/dev/fuse", "/dev/cpu_dma_latency")
"""What a service writes to for as long as a container runs: not counted once the command has ended."""
_PATH_FIRST = frozenset(
    {"open", "creat", "truncate", "rename", "mkdir", "rmdir", "link", "unlink", "symlink", "chmod", "chown", "lchown",
     "mknod", "mount", "umount2", "setxattr", "lsetxattr", "stat", "lstat", "access", "readlink", "getxattr",
     "lgetxattr", "listxattr", "llistxattr"}
)  # fmt: skip
_PATH_SECOND = frozenset(
    {"openat", "openat2", "mkdirat", "mknodat", "fchownat", "unlinkat", "renameat", "renameat2", "linkat", "fchmodat",
     "utimensat", "newfstatat", "readlinkat", "faccessat", "faccessat2", "statx"}
)  # fmt: skip
KILL = 0
SHORT = -1
"""What a strike does in place of an error: an end, and a call that writes half of what it was asked to, and says so."""


@dataclass(frozen=True, slots=True)
class Strike:
    """At the call `number` (from 0) of `calls`: kill the command, have the call write less, or fail with the error
    `errno`; with `on`, all later ones too. A kill takes all that the command has started, or, `alone`, the process
    whose call it is. With `scarce` it is no call: it is how much there is of that (tests.torture.pressure)."""

    number: int
    errno: int = KILL
    calls: frozenset[str] = CHANGING
    on: bool = False
    alone: bool = False
    scarce: Literal["", "memory", "descriptors"] = ""


NEVER = Strike(1 << 30)


def traced(
    work: Callable[[], int], directory: Path, strike: Strike = NEVER, *, see: bool = False, stays: bool = False
) -> Traced:
    """Run something in such a process. `see`: note every call that counts.

    Whatever is left of it when its first process ends is killed; if it `stays`, that goes on, and is struck too, and we
    return when it has nothing more to do.
    """
    reader, writer = os.pipe()
    tracer = fork()
    if not tracer:
        _trace(work, directory, _Tracer(strike, see, stays), writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    if not stays:
        os.waitpid(tracer, 0)
    assert answer, "the tracer has died"
    result: Traced = pickle.loads(answer)
    result.tracer = tracer
    return told(result, directory)


def _trace(work: Callable[[], int], directory: Path, tracer: _Tracer, writer: int) -> NoReturn:
    """The whole life of a tracer."""

    def tell(result: Traced) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(result, pipe)

    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        child = forked(work, directory, lambda: _be_traced(tracer.strike.calls))
        signal.signal(signal.SIGALRM, lambda *_: tracer.be_late())
        signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)
        tracer.follow(child, tell)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


class _Tracer:
    """Follows a command, and all that it starts."""

    def __init__(self, strike: Strike, see: bool, stays: bool) -> None:
        self.strike = strike
        self._see = see
        self._stays = stays
        self._result = Traced()
        self._child = 0
        self._alive: set[int] = set()
        self._ours: set[int] = set()
        """Those of them that are known to be in our own pid namespace."""
        self._is_followed = False
        self._is_over = False
        """Whether all that is not inside a container is to be dead."""
        self._has_ended = False
        self._last = 0.0
        """When the command ended, or a call was counted after that which was not made again and again."""
        self._afterwards: set[str] = set()
        """The calls that were counted since it ended."""
        self._ended_at = 0.0
        self._is_told = False
        """Whether what becomes of it was told; from then on nothing is struck."""

    def be_late(self) -> None:
        """Give it up."""
        self._result.is_late = True
        _kill(self._alive)

    def follow(self, child: int, tell: Callable[[Traced], None]) -> None:
        """Until nothing is left. `tell` is called once, when the command has ended and has nothing more to do."""
        self._child = child
        self._alive.add(child)
        while True:
            is_left = self._has_ended and self._stays and not self._is_told
            try:
                pid, status = os.waitpid(-1, _WALL | (os.WNOHANG if is_left else 0))
            except ChildProcessError:
                break
            if not pid:
                now = time.monotonic()
                if now - self._last > _QUIET or now - self._ended_at > _LONGEST:
                    tell(self._result)
                    self._is_told = True
                time.sleep(0.002)
            elif os.WIFSTOPPED(status):
                self._stopped(pid, status)
            else:
                self._gone(pid, status)
        if not self._is_told:
            tell(self._result)

    def _gone(self, pid: int, status: int) -> None:
        self._alive.discard(pid)
        self._ours.discard(pid)
        if pid == self._child:
            self._result.code = os.waitstatus_to_exitcode(status)
            self._has_ended = True
            self._last = self._ended_at = time.monotonic()
            if not self._stays:
                self._is_over = True
                _kill(self._alive)

    def _stopped(self, pid: int, status: int) -> None:
        self._alive.add(pid)
        stop, passed = os.WSTOPSIG(status), 0
        if pid == self._child and not self._is_followed:
            _ptrace(_SETOPTIONS, pid, _OPTIONS)
            self._is_followed = True
        elif self._is_over and not (self._stays and self._is_inside(pid)):
            _kill({pid})  # it was just being started when the others were killed
            return
        elif status >> 16 == _EVENT_SECCOMP:
            if self._matters() and not self._is_inside(pid) and self._strikes(pid) and self.strike.errno == KILL:
                self._kill(pid)
                return
        elif status >> 16 == 0 and stop not in (signal.SIGSTOP, signal.SIGTRAP):
            passed = stop
            if stop in _FAULTS and self._is_inside(pid):
                _kill({pid})  # its service is dead; a first process that is traced would get the same signal for ever
                return
        with suppress(ProcessLookupError):
            _ptrace(_CONT, pid, passed)

    def _matters(self) -> bool:
        """Whether a call may be struck, or tells that there is more to do."""
        is_struck = self._result.calls > self.strike.number and not self.strike.on
        return not self._is_told and (self._has_ended or not is_struck)

    def _is_inside(self, pid: int) -> bool:
        """Whether a process is a container's own: in another pid namespace, and not the engine any more. One in our own
        stays there, and is not asked again."""
        if pid in self._ours:
            return False
        if _is_ours(pid):
            self._ours.add(pid)
            return False
        return _is_no_engine(pid)

    def _kill(self, pid: int) -> None:
        """Kill who makes a call, or everybody."""
        if self.strike.alone:
            _kill({pid})
        else:
            self._is_over = True
            _kill({one for one in self._alive if not (self._stays and self._is_inside(one))})

    def _strikes(self, pid: int) -> bool:
        strike, result = self.strike, self._result
        registers = (ctypes.c_ulonglong * 27)()
        try:
            _ptrace(_GETREGS, pid, ctypes.addressof(registers))
        except ProcessLookupError:
            return False
        name = NAMES[registers[_ORIG_RAX]]
        arguments = [registers[place] for place in _ARGUMENTS]
        if not _counts(pid, name, arguments, strike) or (self._has_ended and _target(pid, arguments[0]) in _SERVING):
            return False
        if self._stays and (match := _CONTAINER.search(_path(pid, name, arguments))):
            result.containers.add(match[1])
        number, result.calls = result.calls, result.calls + 1
        if self._has_ended and not self._is_repeated(_line(pid, name, arguments)):
            self._last = time.monotonic()
        if self._see:
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

    def _is_repeated(self, line: str) -> bool:
        """Whether what a command has left behind makes a call that it has made before: a service looks at the same file
        every fifth of a second."""
        before = len(self._afterwards)
        self._afterwards.add(line)
        return len(self._afterwards) == before


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


def _is_no_engine(pid: int) -> bool:
    """Whether a process that is in another pid namespace than ours is not the engine any more; not if it is gone."""
    with suppress(OSError):
        return not _ENGINE.search(os.readlink(f"/proc/{pid}/exe"))
    return False


def _is_ours(pid: int) -> bool:
    """Whether a process is in our own pid namespace."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    return False


def _break_of(pid: int) -> int:
    """Where the break is, which brk(2) says where it cannot move it."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[heap]"):
            return int(line.split()[0].split("-")[1], 16)
    return 0


def _counts(pid: int, name: str, arguments: list[int], strike: Strike) -> bool:
    if strike.errno == SHORT and not (arguments[SIZES[name]] > 1 and _is_file(pid, arguments[0])):
        return False  # what goes to a device or through a pipe goes as a whole
    if strike.calls == LOOKS:
        return "/python" not in _path(pid, name, arguments)  # whose modules are imported when they are wanted
    if strike.calls == READS:
        target = _target(pid, arguments[0])  # pipes and sockets are on no disk
        return _is_file(pid, arguments[0]) and "/python" not in target
    if name in ("write", "writev") and strike.errno != KILL:
        # What is said to people is no part of the store, and an answer that the kernel does not get is waited for. A
        # socket or a pipe is on no disk.
        target = _target(pid, arguments[0])
        is_disk_wanted = strike.errno in (errno.ENOSPC, errno.EIO)
        return arguments[0] not in (1, 2) and target != "/dev/fuse" and (target.startswith("/") or not is_disk_wanted)
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


def _path(pid: int, name: str, arguments: list[int]) -> str:
    """The path that a call is about, empty if it has a descriptor."""
    if name in _PATH_FIRST:
        return text_at(pid, arguments[0])
    return text_at(pid, arguments[1]) if name in _PATH_SECOND else ""


def _line(pid: int, name: str, arguments: list[int]) -> str:
    if name in _PATH_FIRST or name in _PATH_SECOND:
        what = repr(_path(pid, name, arguments) or _target(pid, arguments[0]))
        if name.startswith(("rename", "link", "symlink")):
            what += f", {text_at(pid, arguments[1 if name in _PATH_FIRST else 3])!r}"
    else:
        what = f"{arguments[0]}<{_target(pid, arguments[0])}>"
    return f"{name}({what}) by {_program(pid)}"


def _program(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "?"


def text_at(pid: int, address: int) -> str:
    """A path in a process's memory. The kernel reads as far as there are pages (proc(5))."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(_PATH_MAX).split(b"\0")[0].decode(errors="replace")
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
