"""A thread that cannot begin: the process that waits for it ends."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
from vcs.stillborn import ended_by_stillborn_threads

class Stillborn(threading.Thread):
    def _bootstrap(self):
        raise MemoryError  # as where there is no memory for its first frame

class Loud:
    def __del__(self):
        raise MemoryError

def say():
    sys.stderr.write("no memory")
    return 5

with ended_by_stillborn_threads(say):
    Loud()
    thread = threading.Thread(target=print, args=("one that begins",))
    thread.start()
    thread.join()
    sys.stdout.flush()
    Stillborn().start()
"""


def test_the_process_ends() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5
    assert done.stdout == "one that begins\n"
    assert done.stderr.endswith("no memory")
    assert "Loud" in done.stderr  # what else is ignored is told as ever
