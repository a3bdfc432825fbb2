"""A container's writable root, compared with file systems that are not ours.

    step      what can be done, and how it is chosen by chance          hand     doing it, in a process that is in there
    look      all that can be asked of a tree, to be compared           sides    container, overlay and plain directory
    rounds    steps, comparisons and commits of a seed; fewer steps     broken   variants that read an upper wrongly
    suites    stress-ng, fio, git, sqlite and PostgreSQL in both

`python -m tests.posix --help` and `python -m tests.posix.suites --help` say how to run them for long.
"""
