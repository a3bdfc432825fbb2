"""The tools that do the same work, Treering among them: one class each, with one small interface.

    peer      the interface, and what its words mean
    treering  ours, as its users run it: the command
    backup    restic, borg, bup, casync
    versions  git, ostree
    images    podman
    disks     btrfs on a loop file, cp
    servers   another interface, of what shows a tree through a mount: fuse-overlayfs, borg, restic, pyfuse3, fusepy

serve_pyfuse3 and serve_fusepy are programs of their own, that servers starts.

A peer that is not installed, or that cannot do something, says so; the tables have what it says.
"""
