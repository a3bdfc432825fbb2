"""What is measured. A section is a function from a Setting to tables.

imports     taking a tree in, and the same tree again: time, memory
images      a large archive of docker save, next to podman load: time, memory
sizes       what a repository takes after an import, and compressed as well as its tool can
changes     ten files, 3,000 files, a page of 1 GiB; diff, branch, rollback
history     fifty commits of a root in which packages come and go
million     a tree of a million entries
collection  gc of a thousand commits, with a commit beside it
commits     commit, diff, branch, tag, rollback through the Python API; the command's own start
questions   log, blame and grep of a long history
livecommit  commits of running containers: how long they stand still; next to podman's
overlays    containers' programs next to the same on ext4, warm and cold; the service's memory
servers     the same tree through our mount and through others'
largefile   1 GiB, read in order and at random places
sharing     one file through fifty overlays; a thousand overlays
restarts    the service's workers killed under containers at work
crowd       a thousand containers at once: started, in memory, listed, removed
verbs       `run --rm true` and short commands, next to podman's and docker's
ownpart     what the API adds to an OCI runtime
forks       a hundred containers from one that runs: made, on the disk, started, removed

container   not a section: a container that is changed and committed again and again
"""
