"""A program for containers that uses a known amount of processor time, and says how much the kernel says it was.

burn SECONDS CHILDREN    itself and each child use so much; then prints what getrusage(2) told of all, and waits
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void burn(double seconds) {
    double start = now();
    while (now() - start < seconds);
}

static double used(int who) {
    struct rusage usage;
    getrusage(who, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int count, char **words) {
    double before = used(RUSAGE_SELF);
    double seconds = atof(words[1]);
    for (int left = atoi(words[2]); left; left--)
        if (fork() == 0) {
            burn(seconds);
            _exit(0);
        }
    while (wait(NULL) > 0);
    burn(seconds);
    printf("%f\n", used(RUSAGE_SELF) + used(RUSAGE_CHILDREN) - before);
    fflush(stdout);
    if (count > 3) pause();
    return 0;
}
"""


def compile_burner(path: Path) -> None:
    """Put the program at a path."""
    subprocess.run(["gcc", "-O1", "-static", "-x", "c", "-", "-o", str(path)], input=_SOURCE.encode(), check=True,
                   timeout=120)  # fmt: skip
