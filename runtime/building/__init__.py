"""Dockerfiles built: each instruction a commit, and the history itself the cache.

    parser        a Dockerfile's text -> instructions, with their lines
    variables     quotes taken off, variables put in          patterns      as Go writes them
    mountoptions  RUN --mount                                 dockerignore  what of the context is left out
    steps         what is to be done: values
    stages        instructions -> the stages that a target needs, all of it checked before anything is done
    evaluation    one of them, instruction by instruction
    bases         what FROM names -> a commit
    contents      the context, and archives                   copying       COPY, ADD and WORKDIR on roots
    executing     one RUN in a container, and its end         cachemounts   directories that RUNs share
    private       secrets and scripts, in memory
    cache         what was made before, found by its key
    builders      whose a RUN's container is
    build         the steps carried out                       finishing     their end signed, judged by hooks, and named

One rule: whatever is not supported is refused by name and line before anything runs, and nothing is passed over.
"""
