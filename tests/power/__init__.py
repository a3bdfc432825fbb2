"""Power cuts, at the level of blocks: what a disk may hold of a store after one, and whether the store is whole then.

    disks      loop devices, and the file systems on them
    recorder   a disk that logs each write and each flush, in their order (QEMU's blklogwrites)
    log        such a log, read
    crashes    which states a disk may be in after a power cut, chosen by chance, and made
    operations the commands, with those of tests/torture
    trials     an operation recorded, then each state of the disk mounted and looked at
    broken     variants of the program with a fault, to see that it is noticed

A disk keeps what it was given before the last flush, and of what came later any part. So a state is: all writes before
the last flush ahead of the cut, and about half of those between that flush and the cut, some of them torn.

The operations, and how a store is told by its contents, are those of tests/torture. `python -m tests.power --help` says
how to run it; docs/power-cuts.md what it shows. It needs root, loop devices and qemu-storage-daemon.
"""
