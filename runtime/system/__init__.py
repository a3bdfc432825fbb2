"""What the kernel is asked for that Python has no call for, or none that is safe.

    mounts      the mount calls, namespaces, openat2(2)        descriptors   those of a process just forked
    rootaccess  looking into a root from outside               deletion      directories, however deep
    spreading   directories apart on the disk                  signals       as bytes in a pipe
    terminal    the user's end of a container's                console       the master side, from an engine
    streams     descriptors in one event loop              watched       a child that may wait for ever
    likeness    one process made like another                  aside         something done in a forked process
    afresh      a forked process begins anew

One rule: nothing here knows of containers.
"""
