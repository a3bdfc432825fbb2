"""The kernel's FUSE protocol (linux/fuse.h): bytes <-> values. No files, no threads, no clocks.

    protocol   numbers: operations, INIT flags, sizes
    requests   what the kernel sends, parsed
    replies    what it is answered, encoded

The one rule: nothing here does I/O or knows what a file system is.
"""
