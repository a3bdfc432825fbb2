"""Containers on commits, and the command line.

    containers   records     what is kept of a container          settings     how it is run
                 container   one of them, and which a user means
                 containers  made, named, found, listed, removed    naming      who has which name
                 making      the directories of those that are not there yet
                 states      compared, committed, rolled back       check        whether their records are whole
                 generations one base and upper after another       commits      what a commit says
                 capturing/  a state, read at one moment
                 hooks       commands in a container around its commit
                 storehooks  executables in the store around a commit, a merge, a rollback
                 imagechange  lines of a Dockerfile
                 autocommit  commits that nobody asks for
                 forking     many from one, and one a branch        comparing    what became of them, side by side
                 upper/      what was written -> a new root       views        commits shown as directories
                                                                   ownmount     the process of a mount of its own
                 trash       what was removed, until it is deleted
    history      branches/   merged, written again, forgotten, stashed, bisected, undone
                 moves       of refs and bases, all together, also after a kill
                 pastcontainers   as they were after an operation
                 source      the store as its service sees it: with names of containers
    content      images/     what Docker, Podman and registries give and take
                 building/   Dockerfiles, each instruction a commit
                 packages/   which ones a root has, and what is theirs
                 sbom        a commit's packages, as CycloneDX
                 secrets/    warned of, or refused, in what a commit adds
                 signing/    signatures with SSH keys: made, and checked
    who          namespace/  an ordinary user's own namespaces
    one run      running     from the record to the process       starting     many at once
                 supervision/   the process in between, and what looks after quiet containers
                 state       what is on disk about it             removal      the end of a container
                 reconciling made true again, where its supervisor died
                 preparation the root, mounted, and the bundle, written
                 log         what is kept of what it prints       logs         read and followed
                                                                   keptlogs     of removed containers
                 profiles    what it reads first, kept            filters      system call filters, compiled and kept
                 overlay     the kernel's overlayfs               stubs        mount targets that a root lacks
                 lowers      what overlays stand on
                 bundle/     the OCI config.json                  seccomp      the system call filter
                 imageconfig settings and image put together      devices      the machine's, for the privileged
                 idranges    ids of a container's own             idmapping    its root, with these ids
                 identity    users and groups                     command      whether there is such a command
                 engine      crun or runc                         pidfds       the exit code of another's child
                 inheriting  what an engine leaves to us
    beside it    execution   a further command                    carriers     its standard streams
                 reaching    its first process and its root       processes    all of them, as ps tells
                 copying/    files, in and out                    pausing, waiting
    measured     metering    what they use and have used          cgroups/     the kernel's control groups
                 traffic     over the network                     exposition   what Prometheus is told
    connected    network/    addresses, names and published ports
    the machine  system/     system calls that Python lacks, terminals, processes made alike
    people       cli/        the `treering` command

One rule: only cli prints, reads the environment or exits.
"""

__version__ = "0.1.0"
