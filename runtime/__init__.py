"""Containers on commits, and the command line.

    containers   records     what is kept of a container          settings     how it is run
                 containers  made, named, found, listed, removed
                 states      compared, committed, rolled back, forked       check    whether their records are whole
                 generations one base and upper after another     commits      what a commit says
                 capture     a state, read at one moment          standstill   a container frozen, and let go on
                 openfiles   what may be written unnoticed        staging      what is read meanwhile, in memory
                 hooks       commands around a commit             autocommit   commits that nobody asks for each time
                 imagechange lines of a Dockerfile
                 upper/      what was written -> a new root       views        commits shown as directories
                                                                   ownmount     the process of a mount of its own
                 forgetting  old commits of branches, with all that stands on them
                 source      the store as its service sees it: with names of containers
    who          namespace/  an ordinary user's own namespaces
    one run      running     from the record to the process       launch       seen from the caller
                 supervisor  the process in between               state        what is on disk about it
                 duties, healthchecks   what else it does          restarts     whether it is started again
                 stdio, streams   what it prints and reads        log          what is kept of that
                 attachments who talks to the supervisor          attach       the caller's side of it
                 logs        read and followed                    keptlogs     of removed containers
                 removal     the end of a container
                 preparation the root, mounted, and the bundle, written
                 profiles    what it reads first, kept
                 overlay     the kernel's overlayfs               stubs        mount targets that a root lacks
                 spreading   containers apart on the disk
                 rootaccess  looking into a root, safely          command      whether there is such a command
                 bundle/     the OCI config.json                  seccomp      the system call filter
                 imageconfig settings and image put together      devices      the machine's, for the privileged
                 idranges    ids of a container's own             idmapping    its root, with these ids
                 identity    users and groups                     engine       crun or runc
                 terminal, console, signals, pidfds               mounts, descriptors   system calls that Python lacks
    measured     metering    what they use and have used          cgroups/     the kernel's control groups
                 traffic     over the network                     exposition   what Prometheus is told
    connected    network/    addresses, names and published ports
    people       cli/        the `treering` command

One rule: only cli prints, reads the environment or exits.
"""

__version__ = "0.1.0"
