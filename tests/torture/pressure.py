"""Too little memory, or too few descriptors, for real: a command in a process that may have only so much.

Where a single call fails (`enomem`, `emfile`), CPython and the allocator often have another way. Here there is none,
from some moment on, for anything. The limit on memory is one on addresses (RLIMIT_AS: setrlimit(2)); what the process
already has and does not use is taken away first.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from pathlib import Path

from tests.torture.processes import Traced, untraced

_STEP = 16 << 10
_EVEN = 64
"""So many steps are of one size; from there on each is by a fiftieth more."""
_STANDARD, _DESCRIPTORS = 3, 4096
_ENOUGH = 20
"""So many descriptors are enough for any command, beside the standard streams."""
_GIVEN_UP = re.compile(r"memory allocation of \d+ bytes failed")
"""What a library of Rust's says before it ends the process."""


Work = Callable[[Callable[[], object]], int]
"""A command. It calls what it is given when it begins."""


def pressed(work: Work, directory: Path, what: str, number: int) -> Traced:
    """Do it with as much of `what`, memory or descriptors, as `number` says, from 0."""
    hoard: list[bytearray] = []

    def press() -> None:
        if what == "descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (_STANDARD + number, _DESCRIPTORS))
            return
        size = address_space("VmSize")
        hoard.extend(all_that_is_free())
        limit(size + room_of(number))

    def pressed_work() -> int:
        code = work(press)
        limit(resource.RLIM_INFINITY)
        return code

    done = untraced(pressed_work, directory)
    done.at = _named(what, number)
    return done


def measured(work: Work, directory: Path, what: str) -> list[str]:
    """The names of all numbers up to the one that is enough: for memory, it is done without a limit."""
    if what == "descriptors":
        return [_named(what, number) for number in range(_ENOUGH)]
    answer = directory / "wanted"
    sizes: list[int] = []
    hoard: list[bytearray] = []

    def begin() -> None:
        sizes.append(address_space("VmSize"))
        hoard.extend(all_that_is_free())

    def watched() -> int:
        code = work(begin)
        answer.write_text(str(address_space("VmPeak") - sizes[0]))
        return code

    untraced(watched, directory)
    wanted = int(answer.read_text())
    names = [_named(what, 0)]
    while room_of(len(names) - 1) < wanted:
        names.append(_named(what, len(names)))
    return names


def has_given_up(done: Traced) -> bool:
    """Whether a library has ended the process, which is as if it were killed."""
    return done.code < 0 and _GIVEN_UP.search(done.err) is not None


def room_of(number: int) -> int:
    """Bytes."""
    if number < _EVEN:
        return number * _STEP
    return int(_EVEN * _STEP * 1.02 ** (number - _EVEN)) // 4096 * 4096


def _named(what: str, number: int) -> str:
    return f"{number} descriptors more" if what == "descriptors" else f"{room_of(number) >> 10} KiB more"


def all_that_is_free() -> list[bytearray]:
    """What this process has and does not use, so that it has to ask for all that it wants."""
    limit(0)
    hoard: list[bytearray] = []
    size = 1 << 20
    while size >= 1 << 10:
        try:
            hoard.append(bytearray(size))
        except MemoryError:
            size //= 2
    limit(resource.RLIM_INFINITY)
    return hoard


def limit(size: int) -> None:
    """Have this process ask for no more than that in all, in bytes; it may say otherwise later."""
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def address_space(name: str) -> int:
    """VmSize, or the most that it was (VmPeak), in bytes: proc_pid_status(5)."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) << 10
