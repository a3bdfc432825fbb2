"""Runs one command and writes what it took: `python -S launch.py DESCRIPTOR COMMAND...`.

A process of its own, because ru_maxrss of a process counts what its parent had resident when it was forked
(exec_mmap() in the kernel's fs/exec.c keeps the old high-water mark), and whoever measures has much in memory.
This one has 9 MB, and that is the least that is ever measured.
"""

import os
import sys
import time

if __name__ == "__main__":
    descriptor, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(descriptor, False)
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    code = os.waitstatus_to_exitcode(status)
    os.write(descriptor, b"%d %r %r %d" % (code, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))
