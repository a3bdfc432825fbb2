"""Containers on commits, and the command line.

    containers   records     what is kept of a container          settings     how it is run
                 container   one of them, and which a user means
                 containers  made, named, found, listed, removed    naming      who has which name
                 making      the directories of those that are not there yet
                 states      compared, committed, rolled back       check        whether their records are whole
                 generations one base and upper after another       commits      what a commit says
                 capture     a state, read at one moment            standstill   a container frozen, and let go on
                 openfiles   what may be written unnoticed          staging      what is read meanwhile, in memory
                 hooks       commands in a container around its commit
                 storehooks  executables in the store around a commit, a merge, a rollback
                 imagechange  lines of a Dockerfile
                 autocommit  commits that nobody asks for           afresh       a forked process begins anew
                 forking     many from one, and one a branch        comparing    what became of them, side by side
                 images/     what Docker, Podman and registries give and take
                 building/   Dockerfiles, each instruction a commit
                 packages/   which ones a root has, and what is theirs
                 secrets/    warned of, or refused, in what a commit adds
                 signing/    signatures with SSH keys: made, and checked
                 sbom        a commit's packages, as CycloneDX
                 upper/      what was written -> a new root       views        commits shown as directories
                                                                   ownmount     the process of a mount of its own
                 forgetting  old commits of branches, with all that stands on them
                 moves       of refs and bases, all together, also after a kill
                 undoing     what a command did, taken back    pastcontainers   as they were after an operation
                 merging     branches brought together: merge, revert, cherry-pick
                 rewriting/  commits of a branch written again: rebase, squash
                 stashes     changes of containers put aside, and brought back
                 resolving   merges that wait in a container, for conflicts to be settled
                 bisecting   a command says which commits are good, in a container on each
                 source      the store as its service sees it: with names of containers
    who          namespace/  an ordinary user's own namespaces
    one run      running     from the record to the process       launch       seen from the caller
                 starting    many at once
                 supervisor  the process in between               state        what is on disk about it
                 duties, healthchecks   what else it does          restarts     whether it is started again
                 stdio, streams   what it prints and reads        log          what is kept of that
                 reception, attachments   who talks to it         attach       the caller's side of it
                 job         what it is to do                     settingup    up to the first instruction
                 monitor     what looks after quiet ones          sleeping     what it is left with
                 likeness    one process made like another        rebuilding   errors, from process to process
                 afresh      a forked process begins anew
                 joined      its place in a network
                 logs        read and followed                    keptlogs     of removed containers
                 removal     the end of a container
                 preparation the root, mounted, and the bundle, written
                 profiles    what it reads first, kept            filters      system call filters, compiled and kept
                 hastening   a wait in the kernel, begun early
                 overlay     the kernel's overlayfs               stubs        mount targets that a root lacks
                 spreading   containers apart on the disk            trash       what was removed, until it is deleted
                 deletion    of directories, however deep
                 rootaccess  looking into a root, safely          command      whether there is such a command
                 bundle/     the OCI config.json                  seccomp      the system call filter
                 imageconfig settings and image put together      devices      the machine's, for the privileged
                 idranges    ids of a container's own             idmapping    its root, with these ids
                 identity    users and groups                     engine       crun or runc
                 inheriting  what an engine leaves to us
                 terminal, console, signals, pidfds               mounts, descriptors   system calls that Python lacks
    beside it    execution   a further command                    carriers     its standard streams
                 reaching    its first process and its root       processes    all of them, as ps tells
                 copying/    files, in and out                    pausing, waiting
    measured     metering    what they use and have used          cgroups/     the kernel's control groups
                 traffic     over the network                     exposition   what Prometheus is told
    connected    network/    addresses, names and published ports
    people       cli/        the `treering` command

One rule: only cli prints, reads the environment or exits.
"""

__version__ = "0.1.0"
