"""Snapshots as a file system, served to the kernel.

    what it looks like
        filesystem   the files of roots, here and only here; knows no protocol
        view         what is above the roots, here and only here
        facts        what the files below `.treering` say
        moments      times as names
        numbers      node numbers: which names are the same file
        journal      what numbers mean, written down for all workers
        inodes       the nodes that one worker has in memory
        listing      directories, opened, and their names counted
        references   what names lead to: commits and their roots
        recent       what was used last
        rights       whether this is the machine's root, or that of a user namespace
        failures     which error is which errno
    the native driver
        wire/        the kernel's FUSE protocol: bytes <-> values, without I/O
        negotiation  what is agreed on with the kernel, and why
        session      one FUSE connection, a message at a time
        dirents      what a listing is answered
        walks        the next listing, made while the kernel is at work on the last one
        memory       the requests in hand, where a worker's death does not reach them
        trace        a line for each message
        readahead    the next small files, given before they are asked for
        scattered    reads here and there, answered from plain copies; and when one pays
        datalayer    programs, which overlays read as plain files; and when one gets a plain copy
        starts       what containers read first: noted, and read from a profile the next time
        sweep        what is in a profile, read in order, a little ahead
        lookout      the next message, looked for before the loop sleeps
        wakefulness  processors that stay awake while messages come fast
        mounting     mount(2), umount2(2), mountinfo, readahead
    the portable driver
        libfuse      fusepy over libfuse 2, for who may not mount
        paths        paths, resolved to nodes
    the processes
        service      the holder: one mount a store, for all commits
        workers      the holder's workers: started, watched, replaced
        process      one worker's process
        crashes      requests that workers die of
        worker       the process that answers the kernel
        orphans      workers without a holder, who look after one another
        control      who uses it, and when it leaves
        listener     who is let in to ask
        unmounting   the end of the mount, in a thread
        startings    starts of containers: clients tell of them, workers follow them
        datadir      where overlays find plain files, and which of them may go
        known        which roots the kernel may still read from
        rundir       where service and clients meet
        client       finding the service, starting it, holding it
        detached     processes that live on, and say when they are ready

The one rule: everything here reads. Nothing in this package writes to a store, and of `vcs` it knows only the read
interface (`vcs.snapshot`), the values (`vcs.model`), the errors and the caches of readers (`vcs.profiles`, `vcs.plain`,
`vcs.plainwriter`, which write them); the service is told by name what opens the store.
"""
