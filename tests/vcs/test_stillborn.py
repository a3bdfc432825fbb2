"""A thread that cannot begin: who starts it is told, and waits no longer."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
from vcs.stillborn import stillborn_threads_are_heard

class Stillborn(threading.Thread):
    def _bootstrap(self):
        Loud()
        raise MemoryError  # as where there is no memory for its first frame

class Loud:
    def __del__(self):
        raise MemoryError

hook = sys.unraisablehook
with stillborn_threads_are_heard():
    Loud()
    thread = threading.Thread(target=print, args=("one that begins",))
    thread.start()
    thread.join()
    try:
        Stillborn().start()
    except MemoryError as error:
        print(error)
    thread = threading.Thread(target=print, args=("another",))
    thread.start()
    thread.join()
assert sys.unraisablehook is hook
"""


def test_who_starts_it_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "one that begins\na thread did not begin\nanother\n"
    assert done.stderr.count("Loud.__del__") == 2, "what else is ignored is told as ever"
    assert "_bootstrap of" not in done.stderr


WITHOUT_ANY = """
import os, resource, signal, threading
from vcs import stillborn

STACK = 1 << 20
threading.stack_size(STACK)
pages = int(open("/proc/self/statm").read().split()[0])
for room in range(0, 64):
    child = os.fork()
    if not child:
        signal.alarm(8)  # before _BEGIN_SECONDS are over
        limit = pages * resource.getpagesize() + STACK + (room << 12)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        code = 1
        try:
            with stillborn.stillborn_threads_are_heard():
                thread = threading.Thread(target=len, args=("",))
                thread.start()
                thread.join()
            code = 0
        except MemoryError:
            code = 4
        except RuntimeError:
            code = 5
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_however_little_memory_there_is_nobody_waits_for_ever() -> None:
    """A process may have as much memory as a stack needs, and a page more each time."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_ANY], capture_output=True, text=True, timeout=120, check=True)
    codes = [int(line) for line in done.stdout.split()]
    assert set(codes) <= {0, 4, 5}, codes
    assert 4 in codes, f"no thread was waited for in vain: {codes}"
    assert codes[-1] == 0, codes
    assert not done.stderr
