"""Snapshots as a file system, served to the kernel.

    what it looks like
        filesystem   what a store looks like as a file system, here and only here; knows no protocol
        inodes       node numbers: which names are the same file
        listing      directories, opened, and their names counted
        references   commits and their roots
        recent       what was used last
        failures     which error is which errno
    the native driver
        wire/        the kernel's FUSE protocol: bytes <-> values, without I/O
        negotiation  what is agreed on with the kernel, and why
        session      one FUSE connection, a message at a time
        trace        a line for each message
        readahead    the next small files, given before they are asked for
        wakefulness  processors that stay awake while messages come fast
        mounting     mount(2), umount2(2), mountinfo, readahead
    the portable driver
        libfuse      fusepy over libfuse 2, for who may not mount
        paths        paths, resolved to nodes
    the process
        service      one process and one mount a store, for all commits
        control      who uses it, and when it leaves
        rundir       where service and clients meet
        client       finding the service, starting it, holding it
        detached     processes that live on, and say when they are ready

The one rule: everything here reads. Nothing in this package writes to a store, and of `vcs` it knows only the read
interface (`vcs.snapshot`), the values (`vcs.model`) and the errors; the service is told by name what opens the store.
"""
