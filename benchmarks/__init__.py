"""Side-by-side measurements: the same work by Treering and by other tools, in one run, interleaved.

    __main__   the command line           corpus    the root filesystems that are worked on
    measure    clocks, caches, memory     report    the tables, as Markdown and JSON
    imports    taking a root in: time, size, memory
    commits    commit, diff, branch, tag, rollback; the command's own start
    mounts     containers' reads: overlay over our FUSE mount against overlay over ext4; the service's memory

A section is a function from a Setting to Rows; a peer in a section is a value. Adding either touches one module.

Rules: medians of rounds in which every peer takes its turn; nothing is deleted before the end of the run, since ext4
creates files several times slower for minutes after a large removal; a peer that is not installed is named as absent.
"""
