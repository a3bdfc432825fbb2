"""Snapshots as a file system, served to the kernel.

    wire/        the kernel's FUSE protocol: bytes <-> values, without I/O
    filesystem   what a store looks like as a file system, here and only here; knows no protocol
    inodes       node numbers: which names are the same file
    listing      directories, opened
    session      the native driver: one FUSE connection, a message at a time
    mounting     mount(2), umount2(2), mountinfo, readahead
    service      the process that serves one store, and its socket
    client       finding that process, starting it, holding it

The one rule: everything here reads. Nothing in this package writes to a store, and of `vcs` it knows only the read
interface (`vcs.snapshot`), the values (`vcs.model`) and the errors; the service is told by name what opens the store.
"""
